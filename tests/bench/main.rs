//! The bench: what the services reach on this machine, beside the limit that PostgreSQL and NATS set them there.
//!
//! Invariants: a figure and its limit come from the same run, in turns, with every commit synced to disk;
//! a call or a statement that fails fails the run.

mod system;
mod program;
mod seed;

mod get;
mod list;
mod create;
mod import;
mod relay;
mod lag;
mod idle;
mod tail;
mod tenants;
mod policies;
mod refusal;
mod fair;
mod overload;
mod oracle;
mod verify;
mod rollout;
mod soak;
mod check;

mod load;
mod wire;
mod pgbench;
mod cores;
mod cpu;
mod report;
mod goals;
mod compare;

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use catalyst::stack::PostgresChoice;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use kit::settings::{CacheSettings, LimitSettings};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::cores::Cores;
use crate::load::Callers;
use crate::pgbench::Pgbench;
use crate::report::Report;
use crate::seed::{Firm, Profile};
use crate::system::System;

/// Measures the services of this build on servers of its own, beside the limits of PostgreSQL and NATS.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// What `compare` compares: two files that `--json` wrote.
    #[arg(num_args = 2, value_names = ["A", "B"], required_if_eq("what", "compare"))]
    reports: Vec<PathBuf>,
    /// How much data there is.
    #[arg(long, value_enum, default_value_t = Profile::Small)]
    profile: Profile,
    /// How often each figure is taken, in turns with its limits.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each figure is taken in a round, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Callers at the same time; each calls again as soon as it has its answer.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=100))]
    clients: u16,
    /// Calls a second of all callers together: in `lag`, 200 without this, and in `rollout`, 250.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// How long `soak` calls.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=1_200))]
    minutes: u64,
    /// Events that `relay` and `backlog` move in a round.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    events: u32,
    /// Resources of each kind that the services may remember after a read: none in the product, unless it is told.
    #[arg(long, default_value_t = 0)]
    cache: u64,
    /// Records of the log that `verify` verifies.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// auto, system or bundled.
    #[arg(long, default_value = "auto")]
    postgres: PostgresChoice,
    /// Writes every figure of every round to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Every measure of speed below.
    All,
    /// Reading one project.
    Get,
    /// Reading a page of 50 projects.
    List,
    /// Creating a project.
    Create,
    /// Importing time entries.
    Import,
    /// Moving events from the outbox to the broker.
    Relay,
    /// The slowest calls of 64 callers.
    Tail,
    /// Reading and creating with policies and without.
    Policies,
    /// Refusing what names another firm's project.
    Refusal,
    /// How long an event is on its way when projects are created at `--rate`.
    Lag,
    /// The start and the memory of one service as a process of its own.
    Idle,
    /// The same calls of 30, 300 and 3,000 firms, whose data it loads itself.
    Tenants,
    /// How long other firms' events are on their way while `--events` of one firm wait. Not part of `all`.
    Backlog,
    /// What other firms feel while one calls far past its limit. Not part of `all`.
    Fair,
    /// Half, five times, and again half of what the services can do, of all firms together. Not part of `all`.
    Overload,
    /// Whether the time of a refusal tells an id of another firm from a random one. Not part of `all`.
    Oracle,
    /// Verifying a long log of audit; not part of all.
    Verify,
    /// Every replica of every service restarted, once a round, under load: no call may fail. Not part of all.
    Rollout,
    /// All services as a process of their own at half of what the machine can do for `--minutes`: nothing may grow. Not
    /// part of all.
    Soak,
    /// Our callers beside h2load, which must be installed: the same call, in turns. Not part of all.
    Check,
    /// Two reports beside each other; measures nothing.
    Compare,
}

/// What every measure needs.
struct Bench<'a> {
    system: &'a System,
    firms: Vec<Arc<Firm>>,
    callers: Callers,
    pgbench: Pgbench,
    time: Duration,
}

impl<'a> Bench<'a> {
    /// With the firms of a profile, beside so many that are there.
    async fn load(
        system: &'a System,
        options: &Options,
        profile: Profile,
        there: u32,
        say: &dyn Fn(&str),
    ) -> anyhow::Result<Self> {
        say("loading the data");
        let firms = seed::load(system, profile, there, say).await?;
        Ok(Self {
            callers: Callers::new(system, &firms, options.clients)?,
            pgbench: Pgbench::new(system, &firms, options.clients, options.seconds)?,
            time: Duration::from_secs(options.seconds),
            firms,
            system,
        })
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let [before, after] = &*options.reports {
        ensure!(options.what == What::Compare, "only compare takes files");
        let table = compare::compare(before, after)?;
        return writeln!(std::io::stdout(), "{table}").context("cannot write to standard output");
    }
    // Fails only when it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match options.what {
        What::Rollout => return judge(&options, rollout::run),
        What::Check => return judge(&options, check::run),
        What::Soak => return judge(&options, soak::run),
        _ => {}
    }
    let telemetry = kit::telemetry::start(&kit::settings::TelemetrySettings {
        otlp_endpoint: None,
        log: "info".to_owned(),
        log_format: kit::settings::LogFormat::Json,
    })?;
    let progress = progress_bar()?;
    let say = |what: &str| progress.set_message(what.to_owned());

    // The callers have threads of their own, so that the services' processor time can be told apart.
    let services = runtime(cpu::SERVICES)?;
    let load = runtime("load")?;
    let limits = match options.what {
        What::Fair => fair::limits(),
        _ => LimitSettings::NONE,
    };
    let cache = CacheSettings {
        cache_entries: options.cache,
    };
    let postgres = options.postgres.clone();
    let system = services.block_on(async {
        match options.what {
            What::Fair => System::start_apart(postgres, limits, Cores::shared()?, &say).await,
            What::Overload => System::start_apart(postgres, limits, Cores::halved()?, &say).await,
            _ => System::start(postgres, limits, cache, telemetry.registry(), &say).await,
        }
    })?;
    let outcome = load.block_on(async {
        tokio::select! {
            outcome = measure(&system, &options, &say) => outcome,
            interrupted = interrupted() => interrupted.and_then(|()| bail!("interrupted")),
        }
    });
    progress.set_message("stopping");
    services.block_on(system.stop())?;
    progress.finish_and_clear();
    let report = outcome?;
    if let Some(path) = &options.json {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &report.json())?;
    }
    writeln!(std::io::stdout(), "{report}").context("cannot write to standard output")
}

/// A measure whose outcome decides how the bench ends.
trait Judged: Display {
    /// All of it for programs.
    fn json(&self) -> Value;
    /// Fails when what was promised does not hold.
    fn verdict(&self) -> anyhow::Result<()>;
}

/// Takes a measure of services that have processes of their own: this one only calls.
fn judge<T: Judged>(
    options: &Options,
    run: impl AsyncFnOnce(&Options, &(dyn Fn(&str) + Sync)) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let progress = progress_bar()?;
    let say = |what: &str| {
        progress.set_message(what.to_owned());
        if progress.is_hidden() {
            // Nobody is there to read it if this fails.
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    };
    let outcome = runtime("load")?.block_on(async {
        tokio::select! {
            outcome = run(options, &say) => outcome,
            interrupted = interrupted() => interrupted.and_then(|()| bail!("interrupted")),
        }
    })?;
    progress.finish_and_clear();
    if let Some(path) = &options.json {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &outcome.json())?;
    }
    writeln!(std::io::stdout(), "{outcome}").context("cannot write to standard output")?;
    outcome.verdict()
}

fn progress_bar() -> anyhow::Result<ProgressBar> {
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template(
        "{spinner} {elapsed_precise} {msg}",
    )?);
    progress.enable_steady_tick(Duration::from_millis(200));
    Ok(progress)
}

fn runtime(name: &str) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
}

/// Returns when somebody ends the bench, so that its servers and data go with it.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = ctrl_c() => Ok(interrupted?),
        _ = terminated.recv() => Ok(()),
    }
}

async fn measure(system: &System, options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<Report> {
    if options.what == What::Verify {
        return measure_verifying(system, options, say).await;
    }
    let chosen = |what| options.what == What::All || options.what == what;
    if chosen(What::Idle) {
        say("building the program");
        idle::prepare();
    }
    let profile = match options.what {
        What::Tenants => Profile::Many,
        _ => options.profile,
    };
    let bench = Bench::load(system, options, profile, 0, say).await?;
    if chosen(What::Get) {
        get::prepare(&bench).await?;
    }
    if chosen(What::Create) {
        create::prepare(&bench).await?;
    }
    if chosen(What::List) {
        list::prepare(&bench).await?;
    }
    let title = format!(
        "{}; {}; {} callers, {} rounds of {} s",
        system.description, profile, options.clients, options.rounds, options.seconds
    );
    let mut report = Report::new(title);
    for round in 1..=options.rounds {
        let step = |name: &str| say(&format!("round {round} of {}: {name}", options.rounds));
        if chosen(What::Get) {
            step("get");
            get::round(&bench, &mut report).await?;
        }
        if chosen(What::List) {
            step("list");
            list::round(&bench, &mut report).await?;
        }
        if chosen(What::Create) {
            step("create");
            create::round(&bench, &mut report).await?;
        }
        if chosen(What::Import) {
            step("import");
            import::round(&bench, &mut report).await?;
        }
        if chosen(What::Relay) {
            step("relay");
            relay::round(&bench, options.events, &mut report).await?;
        }
        if chosen(What::Tail) {
            step("tail");
            tail::round(&bench, &mut report).await?;
        }
        if chosen(What::Policies) {
            step("policies");
            policies::round(&bench, &mut report).await?;
        }
        if chosen(What::Refusal) {
            step("refusal");
            refusal::round(&bench, &mut report).await?;
        }
        if chosen(What::Lag) {
            step("lag");
            lag::round(&bench, options.rate, &mut report).await?;
        }
        if chosen(What::Idle) {
            step("idle");
            idle::round(&bench, &mut report).await?;
        }
        if options.what == What::Tenants {
            step("tenants");
            tenants::round(&bench, options.clients, &mut report).await?;
        }
        if options.what == What::Backlog {
            step("backlog");
            lag::backlog(&bench, options.events, &mut report).await?;
        }
        if options.what == What::Fair {
            step(&format!(
                "fair; catalyst top --metrics-urls {}",
                system.admin_url
            ));
            fair::round(system, &bench.firms, bench.time, &mut report).await?;
        }
        if options.what == What::Overload {
            step("overload");
            overload::round(system, &bench.firms, bench.time, &mut report).await?;
        }
        if options.what == What::Oracle {
            step("oracle");
            oracle::round(&bench, round, &mut report).await?;
        }
    }
    if options.what == What::All {
        // Last, so that nothing else is measured beside so many firms.
        measure_many(system, options, &mut report, say).await?;
    }
    Ok(report)
}

/// What 3,000 firms cost that come to those that are there.
async fn measure_many(
    system: &System,
    options: &Options,
    report: &mut Report,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let there = options.profile.firms();
    let bench = Bench::load(system, options, Profile::Many, there, say).await?;
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}: tenants", options.rounds));
        tenants::round(&bench, options.clients, report).await?;
        idle::round_of_more(&bench, report).await?;
    }
    Ok(())
}

async fn measure_verifying(
    system: &System,
    options: &Options,
    say: &dyn Fn(&str),
) -> anyhow::Result<Report> {
    say("writing the log");
    let log = verify::prepare(system, options.records).await?;
    let title = format!(
        "{}; a log of {} records, {} rounds",
        system.description, options.records, options.rounds
    );
    let mut report = Report::new(title);
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}: verify", options.rounds));
        verify::round(system, &log, &mut report).await?;
    }
    Ok(report)
}
