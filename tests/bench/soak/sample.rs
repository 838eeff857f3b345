//! What is looked at every ten seconds: the process, its outboxes, and the calls since the last look.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use catalyst::services;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tonic::Status;

use crate::load::{Load, count, told};
use crate::program::{descriptors, resident, threads};

pub(super) const MIB: f64 = 1_048_576.0;
/// So many failures are told in full.
const TOLD: usize = 20;

/// The calls since the last look, and what became of all.
#[derive(Default)]
pub(super) struct Window(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    latencies: Vec<Duration>,
    failed: usize,
    repeated: usize,
    all: Tally,
}

/// What became of all calls.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) calls: usize,
    pub(super) failed: usize,
    pub(super) repeated: usize,
    /// The first failures.
    pub(super) told: Vec<String>,
}

/// One look.
pub(super) struct Sample {
    /// Since the first call.
    pub(super) at: Duration,
    pub(super) resident_mib: f64,
    pub(super) descriptors: f64,
    pub(super) threads: f64,
    pub(super) outboxes: Vec<Outbox>,
    pub(super) calls: f64,
    pub(super) failed: f64,
    pub(super) repeated: f64,
    /// In milliseconds since a call was due.
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Both outbox tables of a service: of its events, and of its security events.
#[derive(Clone)]
pub(super) struct Outbox {
    pub(super) service: &'static str,
    pub(super) rows: f64,
    /// With indexes and what is dead.
    pub(super) mib: f64,
}

impl Window {
    /// Counts a call that took so long since it was due.
    pub(super) fn add(
        &self,
        name: &str,
        took: Duration,
        (repeated, outcome): (usize, Result<(), Status>),
    ) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.repeated += repeated;
        calls.all.repeated += repeated;
        calls.all.calls += 1;
        match outcome {
            Ok(()) => calls.latencies.push(took),
            Err(status) => {
                calls.failed += 1;
                calls.all.failed += 1;
                if calls.all.told.len() < TOLD {
                    let told = format!(
                        "{name} after {took:.1?}, {repeated} repeats: {}",
                        told(&status)
                    );
                    calls.all.told.push(told);
                }
            }
        }
    }

    /// All calls so far.
    pub(super) fn all(&self) -> Tally {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.all.clone()
    }

    /// The calls since the last time, failed and repeated ones.
    fn take(&self, elapsed: Duration) -> (Load, f64, f64) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latencies = std::mem::take(&mut calls.latencies);
        let failed = count(std::mem::take(&mut calls.failed));
        let repeated = count(std::mem::take(&mut calls.repeated));
        (Load::of(latencies, elapsed), failed, repeated)
    }
}

impl Sample {
    /// Looks at everything.
    pub(super) async fn take(
        at: Duration,
        since_last: Duration,
        pid: u32,
        window: &Window,
        admin: &mut PgConnection,
    ) -> anyhow::Result<Self> {
        let (load, failed, repeated) = window.take(since_last);
        Ok(Self {
            at,
            resident_mib: resident(pid)? / MIB,
            descriptors: descriptors(pid)?,
            threads: threads(pid)?,
            outboxes: outboxes(admin).await?,
            calls: load.calls + failed,
            failed,
            repeated,
            p50: load.percentile(50),
            p99: load.percentile(99),
        })
    }

    pub(super) fn minutes(&self) -> f64 {
        self.at.as_secs_f64() / 60.0
    }

    pub(super) fn outbox_rows(&self) -> f64 {
        self.outboxes.iter().map(|outbox| outbox.rows).sum()
    }

    pub(super) fn outbox_mib(&self) -> f64 {
        self.outboxes.iter().map(|outbox| outbox.mib).sum()
    }

    pub(super) fn json(&self) -> Value {
        let outboxes = self.outboxes.iter().map(
            |outbox| json!({ "service": outbox.service, "rows": outbox.rows, "mib": outbox.mib }),
        );
        json!({
            "seconds": self.at.as_secs_f64(),
            "resident_mib": self.resident_mib,
            "descriptors": self.descriptors,
            "threads": self.threads,
            "outboxes": outboxes.collect::<Value>(),
            "calls": self.calls,
            "failed": self.failed,
            "repeated": self.repeated,
            "p50_ms": self.p50,
            "p99_ms": self.p99,
        })
    }
}

/// The outboxes of all services.
pub(super) async fn outboxes(admin: &mut PgConnection) -> anyhow::Result<Vec<Outbox>> {
    let mut outboxes = Vec::new();
    for definition in services::ALL {
        let schema = definition.schema;
        let look = format!(
            "select ((select count(*) from {schema}.outbox) \
                     + (select count(*) from {schema}.security_outbox))::float8, \
                    (pg_total_relation_size('{schema}.outbox') \
                     + pg_total_relation_size('{schema}.security_outbox'))::float8"
        );
        let (rows, bytes): (f64, f64) = sqlx::query_as(AssertSqlSafe(look))
            .fetch_one(&mut *admin)
            .await?;
        outboxes.push(Outbox {
            service: definition.name,
            rows,
            mib: bytes / MIB,
        });
    }
    Ok(outboxes)
}
