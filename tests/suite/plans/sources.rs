//! The statements that the services ship, as their sources hold them.
//!
//! Invariant: a text of SQL is found however it becomes a statement: as it stands, joined by a macro, formatted with the
//! name of a schema, or pushed piece by piece onto a query. What is executed and not found here is told as well.

use std::path::Path;

use crate::tidy::rules::is;

/// Statements that no caller and no event leads to, by where they stand, each with the reason why none is measured.
const APART: &[(&str, &str)] = &[
    (
        "services/kit/src/attest",
        "catalogs, read at the start and by the doctor",
    ),
    (
        "services/kit/src/migrate.rs",
        "roles, schemas and migrations, as administrator and owner",
    ),
    (
        "services/catalyst/src/",
        "the doctor's look at a database, and the embedded server's own set-up",
    ),
];

/// A piece of a statement, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Path from the top of the tree, and line.
    pub(super) place: String,
    /// With single spaces; what is filled in when it is formatted stands in braces.
    pub(super) text: String,
}

impl Piece {
    /// Whether a statement holds this piece.
    pub(super) fn is_in(&self, sql: &str) -> bool {
        let mut rest = sql;
        for part in fixed_parts(&self.text) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }

    /// Whether a statement begins with this piece.
    pub(super) fn begins(&self, sql: &str) -> bool {
        let first = fixed_parts(&self.text).next().unwrap_or_default();
        self.is_in(sql) && (sql.starts_with(first) || self.text.starts_with('{'))
    }
}

/// What stands between the braces of a format.
fn fixed_parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(['{', '}'])
        .step_by(2)
        .filter(|part| !part.is_empty())
}

/// All pieces of the tree.
pub(super) fn pieces(tree: &Path) -> Vec<Piece> {
    let mut files = Vec::new();
    collect(tree, "services", &mut files);
    files.sort();
    let mut pieces = Vec::new();
    for path in files {
        if APART.iter().any(|(apart, _)| path.starts_with(apart)) {
            continue;
        }
        let text = std::fs::read_to_string(tree.join(&path)).expect("a source is text");
        if is(&path, "rs") && text.contains("sqlx") {
            pieces.extend(of_rust(&path, &text));
        } else if is(&path, "sql") {
            pieces.extend(of_functions(&path, &text));
        }
    }
    pieces
}

fn collect(tree: &Path, folder: &str, files: &mut Vec<String>) {
    for entry in tree.join(folder).read_dir().expect("a folder") {
        let entry = entry.expect("an entry");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type").is_dir() {
            collect(tree, &path, files);
        } else {
            files.push(path);
        }
    }
}

/// The literals of a file that are SQL: those that begin with a verb, take a parameter, or are pushed onto a query.
pub(super) fn of_rust(path: &str, text: &str) -> Vec<Piece> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut pieces = Vec::new();
    for (start, literal) in literals(code) {
        let text = spaced(&literal);
        let is_pushed = code[..start].trim_end().ends_with(".push(");
        let has_words = text.chars().any(char::is_alphabetic);
        if is_statement(&text) || takes_parameter(&text) || (is_pushed && has_words) {
            let line = code[..start].lines().count();
            pieces.push(Piece {
                place: format!("{path}:{line}"),
                text,
            });
        }
    }
    pieces
}

fn is_statement(text: &str) -> bool {
    let verb = text.split([' ', '(']).next().unwrap_or_default();
    [
        "select",
        "insert",
        "update",
        "delete",
        "with",
        "{tenants}",
        "{tenants},",
    ]
    .contains(&verb)
}

fn takes_parameter(text: &str) -> bool {
    let mut after = text.split('$').skip(1);
    after.any(|it| it.starts_with(|c: char| c.is_ascii_digit()))
}

/// The statements in the bodies of functions that a migration makes. A function of a single expression is inlined.
pub(super) fn of_functions(path: &str, text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (start, _) in text.match_indices("create function ") {
        let declaration = &text[start..];
        let declaration = declaration.split("\n\n").next().unwrap_or_default();
        let Some((_, body)) = declaration.split_once("as $$") else {
            continue;
        };
        let body = body.split("$$").next().unwrap_or_default();
        let line = text[..start].lines().count() + 1;
        for statement in body.split(';') {
            let statement = spaced(statement);
            let verbs = [
                "return query select ",
                "perform ",
                "insert into ",
                "update ",
                "delete from ",
            ];
            let first = verbs.iter().filter_map(|verb| statement.find(verb)).min();
            if let Some(at) = first {
                // As PL/pgSQL executes them.
                let text = statement[at..]
                    .trim_start_matches("return query ")
                    .replace("perform ", "SELECT ");
                pieces.push(Piece {
                    place: format!("{path}:{line}"),
                    text,
                });
            }
        }
    }
    pieces
}

/// With single spaces, as statements are compared.
pub(super) fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Each string literal of a source with where it begins, as the compiler reads it; without those of comments and
/// attributes.
fn literals(code: &str) -> Vec<(usize, String)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &code[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("#[") || rest.starts_with("#![") {
            at += attribute(rest);
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            at += rest[1..].find('\'').map_or(1, |end| end + 2).max(3);
        } else if rest.starts_with('"') {
            let (text, length) = literal(rest);
            found.push((at, text));
            at += length;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// The length of an attribute, with the literals in it.
fn attribute(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        match here.as_bytes().first() {
            Some(b'[') => depth += 1,
            Some(b']') if depth == 1 => return at + 1,
            Some(b']') => depth -= 1,
            Some(b'"') => {
                at += literal(here).1;
                continue;
            }
            _ => {}
        }
        at += here.chars().next().map_or(1, char::len_utf8);
    }
    at
}

/// The text of the literal that begins here, and its length in the source.
fn literal(rest: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                Some((_, '\n')) => {
                    while chars.peek().is_some_and(|(_, c)| c.is_whitespace()) {
                        chars.next();
                    }
                }
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            c => text.push(c),
        }
    }
    (text, rest.len())
}
