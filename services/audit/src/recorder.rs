//! What every writer of the log does: appends records, and raises alerts or counts into those that are open.
//!
//! Invariant: alerts of a tenant are raised under the lock of its log, so that repeats meet the alert of the first.

use std::sync::LazyLock;

use kit::{Ctx, Tx};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use tokio::sync::watch;

use crate::alert::{Alert, DeliveryState, REPEAT_WINDOW, Trigger};
use crate::error::Error;
use crate::record::{Entry, Log, Record};
use crate::{events, store};

/// What Prometheus alerts on when no webhook is there, or beside it.
static RAISED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("catalyst")
        .u64_counter("catalyst.alerts.raised")
        .build()
});

/// Writes the log, and tells those who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    /// What becomes of new alerts: delivered, if there is a receiver.
    delivery: DeliveryState,
    appended: watch::Sender<()>,
}

impl Recorder {
    pub(crate) fn new(delivery: DeliveryState) -> Self {
        Self {
            delivery,
            appended: watch::channel(()).0,
        }
    }

    /// Appends entries to a log of the transaction's tenant, in their order. Locks the log to the end of the transaction.
    pub(crate) async fn append(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        log: Log,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Vec<Record>, Error> {
        let mut head = store::log::lock(tx, log).await?;
        let records = head.append(tx.tenant(), log, ctx.now(), entries);
        store::log::insert(tx, log, &records).await?;
        store::log::move_to(tx, log, &head).await?;
        Ok(records)
    }

    /// Raises an alert for each trigger that is no repeat. Call it after [`Recorder::append`], whose lock it needs.
    pub(crate) async fn alert(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        triggers: &[Trigger],
    ) -> Result<(), Error> {
        for trigger in triggers {
            let since = trigger.first_at - REPEAT_WINDOW;
            if store::alerts::count_in(tx, trigger, since, ctx.now()).await? {
                continue;
            }
            let alert = Alert::raised(ctx.new_id(), trigger, self.delivery, ctx.now());
            store::alerts::insert(tx, &alert, trigger).await?;
            tx.emit(events::raised(ctx, &alert));
            RAISED.add(1, &[KeyValue::new("rule", trigger.rule.name)]);
        }
        Ok(())
    }

    /// Tells listeners that something was committed to a log.
    pub(crate) fn committed(&self) {
        self.appended.send_replace(());
    }

    /// Changes when something was committed by this process; other replicas' records are found by looking.
    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        self.appended.subscribe()
    }
}
