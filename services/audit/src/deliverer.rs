//! Delivers alerts: each until the receiver has accepted it, across restarts.
//!
//! Invariant: what is to be delivered, and when, is in the alert's row. A repeat after an answer that was lost has the
//! same id, by which the receiver knows it.

use std::time::Duration;

use kit::ctx::Clock;
use kit::db::ExemptDb;
use kit::error::chain;
use kit::tasks::Tasks;
use kit::telemetry;
use tracing::Instrument;

use crate::error::Error;
use crate::recorder::Recorder;
use crate::store;
use crate::store::alerts::Due;
use crate::webhook::Webhook;

/// How long an alert under delivery is kept from other replicas.
const LEASE: time::Duration = time::Duration::seconds(30);
/// The longest wait between two tries.
const LONGEST_WAIT: i64 = 300;

/// The task. Replicas may run it side by side.
pub(crate) struct Deliverer {
    pub(crate) exempt: ExemptDb,
    pub(crate) webhook: Webhook,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

impl Deliverer {
    /// Runs until the process stops.
    pub(crate) async fn run(self) {
        let mut appended = self.recorder.listen();
        while !self.tasks.is_stopping() {
            if let Err(error) = self.deliver_due().await {
                tracing::warn!(error = %chain(&error), "alerts could not be read for delivery and will be again");
            }
            tokio::select! {
                () = self.tasks.stopping() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                Ok(()) = appended.changed() => {}
            }
        }
    }

    async fn deliver_due(&self) -> Result<(), Error> {
        while !self.tasks.is_stopping() {
            let now = self.clock.now();
            let due =
                store::alerts::take_due(&mut self.exempt.reader().await?, now, now + LEASE).await?;
            let Some(due) = due else { return Ok(()) };
            let span = tracing::info_span!("alert.deliver", otel.kind = "client", alert.id = %due.id, alert.rule = %due.rule, tenant.id = %due.tenant_id);
            telemetry::set_parent(&span, due.traceparent.as_deref());
            self.deliver(&due).instrument(span).await?;
        }
        Ok(())
    }

    async fn deliver(&self, due: &Due) -> Result<(), Error> {
        let sent = self.webhook.send(due, self.clock.now()).await;
        let mut session = self.exempt.reader().await?;
        match sent {
            Ok(()) => store::alerts::delivered(&mut session, due.tenant_id, due.id).await,
            Err(refusal) => {
                tracing::warn!(alert.id = %due.id, alert.attempts = due.delivery_attempts, error = %chain(&refusal), "an alert was not accepted and is sent again later");
                let at = self.clock.now() + wait(due.delivery_attempts);
                store::alerts::retry_at(&mut session, due.tenant_id, due.id, at).await
            }
        }
    }
}

/// 1, 2, 4 seconds and so on after the first, second, third try.
fn wait(attempts: i32) -> time::Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(16);
    time::Duration::seconds((1_i64 << doublings).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_bounded() {
        let waits: Vec<i64> = [1, 2, 3, 9, 10, 1_000_000]
            .map(|attempts| wait(attempts).whole_seconds())
            .to_vec();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
    }
}
