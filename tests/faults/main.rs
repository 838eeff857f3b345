//! The faults: real processes are killed, stopped and cut at named moments, and one checker judges what callers and
//! subscribers saw.
//!
//! Invariants: a seed replays its run; a cell that could not be tried is said and counted, never passed.

mod cells;
mod trial;
mod inject;
mod cuts;
mod copies;
mod storm;
mod swizzle;
mod campaign;
mod networked;

mod workload;
mod worker;
mod wording;
mod client;
mod history;

mod collect;
mod evidence;
mod checker;
mod report;

mod stack;
mod program;
mod front;
mod ground;
mod devices;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use catalyst::stack::PostgresChoice;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cells::{Cell, Ground};
use crate::report::Report;
use crate::stack::{Layout, Stack};
use crate::trial::{End, Trial};

/// Does faults to the running system, and judges what becomes of acknowledged writes, events and tenants' lines.
/// Exit codes: 0 all held; 1 an invariant broke; 2 some could not be tried.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows the table of cells.
    List,
    /// Runs cells: all of the profile, or those that these names mean: F1, F1-M3, or a word of the title.
    Run(Wanted),
    /// Takes random things away and brings them back, in rounds of firms of their own, until the time is over.
    Random {
        /// How long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// The seed of the first round. Without it, another one every time.
        #[arg(long)]
        seed: Option<u64>,
        /// Writes what became of each round to this file as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
        /// auto, system or bundled.
        #[arg(long, default_value = "auto")]
        postgres: PostgresChoice,
    },
    /// One long load through many faults, judged at its end.
    Campaign(campaign::Goal),
}

#[derive(Debug, clap::Args)]
struct Wanted {
    /// Names.
    names: Vec<String>,
    /// Which cells, and how often: short is for every submission, full for a scheduled run.
    #[arg(long, value_enum, default_value_t = Profile::Full)]
    profile: Profile,
    /// Runs of each cell [default: 1 in the short profile, 20 in the full one].
    #[arg(long)]
    runs: Option<u64>,
    /// The seed of the first run; the others follow it. Without it, another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes what became of each run to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// auto, system or bundled.
    #[arg(long, default_value = "auto")]
    postgres: PostgresChoice,
    /// The network in whose hub this program runs; it is for the program's own use.
    #[arg(long, hide = true)]
    network: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    Short,
    Full,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Full => "full",
        }
    }

    fn runs(self) -> u64 {
        match self {
            Self::Short => 1,
            Self::Full => 20,
        }
    }

    /// How long what is stopped stays so.
    fn stopped(self) -> Duration {
        match self {
            Self::Short => Duration::from_secs(5),
            Self::Full => Duration::from_secs(30),
        }
    }
}

fn main() -> ExitCode {
    // The services of a run are this very program under the product's name.
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name() == Some(OsStr::new("catalyst")) {
        return catalyst::cli::main();
    }
    match start(Options::parse()) {
        Ok(code) => code.into(),
        Err(error) => {
            say(&format!("{error:#}"));
            2.into()
        }
    }
}

pub(crate) fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn start(options: Options) -> anyhow::Result<u8> {
    // Fails only when it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (shown, code) = match options.command {
        Command::List => (report::listed(), 0),
        Command::Run(wanted) => {
            let report = runtime.block_on(unless_stopped(run(&wanted)))?;
            told(&report, wanted.json.as_deref())?
        }
        Command::Random {
            minutes,
            seed,
            json,
            postgres,
        } => {
            let minutes = Duration::from_secs(minutes * 60);
            let report = runtime.block_on(unless_stopped(random(minutes, seed, postgres)))?;
            told(&report, json.as_deref())?
        }
        Command::Campaign(goal) => {
            let report = runtime.block_on(unless_stopped(campaign::run(&goal)))?;
            told(&report, goal.json.as_deref())?
        }
    };
    writeln!(std::io::stdout(), "{shown}").context("cannot write to standard output")?;
    Ok(code)
}

fn told(report: &Report, json: Option<&Path>) -> anyhow::Result<(String, u8)> {
    if let Some(path) = json {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &report.json())?;
    }
    Ok((report.to_string(), report.exit_code()))
}

async fn unless_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("stopped"),
        _ = terminate.recv() => bail!("stopped"),
    }
}

fn first_seed(wanted: Option<u64>) -> u64 {
    wanted.unwrap_or_else(|| fastrand::u64(..1_000_000_000))
}

async fn run(wanted: &Wanted) -> anyhow::Result<Report> {
    devices::sweep()?;
    let cells = chosen(wanted)?;
    let runs = wanted.runs.unwrap_or(wanted.profile.runs());
    let first = first_seed(wanted.seed);
    if wanted.network.is_none() {
        say(&format!(
            "{} cells, {runs} runs of each, from seed {first}",
            cells.len()
        ));
    }
    let mut report = Report::default();
    for ground in [Ground::Powered, Ground::Disks, Ground::Network] {
        let cells = cells
            .iter()
            .copied()
            .filter(|cell| cell.fault.ground() == ground);
        let cells: Vec<Cell> = cells.collect();
        let seeds = first..first.wrapping_add(runs);
        if cells.is_empty() {
            continue;
        }
        if let Some(why) = ground::missing(ground) {
            say(&format!("  skipped: {why}"));
            let each = seeds.flat_map(|seed| cells.iter().map(move |cell| (*cell, seed)));
            let skipped = each.map(|(cell, seed)| Trial::skipped(cell, seed, why.clone()));
            report.trials.extend(skipped);
        } else if ground == Ground::Network && wanted.network.is_none() {
            report
                .trials
                .extend(networked::run(&cells, wanted, runs, first).await?);
        } else {
            let layout = Layout {
                ground,
                network: wanted.network.clone(),
                postgres: wanted.postgres.clone(),
            };
            let mut systems = Systems::new(layout);
            for seed in seeds {
                for cell in &cells {
                    let trial = systems
                        .try_cell(*cell, seed, wanted.profile.stopped())
                        .await?;
                    report.trials.push(trial);
                }
            }
            systems.stop().await?;
        }
    }
    Ok(report)
}

async fn random(
    time: Duration,
    seed: Option<u64>,
    postgres: PostgresChoice,
) -> anyhow::Result<Report> {
    devices::sweep()?;
    let first = first_seed(seed);
    say(&format!("rounds from seed {first}"));
    let mut systems = Systems::new(Layout {
        ground: Ground::Powered,
        network: None,
        postgres,
    });
    let mut report = Report::default();
    let since = Instant::now();
    let mut seeds = first..;
    while since.elapsed() < time
        && let Some(seed) = seeds.next()
    {
        let trial = systems
            .try_cell(Cell::SWIZZLE, seed, Profile::Short.stopped())
            .await?;
        report.trials.push(trial);
    }
    systems.stop().await?;
    Ok(report)
}

/// One system after the other: each serves until something breaks on it.
struct Systems {
    layout: Layout,
    current: Option<Stack>,
}

impl Systems {
    fn new(layout: Layout) -> Self {
        Self {
            layout,
            current: None,
        }
    }

    async fn try_cell(
        &mut self,
        cell: Cell,
        seed: u64,
        stopped: Duration,
    ) -> anyhow::Result<Trial> {
        let mut system = match self.current.take() {
            Some(system) => system,
            None => begin(&self.layout).await?,
        };
        let trial = trial::run(&mut system, cell, seed, stopped).await;
        tell(&trial, &system);
        match trial.end {
            End::Held | End::Skipped(_) => self.current = Some(system),
            // Whatever it is in is no ground for another run.
            End::Broke(_) | End::NotTried(_) => drop(system.stop().await),
        }
        Ok(trial)
    }

    async fn stop(self) -> anyhow::Result<()> {
        match self.current {
            Some(system) => system.stop().await,
            None => Ok(()),
        }
    }
}

pub(crate) async fn begin(layout: &Layout) -> anyhow::Result<Stack> {
    let since = Instant::now();
    let stack = Stack::start(layout).await?;
    say(&format!(
        "  the system is up after {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    Ok(stack)
}

fn tell(trial: &Trial, stack: &Stack) {
    let Trial {
        cell,
        seed,
        tally,
        times,
        ..
    } = trial;
    let end = match &trial.end {
        End::Held => "held".to_owned(),
        End::Skipped(why) => format!("skipped: {why}"),
        End::NotTried(why) => format!("NOT TRIED: {why}"),
        End::Broke(breaches) => {
            stack.keep();
            let first = breaches
                .first()
                .map(|it| format!("{}: {}", it.invariant, it.what));
            format!(
                "BROKE {}; its files are in {}",
                first.unwrap_or_default(),
                stack.dir.display()
            )
        }
    };
    let parts = [
        times.before,
        times.fault,
        times.after,
        times.rest,
        times.judged,
    ];
    let parts: Vec<String> = parts
        .iter()
        .map(|part| format!("{:.1}", part.as_secs_f64()))
        .collect();
    say(&format!(
        "  {cell} seed {seed}: {} acknowledged, {} unknown, {} duplicates, {} s: {end}",
        tally.acknowledged,
        tally.unknown,
        tally.duplicates,
        parts.join(" + ")
    ));
}

fn chosen(wanted: &Wanted) -> anyhow::Result<Vec<Cell>> {
    for name in &wanted.names {
        ensure!(
            Cell::all().iter().any(|cell| cell.is_called(name)),
            "no cell is called {name}: see `faults list`"
        );
    }
    let mut cells = Cell::all();
    if wanted.names.is_empty() {
        cells.retain(|cell| wanted.profile == Profile::Full || cell.is_short());
    } else {
        cells.retain(|cell| wanted.names.iter().any(|name| cell.is_called(name)));
    }
    Ok(cells)
}
