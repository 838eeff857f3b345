//! A soak: all services as a process of their own, called for long at half of what the machine can do, and what may not
//! grow meanwhile.
//!
//! Invariant: calls are made when they are due, whether answers come or not, and their time counts from then.

mod calls;
mod sample;
mod verdict;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::{CellAlignment, Table, presets};
use kit::settings::LimitSettings;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::interval_at;

use crate::cores::Cores;
use crate::load::{Callers, Pace, closed_loop};
use crate::report::{Spread, number};
use crate::system::System;
use crate::{Judged, Options, seed};
use calls::Mixed;
use sample::{Outbox, Sample, Tally, Window, outboxes};
use verdict::{EMPTY_WITHIN, Goal, WARM_UP, goals};

/// How long one measures what the machine can do.
const CAPACITY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(10);
/// The table shows about so many of the looks, the JSON all.
const SHOWN: usize = 30;

/// What was seen.
pub(crate) struct Soak {
    title: String,
    /// Calls a second.
    capacity: f64,
    rate: u32,
    warm_up: Duration,
    samples: Vec<Sample>,
    /// When there was no call yet.
    outboxes_before: Vec<Outbox>,
    outboxes_after: Vec<Outbox>,
    /// How long the outboxes took to empty; none if they did not in time.
    emptied: Option<Duration>,
    tally: Tally,
}

/// Starts servers and services, and calls for the minutes that the options say.
pub(crate) async fn run(options: &Options, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Soak> {
    let (postgres, limits) = (options.postgres.clone(), LimitSettings::NONE);
    let mut system = System::start_apart(postgres, limits, Cores::shared()?, say).await?;
    let outcome = soak(&mut system, options, say).await;
    say("stopping");
    system.conclude(outcome).await
}

async fn soak(system: &mut System, options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<Soak> {
    say("loading the data");
    let firms = seed::load(system, options.profile, 0, say).await?;
    let callers = Callers::new(system, &firms, options.clients)?;

    say("measuring what the machine can do");
    // New processes and caches are no part of it.
    closed_loop(callers.each(Mixed).await?, Duration::from_secs(1)).await?;
    let reached = closed_loop(callers.each(Mixed).await?, CAPACITY).await?;
    let capacity = reached.per_second;
    system.settle().await?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "calls a second, rounded down"
    )]
    let rate = ((capacity / 2.0) as u32).max(1);

    let time = Duration::from_secs(60 * options.minutes);
    let mut admin = system.admin().await?;
    let outboxes_before = outboxes(&mut admin).await?;
    let window = Arc::new(Window::default());
    let lines = callers.each(Mixed).await?;
    let (samples, last) = tokio::try_join!(
        watch(system, time, &window, say),
        call(lines, rate, time, &window),
    )?;

    say("waiting for the outboxes");
    let emptied = harness::within(EMPTY_WITHIN, async || {
        let outboxes = outboxes(&mut admin).await.ok()?;
        let empty = outboxes.iter().all(|outbox| outbox.rows < 1.0);
        empty.then(|| last.elapsed())
    });
    let emptied = emptied.await;
    Ok(Soak {
        title: format!(
            "{}; {}; {} min, {} callers",
            system.description, options.profile, options.minutes, options.clients
        ),
        capacity,
        rate,
        warm_up: WARM_UP.min(time / 2),
        samples,
        outboxes_before,
        outboxes_after: outboxes(&mut admin).await?,
        emptied,
        tally: window.all(),
    })
}

/// Calls at the rate; when the last answer came.
async fn call(
    mut lines: Vec<Mixed>,
    rate: u32,
    time: Duration,
    window: &Arc<Window>,
) -> anyhow::Result<Instant> {
    let mut pace = Pace::of(rate)?;
    let mut running = JoinSet::new();
    let started = Instant::now();
    let mut turn = 0;
    loop {
        let due = pace.next().await?;
        if due.saturating_duration_since(started) >= time {
            break;
        }
        turn = (turn + 1) % lines.len();
        let line = lines.get_mut(turn).context("there is a caller")?;
        let asked = line.next()?;
        let window = Arc::clone(window);
        running.spawn(async move {
            let outcome = asked.make_or_repeat().await;
            window.add(asked.name(), due.elapsed(), outcome);
        });
        while let Some(ended) = running.try_join_next() {
            ended?;
        }
    }
    while let Some(ended) = running.join_next().await {
        ended?;
    }
    Ok(Instant::now())
}

/// Looks every ten seconds until the time is over.
async fn watch(
    system: &mut System,
    time: Duration,
    window: &Window,
    say: &dyn Fn(&str),
) -> anyhow::Result<Vec<Sample>> {
    let mut admin = system.admin().await?;
    let program = system.program().context("services are a process")?;
    let started = Instant::now();
    let mut looks = interval_at(tokio::time::Instant::now() + LOOK, LOOK);
    let mut samples: Vec<Sample> = Vec::new();
    while started.elapsed() + LOOK / 2 < time {
        looks.tick().await;
        program.runs()?;
        let at = started.elapsed();
        let since_last = at.saturating_sub(samples.last().map_or(Duration::ZERO, |last| last.at));
        let sample = Sample::take(at, since_last, program.pid()?, window, &mut admin).await?;
        say(&progress(&sample, since_last, time));
        samples.push(sample);
    }
    Ok(samples)
}

fn progress(sample: &Sample, since_last: Duration, time: Duration) -> String {
    format!(
        "{:.1} of {} min: {:.1} MiB, {} descriptors, {} threads; outboxes {} rows, {:.1} MiB; \
         {:.0} calls/s, {} failed, {} repeated, p50 {:.2} ms, p99 {:.2} ms",
        sample.minutes(),
        time.as_secs() / 60,
        sample.resident_mib,
        sample.descriptors,
        sample.threads,
        sample.outbox_rows(),
        sample.outbox_mib(),
        sample.calls / since_last.as_secs_f64(),
        sample.failed,
        sample.repeated,
        sample.p50,
        sample.p99,
    )
}

impl Soak {
    fn goals(&self) -> [Goal; 5] {
        goals(&self.samples, self.tally.failed, self.warm_up, self.emptied)
    }

    fn spread(&self, of: fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(of))
    }

    /// Each outbox: its service, and its most rows and its sizes at any look.
    fn outboxes(&self) -> impl Iterator<Item = (&'static str, Spread, Spread)> {
        self.outboxes_before
            .iter()
            .enumerate()
            .map(|(place, before)| {
                let looks = self
                    .samples
                    .iter()
                    .filter_map(move |sample| sample.outboxes.get(place));
                let (rows, sizes) = looks
                    .map(|outbox| (outbox.rows, outbox.mib))
                    .unzip::<_, _, Vec<_>, Vec<_>>();
                (
                    before.service,
                    Spread::of(rows.into_iter()),
                    Spread::of(sizes.into_iter()),
                )
            })
    }
}

impl Judged for Soak {
    fn json(&self) -> Value {
        let goals = self.goals().map(|goal| {
            json!({ "what": goal.what, "value": goal.value, "goal": goal.bound, "held": goal.holds })
        });
        json!({
            "title": self.title,
            "capacity": self.capacity,
            "rate": self.rate,
            "warm_up_seconds": self.warm_up.as_secs_f64(),
            "calls": self.tally.calls,
            "failed": self.tally.failed,
            "repeated": self.tally.repeated,
            "failures": self.tally.told,
            "goals": goals,
            "samples": self.samples.iter().map(Sample::json).collect::<Value>(),
        })
    }

    fn verdict(&self) -> anyhow::Result<()> {
        let goals = self.goals();
        let missed: Vec<&str> = goals
            .iter()
            .filter(|goal| !goal.holds)
            .map(|goal| goal.what)
            .collect();
        ensure!(
            missed.is_empty(),
            "not held: {}\n{}",
            missed.join("; "),
            self.tally.told.join("\n")
        );
        Ok(())
    }
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            calls,
            failed,
            repeated,
            ..
        } = self.tally;
        writeln!(
            f,
            "{}; {} of {} calls/s; {calls} calls, {failed} failed, {repeated} repeated",
            self.title,
            self.rate,
            number(self.capacity),
        )?;
        writeln!(f, "{}\n", self.looks())?;
        writeln!(f, "{}\n", self.table_of_outboxes())?;
        write!(f, "{}", self.table_of_goals())
    }
}

impl Soak {
    fn looks(&self) -> Table {
        let mut table = table(&[
            "min",
            "MiB",
            "descriptors",
            "threads",
            "outbox rows",
            "outbox MiB",
            "calls",
            "failed",
            "repeated",
            "p50 ms",
            "p99 ms",
        ]);
        let step = self.samples.len().div_ceil(SHOWN).max(1);
        let last = self.samples.len().saturating_sub(1);
        for (place, sample) in self.samples.iter().enumerate() {
            if place % step == 0 || place == last {
                table.add_row([
                    format!("{:.1}", sample.minutes()),
                    format!("{:.1}", sample.resident_mib),
                    sample.descriptors.to_string(),
                    sample.threads.to_string(),
                    sample.outbox_rows().to_string(),
                    format!("{:.2}", sample.outbox_mib()),
                    sample.calls.to_string(),
                    sample.failed.to_string(),
                    sample.repeated.to_string(),
                    number(sample.p50),
                    number(sample.p99),
                ]);
            }
        }
        let (p50, p99) = (
            self.spread(|sample| sample.p50),
            self.spread(|sample| sample.p99),
        );
        let mut median = vec![String::new(); 9];
        if let Some(first) = median.first_mut() {
            "median".clone_into(first);
        }
        median.extend([number(p50.median), number(p99.median)]);
        table.add_row(median);
        table
    }

    fn table_of_outboxes(&self) -> Table {
        let mut table = table(&[
            "outbox",
            "most rows",
            "MiB before",
            "MiB at most",
            "rows after",
            "MiB after",
        ]);
        let ends = self.outboxes_before.iter().zip(&self.outboxes_after);
        for ((service, rows, sizes), (before, after)) in self.outboxes().zip(ends) {
            table.add_row([
                service.to_owned(),
                rows.max.to_string(),
                format!("{:.2}", before.mib),
                format!("{:.2}", sizes.max),
                after.rows.to_string(),
                format!("{:.2}", after.mib),
            ]);
        }
        table
    }

    fn table_of_goals(&self) -> Table {
        let mut table = table(&["what", "value", "goal", "verdict"]);
        for goal in self.goals() {
            let verdict = if goal.holds { "held" } else { "NOT held" };
            table.add_row([
                goal.what.to_owned(),
                format!("{:.2}", goal.value),
                goal.bound,
                verdict.to_owned(),
            ]);
        }
        table
    }
}

/// A table whose columns, but for the first, hold numbers.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
