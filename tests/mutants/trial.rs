//! Builds the tests of the copy and runs some of them; says what failed and nothing of what that means.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::Wanted;
use crate::catalog::unit;

/// What the harness says when the system refuses to start.
const REFUSED: &str = "the system does not start: ";

/// A copy of the tree, with cargo to build it.
#[derive(Debug)]
pub(crate) struct Workshop {
    cargo: PathBuf,
    /// All of it, in the target folder.
    pub(crate) folder: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) logs: PathBuf,
    /// The file that says which mutant the copy is.
    pub(crate) switches: PathBuf,
    /// How long the tests of one mutant may take.
    pub(crate) limit: Duration,
}

/// What became of some tests.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Why the system did not start, if so.
    pub(crate) refused: Option<String>,
    /// They did not end within the limit.
    pub(crate) timed_out: bool,
    /// The program of the tests ended without a result.
    pub(crate) broken: bool,
}

impl Ran {
    /// Whether single tests failed, and nothing worse happened.
    pub(crate) fn has_names(&self) -> bool {
        !self.failed.is_empty() && self.refused.is_none() && !self.timed_out && !self.broken
    }
}

/// Filters by the program that has the tests: a crate's unit tests, or the suite under the empty name.
pub(crate) fn by_program<'a>(
    filters: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut programs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for filter in filters {
        let (program, name) = unit(filter).unwrap_or(("", filter));
        let names = programs.entry(program).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    programs
}

impl Workshop {
    /// Beside the folder of the profile that this very program was built in.
    pub(crate) fn open(wanted: &Wanted) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let profile = program.parent().context("the program is in a folder")?;
        let folder = profile.with_file_name("mutants");
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs)?;
        Ok(Self {
            cargo: wanted.cargo.clone(),
            tree: folder.join("tree"),
            target: folder.join("target"),
            logs,
            switches: folder.join("mutant"),
            limit: Duration::from_secs(wanted.limit),
            folder,
        })
    }

    /// Builds the tests of these programs, all at once: what others' crates are built with depends on what is asked
    /// for together.
    pub(crate) async fn build<'a>(
        &self,
        programs: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<BTreeMap<&'a str, PathBuf>> {
        let programs: Vec<&str> = programs.collect();
        let mut command = self.command(&self.cargo, &self.tree);
        command.args([
            "test",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ]);
        command.args(["--package", "catalyst-tests", "--test", "suite"]);
        let units = || programs.iter().filter(|program| !program.is_empty());
        command.args(units().next().map(|_| "--lib"));
        for unit in units() {
            command.args(["--package", &package(unit)]);
        }
        let done = command
            .output()
            .await
            .with_context(|| format!("{} cannot be run", self.cargo.display()))?;
        let log = self.log("build");
        std::fs::write(&log, done.stderr).context("cannot write a log")?;
        if !done.status.success() {
            bail!(
                "the copy does not compile with the mutants in it: see {}",
                log.display()
            );
        }
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let built: BTreeMap<String, PathBuf> = said.lines().filter_map(executable).collect();
        let path = |program: &'a str| {
            let target = if program.is_empty() { "suite" } else { program };
            let path = built.get(&target.replace('-', "_"));
            let path = path.with_context(|| format!("cargo built no tests of {target}"))?;
            Ok((program, path.clone()))
        };
        programs.into_iter().map(path).collect()
    }

    /// The names of the tests of a program.
    pub(crate) async fn names(&self, program: &Path) -> anyhow::Result<Vec<String>> {
        let listed = self
            .command(program, &self.tree)
            .arg("--list")
            .output()
            .await?;
        ensure!(
            listed.status.success(),
            "{} lists no tests",
            program.display()
        );
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs the tests whose names contain a filter, within the limit, as the mutant that the switches choose.
    pub(crate) async fn run(
        &self,
        program: &Path,
        filters: &[&str],
        switches: &str,
        log: &str,
        limit: Duration,
    ) -> anyhow::Result<Ran> {
        std::fs::write(&self.switches, switches).context("cannot choose the mutant")?;
        let path = self.log(log);
        let said = File::create(&path).context("cannot write a log")?;
        let mut child = self
            .command(program, &self.tree.join("tests"))
            .args(filters)
            .stdout(said.try_clone()?)
            .stderr(said)
            // A group of its own, so that nothing that the tests started outlives them.
            .process_group(0)
            .spawn()?;
        let group = child.id().map(|id| format!("-{id}"));
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, child.wait()) => ended,
            interrupted = tokio::signal::ctrl_c() => {
                end(group.as_deref()).await?;
                return interrupted.map_err(Into::into).and_then(|()| bail!("interrupted"));
            }
        };
        if ended.is_err() {
            end(group.as_deref()).await?;
        }
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        let result = text.lines().any(|line| line.starts_with("test result: "));
        Ok(Ran {
            failed: failures(&text),
            refused: text
                .lines()
                .find_map(|line| Some(line.split_once(REFUSED)?.1.to_owned())),
            timed_out: ended.is_err(),
            broken: ended.is_ok() && !result,
        })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// Ends a group of processes. The harness's watchdog is in no such group, and ends the servers.
async fn end(group: Option<&str>) -> anyhow::Result<()> {
    if let Some(group) = group {
        let done = Command::new("kill").args(["-KILL", "--", group]).status();
        done.await.context("cannot end the tests")?;
    }
    Ok(())
}

/// The crate in a folder of `services`.
fn package(folder: &str) -> String {
    match folder {
        "catalyst" => folder.to_owned(),
        _ => format!("catalyst-{folder}"),
    }
}

/// The program of tests that a line of cargo's tells of, by the name of its target.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message.pointer("/profile/test") == Some(&Value::Bool(true));
    let path = message.get("executable")?.as_str().filter(|_| is_test)?;
    let name = message.pointer("/target/name")?.as_str()?;
    Some((name.to_owned(), path.into()))
}

/// Tests that failed, as their lines say. What other threads print may stand before the verdict, never after it.
fn failures(text: &str) -> Vec<String> {
    let failed = text.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.to_owned())
    });
    failed.collect()
}
