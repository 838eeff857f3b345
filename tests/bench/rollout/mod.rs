//! Rolling restarts under load: two replicas of every service, each restarted in turn, while callers that never repeat a
//! call go on.
//!
//! Invariants: a call that fails counts, whatever made it fail; what was acknowledged is in its table once, and its
//! event on record once.

mod balance;
mod callers;
mod replica;

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catalyst::deployment::Deployment;
use catalyst::services;
use catalyst::stack::{NatsChoice, StackOptions};
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use crate::system::settle;
use crate::{Judged, Options};
use balance::Places;
use callers::{Load, Outcome};
use replica::Replica;
pub(crate) use replica::spawn;

/// Calls a second where nothing else is said.
const RATE: u32 = 250;
/// The services whose callers' writes are counted, with the table of each.
const WRITTEN: [&str; 3] = [
    "consultants.consultant",
    "projects.project",
    "time_entries.time_entry",
];

/// What became of it all.
pub(crate) struct Rollout {
    restarts: usize,
    rounds: u32,
    outcome: Outcome,
    elapsed: Duration,
    slowest_stop: Duration,
    slowest_start: Duration,
    rows: i64,
    events: i64,
    recorded: i64,
}

/// Runs the rounds on servers of its own.
pub(crate) async fn run(options: &Options, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Rollout> {
    let dir = harness::temporary_folder()?;
    let stack = StackOptions {
        dir: dir.clone(),
        postgres: options.postgres.clone(),
        nats: NatsChoice::Auto,
        durable: true,
        cells: Vec::new(),
    };
    let deployment = Deployment::start(stack, say).await?;
    let outcome = restart_all(&deployment, options, say).await;
    deployment.stack.stop().await?;
    if outcome.is_ok() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    outcome.with_context(|| format!("logs are in {}", dir.display()))
}

async fn restart_all(
    deployment: &Deployment,
    options: &Options,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Rollout> {
    say("starting two replicas of every service");
    let mut replicas = Vec::new();
    let mut places = Places::default();
    for definition in services::ALL {
        for number in 0..2 {
            let replica = Replica::start(deployment, definition.name, number).await?;
            places.add(definition.name, replica.place());
            replicas.push(replica);
        }
    }
    say("admitting the firms");
    let load = Load::prepare(deployment, &places, options.clients).await?;

    let mut rollout = Rollout {
        restarts: 0,
        rounds: options.rounds,
        outcome: Outcome::default(),
        elapsed: Duration::ZERO,
        slowest_stop: Duration::ZERO,
        slowest_start: Duration::ZERO,
        rows: 0,
        events: 0,
        recorded: 0,
    };
    let began = Instant::now();
    let running = load.start(options.rate.unwrap_or(RATE));
    for round in 1..=options.rounds {
        for replica in &mut replicas {
            say(&format!(
                "round {round} of {}: restarting {}; {} calls, {} failed",
                options.rounds,
                replica.name(),
                running.calls(),
                running.failed(),
            ));
            let stopped = replica.stop().await?;
            rollout.slowest_stop = rollout.slowest_stop.max(stopped);
            let started = replica.start_again().await?;
            rollout.slowest_start = rollout.slowest_start.max(started);
            rollout.restarts += 1;
        }
    }
    rollout.outcome = running.stop().await?;
    rollout.elapsed = began.elapsed();

    say("waiting until every event is on record");
    settle(deployment).await?;
    let mut admin = PgConnection::connect(&deployment.stack.postgres_admin_url).await?;
    let written = &rollout.outcome.written;
    for table in WRITTEN {
        let rows = format!("select count(*) from {table} where id = any($1)");
        rollout.rows += count(&mut admin, rows, written).await?;
    }
    // A created aggregate has version 1.
    let events = "select count(*) from audit.record \
                  where category = 'domain' and version = 1 and aggregate_id = any($1)";
    rollout.events = count(&mut admin, events.to_owned(), written).await?;
    let recorded = events.replace("count(*)", "count(distinct aggregate_id)");
    rollout.recorded = count(&mut admin, recorded, written).await?;
    for replica in &mut replicas {
        replica.stop().await?;
    }
    Ok(rollout)
}

async fn count(admin: &mut PgConnection, sql: String, ids: &[Uuid]) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(ids)
        .fetch_one(admin)
        .await?)
}

impl Rollout {
    fn figures(&self) -> [(&'static str, String); 11] {
        let outcome = &self.outcome;
        let calls = outcome.calls();
        let per_second = crate::load::count(calls) / self.elapsed.as_secs_f64();
        let ms = |percent| format!("{:.1} ms", outcome.percentile(percent));
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        [
            ("rounds", self.rounds.to_string()),
            ("replicas restarted", self.restarts.to_string()),
            ("calls", calls.to_string()),
            ("failed", outcome.failed().to_string()),
            ("calls/s", format!("{per_second:.0}")),
            ("p50", ms(50)),
            ("p99", ms(99)),
            ("slowest stop", seconds(self.slowest_stop)),
            ("slowest start until ready", seconds(self.slowest_start)),
            (
                "writes acknowledged, in their tables",
                format!("{}, {}", outcome.written.len(), self.rows),
            ),
            (
                "their events on record, at least once, in all",
                format!("{}, {}", self.recorded, self.events),
            ),
        ]
    }
}

impl Judged for Rollout {
    /// Fails when a caller would have noticed the restarts, or an event is missing or there twice.
    fn verdict(&self) -> anyhow::Result<()> {
        let failures = &self.outcome.failures;
        ensure!(
            failures.is_empty(),
            "{} calls failed:\n{}",
            self.outcome.failed(),
            failures.join("\n")
        );
        let written = i64::try_from(self.outcome.written.len())?;
        ensure!(self.rows == written, "acknowledged rows are missing");
        ensure!(
            self.recorded == written,
            "events of acknowledged rows are missing"
        );
        ensure!(self.events == written, "events are on record twice");
        ensure!(
            self.slowest_stop <= Duration::from_secs(10),
            "a replica took longer than 10 s to stop"
        );
        Ok(())
    }

    fn json(&self) -> Value {
        self.figures()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["rolling restarts", ""]);
        for (name, value) in self.figures() {
            table.add_row([name, &value]);
        }
        write!(f, "{table}")
    }
}
