//! The mutants: breaks one control of the system at a time, in a copy, and asks the tests that ought to notice.
//!
//! Invariants: a kill means that a test fails, twice, which passes without the mutant; a mutant that does not apply,
//! does not compile or breaks more than its control is a fault of the catalog.

mod catalog;
mod copy;
mod report;
mod trial;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use clap::Parser;

use crate::catalog::{ATTESTATION, Catalog, Mutant, Texts, unit};
use crate::copy::Altered;
use crate::report::{Line, Outcome, Report};
use crate::trial::{Ran, Workshop, by_program};

/// Breaks controls one at a time and shows which of the breaks no test notices.
/// Exit codes: 0 each was noticed; 1 some were not; 2 some could not be tried.
#[derive(Debug, Parser)]
#[command(name = "mutants")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows the catalog.
    List,
    /// Runs mutants: all, those with a name that contains one of these, or a sample.
    Run(Wanted),
}

#[derive(Debug, clap::Args)]
struct Wanted {
    /// Parts of names.
    names: Vec<String>,
    /// Only so many of them, as the seed chooses.
    #[arg(long)]
    sample: Option<usize>,
    /// Chooses the sample: the same seed, the same mutants.
    #[arg(long, default_value = "")]
    seed: String,
    /// Writes what became of each to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// How long the tests of a mutant may take, in seconds.
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// The cargo that builds.
    #[arg(long, env = "CARGO", default_value = "cargo", hide_env = true)]
    cargo: PathBuf,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code.into(),
        Err(error) => {
            say(&format!("{error:#}"));
            2.into()
        }
    }
}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(options: Options) -> anyhow::Result<u8> {
    let tree = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .canonicalize()
        .context("the tree is gone")?;
    let mut catalog = Catalog::load(&tree)?;
    let (shown, code) = match options.command {
        Command::List => (report::listed(&catalog.mutants).to_string(), 0),
        Command::Run(wanted) => {
            let workshop = Workshop::open(&wanted)?;
            // All are in the copy, whichever are run: another choice needs no other build.
            let texts = catalog.woven(&tree, &workshop.switches)?;
            catalog.mutants = chosen(catalog.mutants, &wanted)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let report = runtime.block_on(run_all(&tree, workshop, &texts, &catalog.mutants))?;
            if let Some(path) = &wanted.json {
                let file = File::create(path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                serde_json::to_writer_pretty(file, &report.json())?;
            }
            (report.to_string(), report.exit_code())
        }
    };
    writeln!(std::io::stdout(), "{shown}").context("cannot write to standard output")?;
    Ok(code)
}

/// Those that were asked for. A sample is the first ones by a digest of seed and name, in the order of the catalog.
fn chosen(mut mutants: Vec<Mutant>, wanted: &Wanted) -> anyhow::Result<Vec<Mutant>> {
    for name in &wanted.names {
        ensure!(
            mutants.iter().any(|mutant| mutant.name.contains(name)),
            "no mutant is called {name}: see `mutants list`"
        );
    }
    let is_named = |mutant: &Mutant| wanted.names.iter().any(|name| mutant.name.contains(name));
    mutants.retain(|mutant| wanted.names.is_empty() || is_named(mutant));
    if let Some(count) = wanted.sample {
        let rank = |mutant: &Mutant| {
            let text = format!("{} {}", wanted.seed, mutant.name);
            digest(&SHA256, text.as_bytes()).as_ref().to_vec()
        };
        let mut ranks: Vec<_> = mutants.iter().map(rank).collect();
        ranks.sort();
        ranks.truncate(count);
        mutants.retain(|mutant| ranks.contains(&rank(mutant)));
        say(&format!(
            "a sample of {} by the seed {:?}",
            mutants.len(),
            wanted.seed
        ));
    }
    Ok(mutants)
}

async fn run_all(
    tree: &Path,
    workshop: Workshop,
    texts: &Texts,
    mutants: &[Mutant],
) -> anyhow::Result<Report> {
    let lock = File::create(workshop.folder.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("another run is under way in {}", workshop.folder.display());
    }
    copy::renew(tree, &workshop.tree, texts)?;
    copy::take_over(&workshop.folder.with_file_name("debug"), &workshop.target)?;

    let bench = Bench::open(tree, workshop, mutants).await?;
    let mut report = Report::default();
    for (i, mutant) in mutants.iter().enumerate() {
        let started = Instant::now();
        let (outcome, by) = bench.judge(mutant).await?;
        let line = Line {
            name: mutant.name.clone(),
            control: mutant.control.clone(),
            outcome,
            by,
            took: started.elapsed(),
        };
        say(&line.progress(i + 1, mutants.len()));
        report.0.push(line);
    }
    Ok(report)
}

/// The tests of all mutants together may take as long as those of so many.
const ALL_TOGETHER: u32 = 10;

/// The built copy, in which mutants are tried.
struct Bench<'a> {
    tree: &'a Path,
    workshop: Workshop,
    /// What was built, by the name of the program.
    programs: BTreeMap<&'a str, PathBuf>,
    /// Tests that fail without a mutant.
    unsound: Vec<String>,
}

impl<'a> Bench<'a> {
    /// Builds all, and runs every test that is asked later: what fails without a mutant says nothing about one.
    async fn open(
        tree: &'a Path,
        workshop: Workshop,
        mutants: &'a [Mutant],
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let asked = by_program(mutants.iter().flat_map(Mutant::filters));
        let programs = workshop.build(asked.keys().copied()).await?;
        for (program, path) in &programs {
            let names = workshop.names(path).await?;
            for filter in asked.get(program).into_iter().flatten() {
                ensure!(
                    names.iter().any(|name| name.contains(filter)),
                    "no test is called {filter}"
                );
            }
        }
        let mut bench = Self {
            tree,
            workshop,
            programs,
            unsound: Vec::new(),
        };
        say(&format!("built in {} s", started.elapsed().as_secs()));
        let started = Instant::now();
        let limit = bench.workshop.limit * ALL_TOGETHER;
        for (program, filters) in &asked {
            let mut ran = bench.run(program, filters, "", "no-mutant", limit).await?;
            if ran.has_names() {
                let again: Vec<&str> = ran.failed.iter().map(String::as_str).collect();
                ran = bench
                    .run(program, &again, "", "no-mutant-again", limit)
                    .await?;
            }
            ensure!(
                ran.refused.is_none() && !ran.timed_out && !ran.broken,
                "the tests do not run without any mutant: see {}",
                bench.workshop.logs.display()
            );
            bench.unsound.extend(ran.failed);
        }
        for name in &bench.unsound {
            say(&format!("fails without any mutant: {name}"));
        }
        say(&format!(
            "ran without a mutant in {} s",
            started.elapsed().as_secs()
        ));
        Ok(bench)
    }

    async fn run(
        &self,
        program: &str,
        filters: &[&str],
        switches: &str,
        log: &str,
        limit: Duration,
    ) -> anyhow::Result<Ran> {
        let path = self.programs.get(program).context("it was built")?;
        self.workshop.run(path, filters, switches, log, limit).await
    }

    async fn judge(&self, mutant: &Mutant) -> anyhow::Result<(Outcome, Vec<String>)> {
        let is_asked = |name: &&String| {
            mutant
                .filters()
                .any(|it| name.contains(unit(it).map_or(it, |it| it.1)))
        };
        let unsound: Vec<String> = self.unsound.iter().filter(is_asked).cloned().collect();
        if !unsound.is_empty() {
            return Ok((Outcome::Unsound, unsound));
        }
        let _altered = Altered::write(&self.workshop.tree, &mutant.texts(self.tree)?)?;
        let switches = mutant.switches();
        let limit = self.workshop.limit;
        let mut failed = Vec::new();
        for (program, filters) in by_program(mutant.filters()) {
            let mut ran = self
                .run(program, &filters, &switches, &mutant.name, limit)
                .await?;
            if ran.has_names() {
                // Under load a test may fail by itself: it counts when it fails again.
                let names: Vec<&str> = ran.failed.iter().map(String::as_str).collect();
                let log = format!("{}-again", mutant.name);
                ran = self.run(program, &names, &switches, &log, limit).await?;
            }
            if ran.timed_out {
                return Ok((Outcome::TimedOut, ran.failed));
            }
            if let Some(why) = ran.refused {
                return Ok((Outcome::BreaksAll, vec![why]));
            }
            if ran.broken {
                return Ok((Outcome::BreaksAll, Vec::new()));
            }
            failed.extend(ran.failed);
        }
        let attested = failed.iter().any(|name| name == ATTESTATION);
        if mutant.attested {
            failed.retain(|name| name != ATTESTATION);
        }
        let outcome = match failed.as_slice() {
            [] if mutant.equivalent.is_some() => Outcome::Equivalent,
            [] => Outcome::Survived,
            _ if mutant.attested && !attested => Outcome::Unattested,
            _ => Outcome::Killed,
        };
        Ok((outcome, failed))
    }
}
