//! The architecture's invariants, held against the tree itself: what may know what, and how things are named.
//! Each rule is a function over its input and is shown a planted fault as well, so that it cannot pass by looking away.

mod mutants;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use prost_reflect::DescriptorPool;
use serde_json::Value;

use rules::{Crate, Source};

/// The files of each service that decide and do nothing else: no database, no wire, no waiting.
const PURE: &[(&str, &[&str])] = &[
    (
        "audit",
        &[
            "alert.rs",
            "attempt.rs",
            "chain.rs",
            "checkpoint.rs",
            "export.rs",
            "flood.rs",
            "happening.rs",
            "permissions.rs",
            "record.rs",
            "rules.rs",
            "rules/file.rs",
            "rules/names.rs",
            "rules/reader.rs",
            "summary.rs",
            "trail.rs",
        ],
    ),
    ("consultants", &["consultant.rs", "permissions.rs"]),
    (
        "projects",
        &[
            "assignment.rs",
            "client.rs",
            "consultant.rs",
            "permissions.rs",
            "project.rs",
        ],
    ),
    ("tenants", &["permissions.rs", "tenant.rs"]),
    (
        "time-entries",
        &[
            "change.rs",
            "import.rs",
            "permissions.rs",
            "reference.rs",
            "span.rs",
            "summary.rs",
            "time_entry.rs",
        ],
    ),
];

#[test]
fn the_top_of_the_tree_shows_what_the_readme_explains() -> anyhow::Result<()> {
    let mut visible = Vec::new();
    for entry in repository().read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "target" {
            visible.push(name);
        }
    }
    visible.sort();
    assert_eq!(
        visible,
        [
            "Cargo.lock",
            "Cargo.toml",
            "README.md",
            "deploy",
            "proto",
            "services",
            "tests"
        ]
    );
    Ok(())
}

#[test]
fn services_know_the_kit_and_the_contract_and_never_each_other() -> anyhow::Result<()> {
    assert_none(&rules::forbidden_dependencies(&crates()?));
    Ok(())
}

#[test]
fn a_dependency_that_points_the_wrong_way_is_found() {
    let depends = |name: &str, on: &[&str]| Crate {
        name: format!("catalyst-{name}"),
        dependencies: on.iter().map(|on| format!("catalyst-{on}")).collect(),
    };
    for wrong in [
        depends("projects", &["kit", "consultants"]),
        depends("projects", &["tests"]),
        depends("kit", &["projects"]),
        depends("proto", &["kit"]),
    ] {
        assert_eq!(
            rules::forbidden_dependencies(std::slice::from_ref(&wrong)).len(),
            1
        );
    }
    assert_none(&rules::forbidden_dependencies(&[depends(
        "projects",
        &["kit", "proto"],
    )]));
}

#[test]
fn every_service_is_one_crate_that_takes_versions_and_lints_from_the_workspace()
-> anyhow::Result<()> {
    let sources = sources()?;
    let manifests: Vec<_> = sources
        .iter()
        .filter(|source| source.path.ends_with("Cargo.toml"))
        .collect();
    assert_eq!(
        manifests.len(),
        crates()?.len(),
        "a manifest is no member of the workspace"
    );
    for manifest in manifests {
        assert_none(&rules::own_versions(manifest));
    }

    let lints = "[lints]\nworkspace = true";
    let own = |dependency: &str| {
        let text = format!("[dependencies]\n{dependency}\n{lints}");
        rules::own_versions(&source("services/projects/Cargo.toml", &text)).len()
    };
    assert_eq!(own("time = \"0.3\""), 1);
    assert_eq!(own("time = { version = \"0.3\" }"), 1);
    assert_eq!(own("time.workspace = true"), 0);
    assert_eq!(
        rules::own_versions(&source("tests/Cargo.toml", "")).len(),
        1
    );
    Ok(())
}

#[test]
fn no_product_stops_at_the_moments_of_the_fault_suite() -> anyhow::Result<()> {
    let mut files = sources()?;
    for path in ["Cargo.toml", "deploy/Dockerfile"] {
        files.push(source(
            path,
            &std::fs::read_to_string(repository().join(path))?,
        ));
    }
    ensure!(
        files
            .iter()
            .any(|file| file.text.contains("\nfailpoints = []"))
    );
    assert_none(&rules::failpoints(&files));

    let on = |path: &str, text: &str| rules::failpoints(&[source(path, text)]).len();
    let manifest = "services/catalyst/Cargo.toml";
    assert_eq!(
        on(manifest, "catalyst-kit = { features = [\"failpoints\"] }"),
        1
    );
    assert_eq!(on(manifest, "default = [\"catalyst-kit/failpoints\"]"), 1);
    assert_eq!(
        on("deploy/Dockerfile", "cargo build --release --workspace"),
        1
    );
    assert_eq!(on("tests/Cargo.toml", "features = [\"failpoints\"]"), 0);
    Ok(())
}

#[test]
fn every_crate_comes_from_the_registry() -> anyhow::Result<()> {
    let lock = std::fs::read_to_string(repository().join("Cargo.lock"))?;
    ensure!(
        lock.contains("\nsource = \"registry+"),
        "Cargo.lock names no source"
    );
    assert_none(&rules::foreign_origins(&lock));
    assert_eq!(
        rules::foreign_origins("source = \"git+https://example.com/fork\"").len(),
        1
    );
    Ok(())
}

#[test]
fn models_and_permissions_know_neither_database_nor_wire() -> anyhow::Result<()> {
    let sources = sources()?;
    for (service, files) in PURE {
        for file in *files {
            let path = format!("services/{service}/src/{file}");
            let pure = sources.iter().find(|source| source.path == path);
            assert_none(&rules::impurities(
                pure.with_context(|| format!("no {path}"))?,
            ));
        }
    }
    let services = PURE
        .iter()
        .map(|(service, _)| format!("catalyst-{service}"));
    assert!(
        services.eq(rules::services(&crates()?)),
        "a service has no model in this list"
    );

    let found = |text: &str| rules::impurities(&source("services/projects/src/project.rs", text));
    assert_eq!(found("use sqlx::Row;").len(), 1);
    assert_eq!(found("    tokio::task::yield_now().await;").len(), 1);
    assert_none(&found("/// Knows nothing of sqlx.\nfn tonics() {}"));
    Ok(())
}

#[test]
fn no_file_is_too_long_to_read_at_once() -> anyhow::Result<()> {
    assert_none(&rules::too_long(&sources()?));
    let long = |path: &str| rules::too_long(&[source(path, &"line\n".repeat(501))]).len();
    assert_eq!(long("services/projects/src/store.rs"), 1);
    assert_eq!(long("services/projects/migrations/0001_project.sql"), 1);
    assert_eq!(long("proto/catalyst/projects/v1/projects.proto"), 1);
    assert_eq!(long("proto/README.md"), 0);
    Ok(())
}

#[test]
fn every_file_says_first_what_it_is_for() -> anyhow::Result<()> {
    assert_none(&rules::headless(&sources()?));
    assert_eq!(
        rules::headless(&[source("tests/suite/main.rs", "mod tidy;")]).len(),
        1
    );
    assert_eq!(
        rules::headless(&[source("tests/suite/main.rs", "//! x")]).len(),
        1
    );
    Ok(())
}

#[test]
fn migrations_are_numbered_without_a_gap_and_written_in_lowercase() -> anyhow::Result<()> {
    let sources = sources()?;
    assert_none(&rules::misnumbered(&sources));
    assert_none(&rules::shouted_sql(&sources));

    let numbered = |names: &[&str]| {
        let migrations: Vec<_> = names
            .iter()
            .map(|name| source(&format!("services/projects/migrations/{name}"), ""))
            .collect();
        rules::misnumbered(&migrations).len()
    };
    assert_eq!(numbered(&["0100_client.sql", "0101_project.sql"]), 0);
    assert_eq!(numbered(&["0100_client.sql", "0102_project.sql"]), 1);
    assert_eq!(numbered(&["0100_client.sql", "0100_project.sql"]), 1);
    assert_eq!(numbered(&["0100_Client.sql"]), 1);
    let shouted = |text: &str| rules::shouted_sql(&[source("a.sql", text)]).len();
    assert_eq!(shouted("SELECT 1;"), 1);
    assert_eq!(shouted("select 'UTC'; -- as ISO wants it"), 0);
    Ok(())
}

#[test]
fn every_migration_is_applied() -> anyhow::Result<()> {
    assert_none(&rules::unapplied(&sources()?));
    let migration = || source("services/projects/migrations/0100_client.sql", "");
    assert_eq!(rules::unapplied(&[migration()]).len(), 1);
    let applied = "include_str!(\"../migrations/0100_client.sql\")";
    assert_none(&rules::unapplied(&[
        migration(),
        source("services/projects/src/lib.rs", applied),
    ]));
    let elsewhere = source("services/audit/src/lib.rs", applied);
    assert_eq!(rules::unapplied(&[migration(), elsewhere]).len(), 1);
    Ok(())
}

#[test]
fn no_file_has_a_name_that_says_nothing() -> anyhow::Result<()> {
    assert_none(&rules::meaningless_names(&sources()?));
    let named = |path: &str| rules::meaningless_names(&[source(path, "")]).len();
    assert_eq!(named("services/kit/src/db_utils.rs"), 1);
    assert_eq!(named("services/common/src/lib.rs"), 1);
    assert_eq!(named("proto/catalyst/common/v1/money.proto"), 0);
    assert_eq!(named("services/kit/src/database.rs"), 0);
    Ok(())
}

#[test]
fn no_test_is_skipped_or_sleeps_and_nothing_is_left_to_do() -> anyhow::Result<()> {
    assert_none(&rules::unfinished(&sources()?));
    // Put together here, or this file would be found too.
    for (path, text) in [
        ("services/kit/src/db.rs", concat!("#[ig", "nore]")),
        (
            "tests/suite/audit.rs",
            concat!("tokio::time::sl", "eep(a_while).await;"),
        ),
        (
            "tests/suite/audit.rs",
            concat!("thread::sl", "eep(a_while);"),
        ),
        ("proto/build.rs", concat!("// TO", "DO")),
    ] {
        assert_eq!(rules::unfinished(&[source(path, text)]).len(), 1, "{text}");
    }
    Ok(())
}

#[test]
fn the_catalogue_names_every_event_and_every_reason() -> anyhow::Result<()> {
    let catalogue = std::fs::read_to_string(repository().join("proto/README.md"))?;
    let published = rules::published(&contract()?);
    for known in ["ProjectCreated", "CrossTenantAccessAttempted", "NOT_FOUND"] {
        ensure!(
            published.iter().any(|name| name == known),
            "the contract has no {known}"
        );
    }
    assert_none(&rules::unnamed(&catalogue, &published));

    let names = ["ProjectCreated".to_owned()];
    assert_eq!(rules::unnamed("`ProjectCreatedTwice`", &names).len(), 1);
    assert_none(&rules::unnamed("| `ProjectCreated` |", &names));
    Ok(())
}

#[test]
fn every_method_has_a_request_and_a_response_of_its_own() -> anyhow::Result<()> {
    let methods = rules::methods(&contract()?);
    ensure!(
        methods.len() > 20,
        "the contract has {} methods",
        methods.len()
    );
    assert_none(&rules::unpaired(&methods));

    let method = |input: &str, output: &str| {
        let names = ["GetProject", input, output].map(str::to_owned);
        rules::unpaired(&[names]).len()
    };
    assert_eq!(method("GetProjectRequest", "GetProjectResponse"), 0);
    assert_eq!(method("GetProjectRequest", "Project"), 1);
    assert_eq!(method("ListProjectsRequest", "GetProjectResponse"), 1);
    Ok(())
}

#[test]
fn every_operation_is_named_as_its_method() -> anyhow::Result<()> {
    assert_none(&rules::misnamed_operations(
        &sources()?,
        &rules::methods(&contract()?),
    ));
    let methods = [["CreateProject", "", ""].map(str::to_owned)];
    let operation = |name: &str| {
        let path = format!("services/projects/src/operations/{name}.rs");
        rules::misnamed_operations(&[source(&path, "")], &methods).len()
    };
    assert_eq!(operation("create_project"), 0);
    assert_eq!(operation("mod"), 0);
    assert_eq!(operation("project_creation"), 1);
    Ok(())
}

fn repository() -> &'static Path {
    const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    Path::new(REPOSITORY)
}

fn contract() -> anyhow::Result<DescriptorPool> {
    Ok(DescriptorPool::decode(proto::DESCRIPTOR_SET)?)
}

/// The members of the workspace with what they need of each other and of the world.
fn crates() -> anyhow::Result<Vec<Crate>> {
    let done = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--locked",
            "--format-version=1",
        ])
        .current_dir(repository())
        .output()?;
    ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let metadata: BTreeMap<String, Value> = serde_json::from_slice(&done.stdout)?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("packages")?;
    let text = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut crates = Vec::new();
    for package in packages {
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        crates.push(Crate {
            name: text(package).context("a package has a name")?,
            dependencies: dependencies
                .into_iter()
                .flatten()
                .filter_map(text)
                .collect(),
        });
    }
    ensure!(
        crates.len() >= 9,
        "the workspace has {} crates",
        crates.len()
    );
    Ok(crates)
}

/// Everything that is written by hand in `proto`, `services` and `tests`, text where it is read by a rule.
fn sources() -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for folder in ["proto", "services", "tests"] {
        collect(folder, &mut sources)?;
    }
    ensure!(
        sources
            .iter()
            .any(|source| source.path == "tests/suite/tidy.rs"),
        "no sources found"
    );
    Ok(sources)
}

fn collect(folder: &str, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in repository().join(folder).read_dir()? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&path, sources)?;
            continue;
        }
        let read = ["rs", "sql", "proto", "toml"]
            .iter()
            .any(|kind| rules::is(&path, kind));
        let text = if read {
            std::fs::read_to_string(entry.path())?
        } else {
            String::new()
        };
        sources.push(Source { path, text });
    }
    Ok(())
}

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
