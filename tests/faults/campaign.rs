//! One long load through many faults, power cuts among them, judged as a whole at its end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use catalyst::stack::PostgresChoice;
use fastrand::Rng;

use crate::cells::{Cell, Fault, Ground, Moment};
use crate::checker::{Breach, Invariant, Tally, check};
use crate::collect;
use crate::inject::{Scene, inject};
use crate::report::Report;
use crate::stack::{Layout, NotPermitted, Stack};
use crate::trial::{End, Times, Trial, firms};
use crate::workload::Load;
use crate::{begin, devices, first_seed, say};

/// Firms of a campaign, and the workers of each.
const FIRMS: usize = 6;
const WORKERS: usize = 4;
/// Other faults for each power cut.
const OTHERS: usize = 3;
/// How long what is stopped stays so.
const STOPPED: Duration = Duration::from_secs(5);
/// Longer than any campaign's next fault may be away.
const PATIENCE: Duration = Duration::from_mins(30);
/// All of a campaign must come to rest within this.
const REST_WITHIN: Duration = Duration::from_mins(5);

/// What a campaign is to reach.
#[derive(Debug, clap::Args)]
pub(crate) struct Goal {
    /// Acknowledged writes.
    #[arg(long, default_value_t = 200_000)]
    writes: u64,
    /// Power cuts among the faults, in turns of the broker's disk and the database's.
    #[arg(long, default_value_t = 10)]
    power_cuts: usize,
    /// Without it, another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes what became of it to this file as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// auto, system or bundled.
    #[arg(long, default_value = "auto")]
    postgres: PostgresChoice,
}

/// Runs a campaign to its goal.
pub(crate) async fn run(goal: &Goal) -> anyhow::Result<Report> {
    devices::sweep()?;
    let seed = first_seed(goal.seed);
    let mut rng = Rng::with_seed(seed);
    let faults = plan(goal.power_cuts, &mut rng);
    let (writes, count) = (goal.writes, faults.len());
    say(&format!(
        "a campaign of {writes} writes and {count} faults, seed {seed}"
    ));
    let mut stack = begin(&Layout {
        ground: Ground::Powered,
        network: None,
        postgres: goal.postgres.clone(),
    })
    .await?;
    let firms = firms(&stack, &mut rng, FIRMS).await?;
    let issuer = stack.deployment.keys.development_issuer()?;
    let load = Load::start(
        stack.lines.clone(),
        issuer,
        firms,
        WORKERS,
        false,
        rng.u64(..),
    )?;
    let since = Instant::now();
    let spacing = writes / (count as u64 + 1);
    let mut trials = Vec::new();
    for cell in faults {
        load.goes_on(spacing, PATIENCE).await?;
        let trial = one(&mut stack, &load, cell, rng.fork(), seed).await;
        let end = match &trial.end {
            End::Held => "done",
            End::Skipped(why) | End::NotTried(why) => why.as_str(),
            End::Broke(_) => "FAILED",
        };
        let acknowledged = load.acknowledged();
        say(&format!(
            "  {acknowledged} acknowledged; {cell} {}: {end}",
            cell.fault.title()
        ));
        let failed = matches!(trial.end, End::Broke(_));
        trials.push(trial);
        if failed {
            break;
        }
    }
    let left = writes.saturating_sub(load.acknowledged());
    load.goes_on(left.max(1), PATIENCE).await?;
    let history = load.stop().await?;
    let took = since.elapsed();
    let rest = stack.settle(REST_WITHIN).await;
    let evidence = collect::evidence(&stack, &history, rest.unsettled()).await?;
    let verdict = check(&history, &evidence);
    let seconds = took.as_secs_f64();
    let tally = verdict.tally;
    let (reads, refusals, events) = (tally.reads, tally.probes, tally.events);
    say(&format!(
        "  {seconds:.0} s of load; {reads} reads, {refusals} refusals, {events} events"
    ));
    if !verdict.breaches.is_empty() {
        stack.keep();
        say(&format!("  its files are in {}", stack.dir.display()));
    }
    stack.stop().await?;
    trials.push(Trial {
        cell: Cell::SWIZZLE,
        seed,
        tally,
        end: if verdict.breaches.is_empty() {
            End::Held
        } else {
            End::Broke(verdict.breaches)
        },
        times: Times {
            after: took,
            ..Times::default()
        },
    });
    Ok(Report { trials })
}

/// One fault of the campaign; what it did to the writes is judged at the end.
async fn one(stack: &mut Stack, load: &Load, cell: Cell, rng: Rng, seed: u64) -> Trial {
    let since = Instant::now();
    let mut scene = Scene {
        stack,
        load,
        rng,
        stopped: STOPPED,
        forged: Vec::new(),
    };
    let end = match inject(&mut scene, cell).await {
        Ok(()) => End::Held,
        Err(error) if error.is::<NotPermitted>() => End::Skipped(format!("{error:#}")),
        Err(error) => End::Broke(vec![Breach {
            invariant: Invariant::I9,
            what: format!("{error:#}"),
        }]),
    };
    Trial {
        cell,
        seed,
        tally: Tally::default(),
        end,
        times: Times {
            fault: since.elapsed(),
            ..Times::default()
        },
    }
}

/// Power cuts, and others between them, in an order of chance.
fn plan(power_cuts: usize, rng: &mut Rng) -> Vec<Cell> {
    let mut faults = Vec::new();
    for number in 0..power_cuts {
        let fault = if number.is_multiple_of(2) {
            Fault::CutNats
        } else {
            Fault::CutPostgres
        };
        faults.push(fault);
        let others = [
            Fault::KillService,
            Fault::KillPostgres,
            Fault::KillNats,
            Fault::Stop,
        ];
        faults.extend((0..OTHERS).filter_map(|_| rng.choice(others)));
    }
    rng.shuffle(&mut faults);
    let cells = faults.into_iter().map(|fault| Cell {
        fault,
        moment: rng.choice(fault.moments()).copied().unwrap_or(Moment::M1),
    });
    cells.collect()
}
