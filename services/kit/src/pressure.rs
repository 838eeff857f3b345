//! Backpressure: how much waits in the outbox of a service, and what its writers feel of it.
//!
//! Past the bounds of the settings each mutation waits before it begins a transaction, so that nothing is locked
//! meanwhile, the longer the more there is; past the hard bound it is refused with a time to come back. Reads go on, and
//! so does what an event causes. Invariant: a change that was let in is never lost for it.
//! Every replica looks for itself, about once a second, whether or not its relay holds the lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use crate::Error;
use crate::cells::CellName;
use crate::class::Class;
use crate::ctx::Ctx;
use crate::settings::OutboxSettings;
use crate::telemetry::METRICS;

/// How long a mutation waits at most.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Between two looks at an outbox that is deeper than a batch.
const PERIOD: Duration = Duration::from_secs(1);
/// Looking takes at most this part of the time: counting a million rows is not done every second.
const SHARE: u32 = 20;
/// Rows that are counted at most, unless the hard bound is higher.
const COUNTED: u64 = 1_000_000;

/// What waits in an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Backlog {
    pub(crate) rows: u64,
    /// Seconds since the oldest row was written.
    pub(crate) age: f64,
}

/// What the backlog of a service in a cell asks of its writers. A clone is of the same.
#[derive(Clone, Debug)]
pub(crate) struct Pressure {
    service: &'static str,
    bounds: OutboxSettings,
    seen: Arc<Seen>,
}

/// The last look.
#[derive(Debug, Default)]
struct Seen {
    rows: AtomicU64,
    age_millis: AtomicU64,
}

/// What becomes of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Wait(Duration),
    Refuse,
}

impl Pressure {
    pub(crate) fn new(service: &'static str, bounds: OutboxSettings) -> Self {
        // A counter that appears with its first count is no increase to whoever watches it.
        METRICS.slowed.add(0, &[KeyValue::new("service", service)]);
        METRICS.shed.add(0, &shed_labels(service));
        Self {
            service,
            bounds,
            seen: Arc::default(),
        }
    }

    fn tell(&self, backlog: Backlog) {
        let age = Duration::try_from_secs_f64(backlog.age).unwrap_or_default();
        let age_millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.seen.rows.store(backlog.rows, Ordering::Relaxed);
        self.seen.age_millis.store(age_millis, Ordering::Relaxed);
    }

    fn demand(&self) -> Demand {
        let rows = self.seen.rows.load(Ordering::Relaxed);
        if rows >= self.bounds.outbox_max_rows {
            return Demand::Refuse;
        }
        let age_millis = self.seen.age_millis.load(Ordering::Relaxed);
        let slow_millis = u64::from(self.bounds.outbox_slow_seconds).saturating_mul(1_000);
        let wait = wait(rows, self.bounds.outbox_slow_rows).max(wait(age_millis, slow_millis));
        Demand::Wait(wait)
    }

    /// Lets a mutation begin when the backlog allows it. To be called before anything is held.
    pub(crate) async fn admit(&self, ctx: &Ctx) -> Result<(), Error> {
        if ctx.method().is_empty() || Class::of(ctx.method()) != Class::Write {
            return Ok(());
        }
        match self.demand() {
            Demand::Wait(Duration::ZERO) => {}
            Demand::Wait(wait) => {
                METRICS
                    .slowed
                    .add(1, &[KeyValue::new("service", self.service)]);
                tokio::time::sleep(wait).await;
            }
            Demand::Refuse => {
                METRICS.shed.add(1, &shed_labels(self.service));
                return Err(Error::Overloaded);
            }
        }
        Ok(())
    }
}

fn shed_labels(service: &'static str) -> [KeyValue; 2] {
    [
        KeyValue::new("service", service),
        KeyValue::new("reason", "outbox"),
    ]
}

/// From nothing at the bound to the longest wait at twice the bound.
fn wait(seen: u64, bound: u64) -> Duration {
    let excess = seen.saturating_sub(bound);
    let millis = u128::from(excess) * LONGEST_WAIT.as_millis() / u128::from(bound.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).min(LONGEST_WAIT)
}

/// Tells of one outbox what its relay sees: to the metrics, and to the writers that fill it.
#[derive(Debug)]
pub(crate) struct Watch {
    labels: [KeyValue; 3],
    pressure: Option<Pressure>,
    /// When counting is worth it again.
    due: Mutex<Option<Instant>>,
}

impl Watch {
    /// Without a pressure nobody is slowed.
    pub(crate) fn new(
        service: &'static str,
        cell: &CellName,
        outbox: &'static str,
        pressure: Option<Pressure>,
    ) -> Self {
        Self {
            labels: [
                KeyValue::new("service", service),
                KeyValue::new("cell", cell.to_string()),
                KeyValue::new("outbox", outbox),
            ],
            pressure,
            due: Mutex::default(),
        }
    }

    pub(crate) fn labels(&self) -> &[KeyValue] {
        &self.labels
    }

    /// How many rows it is worth to count.
    pub(crate) fn limit(&self) -> u64 {
        let bounds = self.pressure.as_ref().map(|it| &it.bounds);
        bounds.map_or(COUNTED, |it| it.outbox_max_rows.max(COUNTED))
    }

    pub(crate) fn is_due(&self) -> bool {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.is_none_or(|due| Instant::now() >= due)
    }

    /// Notes a count that began at `begun`.
    pub(crate) fn counted(&self, begun: Instant, backlog: Backlog) {
        let pause = begun.elapsed().saturating_mul(SHARE).max(PERIOD);
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
        self.tell(backlog);
    }

    pub(crate) fn tell(&self, backlog: Backlog) {
        METRICS.outbox_depth.record(backlog.rows, &self.labels);
        METRICS.outbox_age.record(backlog.age, &self.labels);
        if let Some(pressure) = &self.pressure {
            pressure.tell(backlog);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(rows: u64, age: f64) -> Pressure {
        let pressure = Pressure::new("projects", OutboxSettings::default());
        pressure.tell(Backlog { rows, age });
        pressure
    }

    #[test]
    fn writers_wait_the_longer_the_more_there_is_and_are_refused_past_the_hard_bound() {
        let wait = |millis| Demand::Wait(Duration::from_millis(millis));
        for (rows, age, demand) in [
            (0, 0.0, wait(0)),
            (100_000, 60.0, wait(0)),
            (120_000, 0.0, wait(100)),
            (300_000, 0.0, wait(500)),
            (10, 66.0, wait(50)),
            (10, 3_600.0, wait(500)),
            (120_000, 66.0, wait(100)),
            (999_999, 0.0, wait(500)),
            (1_000_000, 0.0, Demand::Refuse),
        ] {
            assert_eq!(pressure(rows, age).demand(), demand, "{rows} rows, {age} s");
        }
    }
}
