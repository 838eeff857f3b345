//! The catalog of mutants: what each breaks, by which edit, and which tests ought to notice.
//!
//! Mutants of Rust are woven into one copy of the tree, each behind a switch that is asked when the code runs, so that
//! all of them cost one build. Migrations and manifests are read when they are used, and are edited in turn.
//! Invariant: an edit finds its text exactly once, or it does not apply at all: a catalog that has fallen behind the
//! tree is an error and never a survivor. The suite holds it against the tree as well.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// The test that attests the database of the running system.
pub(super) const ATTESTATION: &str = "attest::the_database_of_the_running_system_raises_nothing";

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// What the copy has in every mutant and in none: what lets migrations be edited without a build.
    pub(super) preparations: Vec<Edit>,
    /// In the order of the files, and within them.
    pub(super) mutants: Vec<Mutant>,
}

/// A control of the system, broken on purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    /// What is done to the system: `tables-without-forced-policies`.
    pub(super) name: String,
    /// What holds without the mutant, in one sentence.
    pub(super) control: String,
    /// Names of tests, or parts of them, of which one at least must fail. Those of the suite as they are; unit tests
    /// with the folder of their crate in front: `kit/page::tests::sizes_are_coerced`.
    pub(super) tests: Vec<String>,
    /// The attestation of the running database must fail as well.
    #[serde(default)]
    pub(super) attested: bool,
    /// Why the system is as safe without this one control. Such a mutant is expected to survive.
    pub(super) equivalent: Option<String>,
    /// Made together.
    #[serde(rename = "edit")]
    pub(super) edits: Vec<Edit>,
}

/// A text in place of another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// The path from the top of the tree.
    pub(super) file: String,
    /// Stands in the file exactly once. Of Rust a whole expression, or whole statements.
    pub(super) find: String,
    /// What stands there in the mutant.
    pub(super) replace: String,
    /// By which the edit is switched on: its mutant's name, or its chapter's.
    #[serde(skip)]
    switch: String,
}

/// One file of the catalog.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chapter {
    #[serde(default)]
    preparation: Vec<Edit>,
    /// Edits that every mutant of the chapter has beside its own.
    #[serde(default)]
    also: Vec<Edit>,
    #[serde(default)]
    mutant: Vec<Mutant>,
}

/// Texts by the path of their file.
pub(super) type Texts = BTreeMap<String, String>;

impl Catalog {
    /// Reads all chapters, and checks that every edit applies to the tree.
    pub(super) fn load(tree: &Path) -> anyhow::Result<Self> {
        let folder = tree.join("tests/mutants/catalog");
        let mut files = Vec::new();
        for entry in folder
            .read_dir()
            .with_context(|| format!("cannot read {}", folder.display()))?
        {
            files.push(entry?.path());
        }
        files.sort();
        let mut catalog = Self::default();
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            let mut chapter: Chapter =
                toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            for edit in &mut chapter.also {
                name.clone_into(&mut edit.switch);
            }
            for mut mutant in chapter.mutant {
                for edit in &mut mutant.edits {
                    mutant.name.clone_into(&mut edit.switch);
                }
                mutant.edits.extend(chapter.also.iter().cloned());
                catalog.mutants.push(mutant);
            }
            catalog.preparations.extend(chapter.preparation);
        }
        catalog.woven(tree, Path::new("mutant"))?;
        for mutant in &catalog.mutants {
            mutant.texts(tree)?;
        }
        Ok(catalog)
    }

    /// The Rust files of the copy: prepared, and with every mutant behind its switch. Switched on are those that stand
    /// in the file `switches` when a process first asks, separated by commas.
    pub(super) fn woven(&self, tree: &Path, switches: &Path) -> anyhow::Result<Texts> {
        let mut texts = Texts::new();
        for edit in &self.preparations {
            let text = current(&texts, tree, &edit.file)?;
            let (start, end) = edit.place(&text)?;
            let changed = [&text[..start], &edit.replace, &text[end..]].concat();
            texts.insert(edit.file.clone(), changed);
        }
        let mut places: BTreeMap<&str, BTreeMap<(usize, usize), Vec<&Edit>>> = BTreeMap::new();
        for edit in self.mutants.iter().flat_map(|mutant| &mutant.edits) {
            if !edit.is_switched() {
                continue;
            }
            let place = edit.place(&current(&texts, tree, &edit.file)?)?;
            let edits = places.entry(&edit.file).or_default().entry(place);
            let edits = edits.or_default();
            if !edits.iter().any(|other| other.switch == edit.switch) {
                edits.push(edit);
            }
        }
        for (file, places) in places {
            let text = current(&texts, tree, file)?;
            let mut woven = String::with_capacity(2 * text.len());
            let mut done = 0;
            for ((start, end), edits) in places {
                ensure!(
                    done <= start,
                    "{} meets the edit of another mutant in {file}: choose the same text, or texts apart",
                    edits.first().map_or("", |it| &it.switch)
                );
                woven.push_str(&text[done..start]);
                woven.push_str(&switched(&text[start..end], &edits, switches));
                done = end;
            }
            woven.push_str(&text[done..]);
            texts.insert(file.to_owned(), woven);
        }
        Ok(texts)
    }
}

impl Mutant {
    /// The files that are edited only while this mutant is tried, with their whole text.
    pub(super) fn texts(&self, tree: &Path) -> anyhow::Result<Texts> {
        let mut texts = Texts::new();
        ensure!(!self.edits.is_empty(), "{} changes nothing", self.name);
        for edit in self.edits.iter().filter(|edit| !edit.is_switched()) {
            let text = current(&texts, tree, &edit.file)?;
            let (start, end) = edit.place(&text)?;
            let changed = [&text[..start], &edit.replace, &text[end..]].concat();
            texts.insert(edit.file.clone(), changed);
        }
        Ok(texts)
    }

    /// What the processes of this mutant are told.
    pub(super) fn switches(&self) -> String {
        let mut switches: Vec<_> = self.edits.iter().map(|it| it.switch.as_str()).collect();
        switches.dedup();
        switches.join(",")
    }

    /// The tests to run.
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        let attestation = self.attested.then_some(ATTESTATION);
        self.tests.iter().map(String::as_str).chain(attestation)
    }
}

impl Edit {
    /// Whether it is woven into the code; else the file is read when it is used.
    fn is_switched(&self) -> bool {
        Path::new(&self.file)
            .extension()
            .is_some_and(|it| it == "rs")
    }

    /// From where to where its text stands.
    fn place(&self, text: &str) -> anyhow::Result<(usize, usize)> {
        let mut found = text.match_indices(&self.find).map(|(start, _)| start);
        match (found.next(), found.count()) {
            (Some(start), 0) if self.find != self.replace => Ok((start, start + self.find.len())),
            (Some(_), 0) => bail!("{} puts the same text into {}", self.switch, self.file),
            (first, more) => bail!(
                "{} does not apply: its text stands {} times in {}, not once: {}",
                self.switch,
                more + usize::from(first.is_some()),
                self.file,
                self.find
            ),
        }
    }
}

fn current(texts: &Texts, tree: &Path, file: &str) -> anyhow::Result<String> {
    match texts.get(file) {
        Some(text) => Ok(text.clone()),
        None => {
            std::fs::read_to_string(tree.join(file)).with_context(|| format!("cannot read {file}"))
        }
    }
}

/// The original and its mutants, one of them chosen when it runs.
fn switched(original: &str, edits: &[&Edit], switches: &Path) -> String {
    let switches = switches.to_string_lossy();
    let choices = edits.iter().map(|Edit { replace, switch, .. }| {
        format!(
            r#"if {{
                static IS_ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
                *IS_ON.get_or_init(|| std::fs::read_to_string({switches:?}).is_ok_and(|it| it.split(',').any(|it| it == "{switch}")))
            }} {{ {replace} }} else "#
        )
    });
    let text = format!("{}{{ {original} }}", choices.collect::<String>());
    if original.ends_with([';', '}']) {
        text
    } else {
        format!("({text})")
    }
}

/// The folder of the crate of a unit test and the test's name in it; none for a test of the suite.
pub(super) fn unit(filter: &str) -> Option<(&str, &str)> {
    filter.split_once('/')
}
