//! Delivers alerts: each to each of its sinks until that sink has accepted it, across restarts.
//!
//! Invariant: what a sink is to be told, and when, is in a row of its own, so that one that is away delays no other.
//! A repeat after an answer that was lost, or by a replica that took longer than its lease, has the same id or labels,
//! by which the receiver knows it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kit::ctx::Clock;
use kit::db::ExemptDb;
use kit::error::chain;
use kit::tasks::Tasks;
use kit::telemetry;
use opentelemetry::metrics::{Counter, Gauge};
use opentelemetry::{KeyValue, global};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::error::Error;
use crate::recorder::Recorder;
use crate::rulebook::Current;
use crate::sinks::Sink;
use crate::store;
use crate::store::deliveries::Due;

/// How long an alert under delivery is kept from other replicas.
const LEASE: time::Duration = time::Duration::seconds(30);
/// The longest wait between two tries, before jitter.
const LONGEST_WAIT: i64 = 48;

/// Tries by sink and outcome.
static TRIES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("catalyst")
        .u64_counter("catalyst.alerts.deliveries")
        .build()
});

/// Alerts that a sink has not accepted yet.
static WAITING: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("catalyst")
        .u64_gauge("catalyst.alerts.waiting")
        .build()
});

/// The task. Replicas may run it side by side.
#[derive(Clone)]
pub(crate) struct Deliverer {
    pub(crate) exempt: ExemptDb,
    pub(crate) rules: watch::Receiver<Arc<Current>>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

impl Deliverer {
    /// Runs until the process stops: a task for each sink that has something due.
    pub(crate) async fn run(self) {
        let mut appended = self.recorder.listen();
        let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
        while !self.tasks.is_stopping() {
            running.retain(|_, task| !task.is_finished());
            let sinks = self.rules.borrow().sinks.clone();
            for sink in sinks {
                if !running.contains_key(&sink.name) {
                    let task = self.clone().deliver_to(Arc::clone(&sink));
                    running.insert(sink.name.clone(), self.tasks.spawn(task));
                }
            }
            tokio::select! {
                () = self.tasks.stopping() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                Ok(()) = appended.changed() => {}
            }
        }
    }

    async fn deliver_to(self, sink: Arc<Sink>) {
        if let Err(error) = self.deliver_due(&sink).await {
            tracing::warn!(sink = sink.name, error = %chain(&error), "alerts could not be read for delivery and will be again");
        }
    }

    /// Sends all that is due, and stops at the first refusal: what else waits would only wait in line for the time-outs
    /// of a sink that is away.
    async fn deliver_due(&self, sink: &Sink) -> Result<(), Error> {
        if sink.is_of_old() {
            let now = self.clock.now();
            store::deliveries::adopt(&mut self.exempt.reader().await?, &sink.name, now).await?;
        }
        let mut accepted = true;
        while accepted && !self.tasks.is_stopping() {
            let now = self.clock.now();
            let mut session = self.exempt.reader().await?;
            let due =
                store::deliveries::take_due(&mut session, &sink.name, now, now + LEASE).await?;
            drop(session);
            let Some(due) = due else { break };
            let span = tracing::info_span!("alert.deliver", otel.kind = "client", sink = sink.name, alert.id = %due.id, alert.rule = %due.rule, tenant.id = %due.tenant_id);
            telemetry::set_parent(&span, due.traceparent.as_deref());
            accepted = self.deliver(sink, &due).instrument(span).await?;
        }
        let mut session = self.exempt.reader().await?;
        let waiting = store::deliveries::waiting(&mut session, &sink.name).await?;
        let labels = [KeyValue::new("sink", sink.name.clone())];
        WAITING.record(u64::try_from(waiting).unwrap_or_default(), &labels);
        Ok(())
    }

    /// Whether the sink has accepted it.
    async fn deliver(&self, sink: &Sink, due: &Due) -> Result<bool, Error> {
        let sent = sink.send(due, self.clock.now()).await;
        let outcome = if sent.is_ok() { "accepted" } else { "refused" };
        let labels = [
            KeyValue::new("sink", sink.name.clone()),
            KeyValue::new("outcome", outcome),
        ];
        TRIES.add(1, &labels);
        let mut session = self.exempt.reader().await?;
        let now = self.clock.now();
        match sent {
            Ok(()) => {
                let again_at = sink.again_at(due, now);
                store::deliveries::accepted(&mut session, due, &sink.name, now, again_at).await?;
                Ok(true)
            }
            Err(refusal) => {
                tracing::warn!(sink = sink.name, alert.id = %due.id, alert.attempts = due.attempts, error = %chain(&refusal), "an alert was not accepted and is sent again later");
                let at = now + jittered(wait(due.attempts));
                store::deliveries::retry_at(&mut session, due, &sink.name, at).await?;
                Ok(false)
            }
        }
    }
}

/// 1, 2, 4 seconds and so on after the first, second, third try.
fn wait(attempts: i32) -> time::Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(16);
    time::Duration::seconds((1_i64 << doublings).min(LONGEST_WAIT))
}

/// Up to a quarter longer, different each time, so that what failed together is not tried together.
fn jittered(wait: time::Duration) -> time::Duration {
    wait + wait * fastrand::f64() / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_bounded() {
        let waits: Vec<i64> = [1, 2, 3, 6, 7, 1_000_000]
            .map(|attempts| wait(attempts).whole_seconds())
            .to_vec();
        assert_eq!(waits, [1, 2, 4, 32, 48, 48]);
        for _ in 0..100 {
            let longest = jittered(wait(1_000_000));
            assert!(longest >= wait(1_000_000) && longest <= time::Duration::MINUTE);
        }
    }
}
