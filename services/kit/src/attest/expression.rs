//! What a policy's expression says by its form: which of its parts alone would bound rows to a tenant.
//!
//! A conjunction is bounded by any part, a disjunction only by all; the parts that are left are decided by evaluating
//! them over rows of several tenants. That decides a part only if the tenant is all that it depends on, so a part that
//! names anything else (a column, a function, a subquery, a setting) is refused by the word.
//! Invariant: an expression that is not understood bounds nothing.

use std::collections::HashMap;

use uuid::Uuid;

/// How the catalog prints what a bounding expression may speak of.
#[derive(Debug)]
pub(super) struct Words {
    /// The tenant column, quoted as needed.
    pub(super) column: String,
    /// The call of the context function.
    pub(super) context: String,
    /// The setting that the function reads.
    pub(super) setting: String,
}

/// The form of an expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tree<'a> {
    /// True if all parts are.
    All(Vec<Tree<'a>>),
    /// True if one part is.
    Any(Vec<Tree<'a>>),
    /// A part that is decided as a whole.
    Leaf(&'a str),
}

impl<'a> Tree<'a> {
    /// Reads what `pg_get_expr` prints, which puts parentheses around every AND and OR.
    pub(super) fn parse(text: &'a str) -> Self {
        let text = unwrapped(text.trim());
        let parts = |operator| split(text, operator);
        match (parts(" AND "), parts(" OR ")) {
            (all, any) if all.len() > 1 && any.len() == 1 => {
                Self::All(all.into_iter().map(Self::parse).collect())
            }
            (all, any) if any.len() > 1 && all.len() == 1 => {
                Self::Any(any.into_iter().map(Self::parse).collect())
            }
            _ => Self::Leaf(text),
        }
    }

    /// The parts that are decided as a whole.
    pub(super) fn leaves(&self) -> Vec<&'a str> {
        match self {
            Self::Leaf(text) => vec![text],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::leaves).collect(),
        }
    }

    /// Whether the whole bounds rows, by what is known of its leaves; else the reason of the part that decides.
    pub(super) fn bounded(&self, flaws: &HashMap<&str, Option<String>>) -> Result<(), String> {
        match self {
            Self::Leaf(text) => match flaws.get(text) {
                Some(None) => Ok(()),
                Some(Some(flaw)) => Err(flaw.clone()),
                None => Err("was not evaluated".to_owned()),
            },
            Self::All(parts) => {
                let mut flaw = Err(String::new());
                for part in parts.iter().rev() {
                    flaw = part.bounded(flaws);
                    if flaw.is_ok() {
                        break;
                    }
                }
                flaw
            }
            Self::Any(parts) => parts.iter().try_for_each(|part| part.bounded(flaws)),
        }
    }
}

/// The tenants that a leaf names by their ids, if it depends on nothing but the tenant; else the word that it should
/// not know.
pub(super) fn named_tenants<'a>(leaf: &'a str, words: &Words) -> Result<Vec<Uuid>, &'a str> {
    const KNOWN: [&str; 25] = [
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        "<>",
        "::uuid",
        "and",
        "or",
        "not",
        "is",
        "null",
        "true",
        "false",
        "nullif",
        "coalesce",
        "any",
        "all",
        "array",
        "in",
        "distinct",
        "from",
        "::boolean",
        "::text",
    ];
    let mut tenants = Vec::new();
    let mut rest = leaf;
    let mut after_text = false;
    let setting = [
        format!("current_setting('{}'::text, true)", words.setting),
        format!("current_setting('{}'::text)", words.setting),
    ];
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(tenants);
        }
        // Whole phrases first: nothing else may be made of their parts.
        if let Some(after) = setting
            .iter()
            .find_map(|phrase| rest.strip_prefix(phrase.as_str()))
        {
            (rest, after_text) = (after, true);
            continue;
        }
        if let Some(after) = rest.strip_prefix(words.context.as_str()) {
            (rest, after_text) = (after, false);
            continue;
        }
        let (token, after) = rest.split_at(token_end(rest));
        rest = after;
        if let Some(text) = token
            .strip_prefix('\'')
            .and_then(|text| text.strip_suffix('\''))
        {
            if let Ok(tenant) = text.parse() {
                tenants.push(tenant);
            } else if !text.is_empty() {
                return Err(token);
            }
            after_text = true;
            continue;
        }
        let known = KNOWN.contains(&token.to_ascii_lowercase().as_str());
        // A tenant compared as text is compared row by row, without an index.
        if token != words.column && (!known || token == "::text" && !after_text) {
            return Err(token);
        }
        after_text = token.eq_ignore_ascii_case("null");
    }
}

/// Where the first token ends: a quoted text or name, a cast, a word, or a sign.
fn token_end(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '"');
    if let Some(quoted) = text.strip_prefix('\'') {
        return quote_end(quoted, '\'') + 1;
    }
    if let Some(cast) = text.strip_prefix("::") {
        return 2 + word_end(cast);
    }
    match text.chars().next() {
        Some(first) if is_word(first) => word_end(text),
        Some('<') if text.starts_with("<>") => 2,
        Some(first) => first.len_utf8(),
        None => 0,
    }
}

/// Where a name ends that may be quoted and qualified.
fn word_end(text: &str) -> usize {
    let mut end = 0;
    while let Some(rest) = text.get(end..) {
        match rest.chars().next() {
            Some('"') => end += 1 + quote_end(rest.get(1..).unwrap_or_default(), '"'),
            Some(c) if c.is_alphanumeric() || matches!(c, '_' | '$' | '.') => end += c.len_utf8(),
            _ => break,
        }
    }
    end
}

/// Behind the quote that closes a text whose opening quote is already read; a doubled quote is one of the text.
fn quote_end(text: &str, quote: char) -> usize {
    let mut signs = text.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        if sign == quote {
            if signs.peek().is_some_and(|(_, next)| *next == quote) {
                signs.next();
            } else {
                return at + quote.len_utf8();
            }
        }
    }
    text.len()
}

/// The text without parentheses around the whole of it.
fn unwrapped(text: &str) -> &str {
    let inner = text
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'));
    match inner {
        // They belong together if the depth never falls below theirs in between.
        Some(inner) if depths(inner).all(|(_, depth)| depth >= 0) => unwrapped(inner.trim()),
        _ => text,
    }
}

/// The text cut at an operator that stands outside of parentheses and quotes.
fn split<'a>(text: &'a str, operator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, depth) in depths(text) {
        if depth == 0
            && at >= from
            && text
                .get(at..)
                .is_some_and(|rest| rest.starts_with(operator))
        {
            parts.extend(text.get(from..at));
            from = at + operator.len();
        }
    }
    parts.extend(text.get(from..));
    parts
}

/// Each sign outside of quotes with how many parentheses are open behind it.
fn depths(text: &str) -> impl Iterator<Item = (usize, i32)> {
    let mut depth = 0;
    let mut quoted_until = 0;
    text.char_indices().filter_map(move |(at, sign)| {
        if at < quoted_until {
            return None;
        }
        match sign {
            '\'' | '"' => quoted_until = at + 1 + quote_end(text.get(at + 1..)?, sign),
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        Some((at, depth))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            column: "tenant_id".to_owned(),
            context: "app.tenant()".to_owned(),
            setting: "app.tenant".to_owned(),
        }
    }

    #[test]
    fn and_and_or_are_found_outside_of_parentheses_and_quotes() {
        use Tree::{All, Any, Leaf};
        assert_eq!(Tree::parse("(a = b)"), Leaf("a = b"));
        assert_eq!(
            Tree::parse("((a = b) AND (c OR (NOT d)))"),
            All(vec![Leaf("a = b"), Any(vec![Leaf("c"), Leaf("NOT d")])])
        );
        assert_eq!(
            Tree::parse("((a = ' OR ('::text) OR \"x AND y\")"),
            Any(vec![Leaf("a = ' OR ('::text"), Leaf("\"x AND y\"")])
        );
        assert_eq!(
            Tree::parse("(a) = (b)"),
            Leaf("(a) = (b)"),
            "two pairs are not one"
        );
        assert_eq!(Tree::parse("f(a AND b)"), Leaf("f(a AND b)"));
    }

    #[test]
    fn a_conjunction_is_bounded_by_one_part_and_a_disjunction_by_all() {
        let flaws = HashMap::from([("t = x", None), ("open", Some("shows all".to_owned()))]);
        let bounded = |text| Tree::parse(text).bounded(&flaws);
        assert_eq!(bounded("((t = x) AND open)"), Ok(()));
        assert_eq!(bounded("((t = x) OR open)"), Err("shows all".to_owned()));
        assert_eq!(bounded("((t = x) OR ((t = x) AND open))"), Ok(()));
        assert!(bounded("unheard").is_err());
    }

    #[test]
    fn a_part_that_depends_on_more_than_the_tenant_is_refused_by_the_word() {
        for (leaf, word) in [
            ("app.tenant() = tenant_id", None),
            ("(tenant_id)::uuid = app.tenant()", None),
            (
                "tenant_id = (NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid",
                None,
            ),
            (
                "tenant_id = ANY (ARRAY[app.tenant(), '00000000-0000-7000-8000-000000000001'::uuid])",
                None,
            ),
            ("(tenant_id)::text = (app.tenant())::text", Some("::text")),
            (
                "tenant_id = ( SELECT app.tenant() AS tenant)",
                Some("SELECT"),
            ),
            (
                "current_setting('app.admin'::text, true) = 'on'::text",
                Some("current_setting"),
            ),
            ("CURRENT_USER = 'boss'::name", Some("CURRENT_USER")),
            ("app.tenant_of(id) = tenant_id", Some("app.tenant_of")),
            ("tenant_id OPERATOR(evil.=) app.tenant()", Some("OPERATOR")),
            ("closed", Some("closed")),
            ("\"tenant_id \" = app.tenant()", Some("\"tenant_id \"")),
        ] {
            assert_eq!(named_tenants(leaf, &words()).err(), word, "{leaf}");
        }
    }

    #[test]
    fn tenants_that_a_part_names_are_tried_as_well() {
        let shared = "00000000-0000-7000-8000-000000000001";
        let leaf = format!("tenant_id = '{shared}'::uuid");
        assert_eq!(
            named_tenants(&leaf, &words()),
            Ok(vec![shared.parse().unwrap()])
        );
    }
}
