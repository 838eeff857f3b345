//! The catalog of mutants, held against the tree: a mutant that does not apply any more tests nothing.

#[path = "../../mutants/catalog.rs"]
mod catalog;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use super::{repository, sources};
use catalog::{ATTESTATION, Catalog, Mutant, unit};

#[test]
fn every_mutant_still_applies() -> anyhow::Result<()> {
    let catalog = Catalog::load(repository())?;
    assert!(catalog.mutants.len() >= 34);
    let woven = catalog.woven(repository(), Path::new("mutant"))?;
    let mut names = HashSet::new();
    for mutant in &catalog.mutants {
        let name = &mutant.name;
        ensure!(names.insert(name), "two mutants are called {name}");
        let is_kebab = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        ensure!(is_kebab, "{name} is no kebab-case");
        let is_sentence = mutant.control.ends_with('.') && mutant.control.len() > 10;
        ensure!(is_sentence, "{name} does not say what it breaks");
        ensure!(!mutant.tests.is_empty(), "{name} names no test");
        if let Some(why) = &mutant.equivalent {
            ensure!(why.ends_with('.'), "{name} does not say why it may survive");
        }
        let edited = mutant.texts(repository())?;
        let switch = format!("\"{name}\"");
        let is_woven = woven.values().any(|text| text.contains(&switch));
        ensure!(is_woven || !edited.is_empty(), "{name} changes nothing");
        ensure!(mutant.switches().contains(name), "{name} is never chosen");
    }
    Ok(())
}

#[test]
fn every_test_that_a_mutant_names_exists() -> anyhow::Result<()> {
    let listed = Command::new(std::env::current_exe()?)
        .arg("--list")
        .output()?;
    let suite = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(suite.contains(ATTESTATION), "the suite is not listed");
    let sources = sources()?;
    let catalog = Catalog::load(repository())?;
    for filter in catalog.mutants.iter().flat_map(Mutant::filters) {
        let exists = match unit(filter) {
            None => suite.contains(filter),
            Some((folder, name)) => {
                let last = name.rsplit("::").next().unwrap_or_default();
                let folder = format!("services/{folder}/src/");
                let is_named = |text: &str| {
                    text.contains(&format!("fn {last}")) || text.contains(&format!("mod {last}"))
                };
                sources
                    .iter()
                    .any(|source| source.path.starts_with(&folder) && is_named(&source.text))
            }
        };
        ensure!(exists, "no test is called {filter}");
    }
    Ok(())
}
