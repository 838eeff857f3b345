//! The rules of the tree as functions: they take what they judge, read no file, and return findings for people.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::DescriptorPool;

const LONGEST_FILE: usize = 500;
/// Crates that a pure file may not know.
const IMPURE: &[&str] = &["async_nats", "reqwest", "sqlx", "tokio", "tonic"];
/// Names under which anything could be put.
const MEANINGLESS: &[&str] = &[
    "base", "common", "data", "helper", "helpers", "impl", "info", "manager", "process", "util",
    "utils",
];
const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// A member of the workspace and the names of all crates that its manifest asks for.
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) dependencies: Vec<String>,
}

/// A file of the repository, its path counted from the top.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

/// Whether a path has an extension.
pub(crate) fn is(path: &str, extension: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, found)| found == extension)
}

/// The crates of the services, in the order of their names.
pub(super) fn services(crates: &[Crate]) -> Vec<String> {
    let others = ["catalyst-kit", "catalyst-proto", "catalyst-tests"];
    let mut services: Vec<_> = crates
        .iter()
        .map(|member| member.name.clone())
        .filter(|name| name.starts_with("catalyst-") && !others.contains(&name.as_str()))
        .collect();
    services.sort();
    services
}

/// Only the binary and the tests know everything; proto knows nothing, kit proto, a service both.
pub(super) fn forbidden_dependencies(crates: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    for member in crates {
        let allowed: &[&str] = match member.name.as_str() {
            "catalyst" | "catalyst-tests" => continue,
            "catalyst-proto" => &[],
            "catalyst-kit" => &["catalyst-proto"],
            _ => &["catalyst-proto", "catalyst-kit"],
        };
        for on in &member.dependencies {
            if on.starts_with("catalyst") && !allowed.contains(&on.as_str()) {
                findings.push(format!("{} may not depend on {on}", member.name));
            }
        }
    }
    findings
}

/// Dependencies whose version or lints a manifest decides by itself.
pub(super) fn own_versions(manifest: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let mut section = "";
    for line in manifest.text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.contains('=')
            && !line.contains("workspace = true")
        {
            findings.push(format!("{}: {line}", manifest.path));
        }
    }
    // Nearly all of the contract's crate is generated, by generators that know no lints.
    let generated = manifest.path == "proto/Cargo.toml";
    if !generated && !manifest.text.contains("[lints]\nworkspace = true") {
        findings.push(format!("{}: no lints of the workspace", manifest.path));
    }
    findings
}

/// Where a product would be built with the moments at which the fault suite stops a task: manifests that turn them on,
/// and builds of an image that would take in what the tests turn on.
pub(super) fn failpoints(files: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let words: &[&str] = match file.path.as_str() {
            "tests/Cargo.toml" => continue,
            "deploy/Dockerfile" => &["--workspace", "--all-features", "failpoints"],
            path if is(path, "toml") => &["failpoints\""],
            _ => continue,
        };
        let lines = file.text.lines();
        let found = lines.filter(|line| words.iter().any(|word| line.contains(word)));
        findings.extend(found.map(|line| format!("{}: {}", file.path, line.trim())));
    }
    findings
}

/// Sources in a lock file other than the public registry.
pub(super) fn foreign_origins(lock: &str) -> Vec<String> {
    lock.lines()
        .filter(|line| line.starts_with("source = ") && *line != REGISTRY)
        .map(str::to_owned)
        .collect()
}

/// Lines of code that name a crate of the database, the wire or the runtime.
pub(super) fn impurities(source: &Source) -> Vec<String> {
    let lines = source
        .text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines
        .filter(|line| words(line).any(|word| IMPURE.contains(&word)))
        .map(|line| format!("{}: {}", source.path, line.trim()))
        .collect()
}

pub(super) fn too_long(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| {
            ["rs", "sql", "proto"]
                .iter()
                .any(|kind| is(&source.path, kind))
        })
        .map(|source| (&source.path, source.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect()
}

/// Rust files that do not begin with a sentence on what they are for.
pub(super) fn headless(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| is(&source.path, "rs"))
        .filter(|source| {
            let sentence = source
                .text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("//! "));
            sentence.is_none_or(|sentence| sentence.split(' ').count() < 3)
        })
        .map(|source| format!("{}: does not begin with `//!` and a sentence", source.path))
        .collect()
}

/// Migrations that are not `NNNN_what.sql`, counted up from 1 in the kit and from 100 in a service.
pub(super) fn misnumbered(sources: &[Source]) -> Vec<String> {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (folder, name) in migrations(sources) {
        folders.entry(folder).or_default().insert(name);
    }
    let mut findings = Vec::new();
    for (folder, names) in folders {
        let first = if folder == "services/kit/migrations" {
            1
        } else {
            100
        };
        for (number, name) in (first..).zip(names) {
            let what = name.strip_prefix(&format!("{number:04}_"));
            let what = what.and_then(|what| what.strip_suffix(".sql"));
            let plain = |what: &str| what.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !what.is_some_and(plain) {
                findings.push(format!("{folder}/{name}: expected {number:04}_what.sql"));
            }
        }
    }
    findings
}

/// Migrations that no code of their crate takes in, so that they would never be applied.
pub(super) fn unapplied(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for (folder, name) in migrations(sources) {
        let code = folder.replace("/migrations", "/src/");
        let path = format!("migrations/{name}\"");
        if !sources
            .iter()
            .any(|it| it.path.starts_with(&code) && it.text.contains(&path))
        {
            findings.push(format!("{folder}/{name}: is never applied"));
        }
    }
    findings
}

/// Statements with words in capitals, outside of comments and quotes.
pub(super) fn shouted_sql(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| is(&source.path, "sql")) {
        for line in source.text.lines() {
            let code = line.split("--").next().unwrap_or_default();
            let unquoted: String = code.split('\'').step_by(2).collect();
            let shouted =
                |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
            if words(&unquoted).any(shouted) {
                findings.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    findings
}

/// Files and folders named after nothing in particular.
pub(super) fn meaningless_names(sources: &[Source]) -> Vec<String> {
    let paths = sources.iter().map(|source| source.path.as_str());
    paths
        .filter(|path| {
            let path = path.strip_prefix("proto/catalyst/common/").unwrap_or(path);
            path.split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| MEANINGLESS.contains(&word))
        })
        .map(|path| format!("{path}: has a name that says nothing"))
        .collect()
}

/// What a finished change does not hold: skipped tests, tests that wait for a time, notes to oneself.
pub(super) fn unfinished(sources: &[Source]) -> Vec<String> {
    let everywhere = [
        concat!("#[ig", "nore"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let in_tests = [concat!("time::sl", "eep("), concat!("thread::sl", "eep(")];
    let mut findings = Vec::new();
    for source in sources {
        let suite = source.path.starts_with("tests/suite/");
        let forbidden = everywhere.iter().chain(in_tests.iter().filter(|_| suite));
        for text in forbidden.filter(|text| source.text.contains(*text)) {
            findings.push(format!("{}: {text}", source.path));
        }
    }
    findings
}

/// The names that callers and subscribers match on: events, and reasons of errors as they are on the wire.
pub(super) fn published(contract: &DescriptorPool) -> Vec<String> {
    let fields = contract
        .all_messages()
        .flat_map(|it| it.fields().collect::<Vec<_>>());
    let parts: BTreeSet<_> = fields
        .filter_map(|field| Some(field.kind().as_message()?.full_name().to_owned()))
        .collect();
    // A message of an events file that is a field of another is a part of events, not one.
    let mut names: Vec<_> = contract
        .all_messages()
        .filter(|message| message.parent_file().name().ends_with("events.proto"))
        .filter(|message| !parts.contains(message.full_name()))
        .map(|message| message.name().to_owned())
        .collect();
    if let Some(reasons) = contract.get_enum_by_name("catalyst.common.v1.ErrorReason") {
        let values = reasons.values().filter(|value| value.number() != 0);
        names.extend(values.map(|value| value.name().replace("ERROR_REASON_", "")));
    }
    names
}

/// Names that a text does not hold as whole words.
pub(super) fn unnamed(text: &str, names: &[String]) -> Vec<String> {
    let known: BTreeSet<_> = words(text).collect();
    let missing = names.iter().filter(|name| !known.contains(name.as_str()));
    missing
        .map(|name| format!("proto/README.md does not name {name}"))
        .collect()
}

/// Each method of our own services with the names of its request and response.
pub(super) fn methods(contract: &DescriptorPool) -> Vec<[String; 3]> {
    let own = contract
        .services()
        .filter(|it| it.package_name().starts_with("catalyst."));
    own.flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| {
            [method.name(), method.input().name(), method.output().name()].map(str::to_owned)
        })
        .collect()
}

pub(super) fn unpaired(methods: &[[String; 3]]) -> Vec<String> {
    methods
        .iter()
        .filter(|[method, input, output]| {
            *input != format!("{method}Request") || *output != format!("{method}Response")
        })
        .map(|[method, input, output]| format!("{method} takes {input} and returns {output}"))
        .collect()
}

/// Files of operations that are not named as a method of the contract.
pub(super) fn misnamed_operations(sources: &[Source], methods: &[[String; 3]]) -> Vec<String> {
    let known: BTreeSet<_> = methods
        .iter()
        .map(|[method, ..]| snake_case(method))
        .collect();
    let paths = sources.iter().map(|source| source.path.as_str());
    paths
        .filter_map(|path| {
            Some((
                path,
                path.split_once("/src/operations/")?.1.strip_suffix(".rs")?,
            ))
        })
        .filter(|(_, name)| *name != "mod" && !known.contains(*name))
        .map(|(path, _)| format!("{path}: no method has this name"))
        .collect()
}

fn snake_case(method: &str) -> String {
    let mut name = String::new();
    for letter in method.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Folder and name of each migration.
fn migrations(sources: &[Source]) -> impl Iterator<Item = (&str, &str)> {
    let paths = sources
        .iter()
        .filter_map(|source| source.path.rsplit_once('/'));
    paths.filter(|(folder, _)| folder.ends_with("/migrations"))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}
