//! What every writer of the log does: appends records, and raises alerts or counts into those that are open.
//!
//! Invariant: alerts of a tenant are counted and raised under the lock of its log, so that repeats meet the alert of the
//! first, on whichever replica they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use kit::ctx::Actor;
use kit::{Ctx, Tx};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use tokio::sync::watch;
use uuid::Uuid;

use crate::alert::{Alert, DeliveryState, Trigger};
use crate::error::Error;
use crate::flood::{Limits, Sieve, Sighting};
use crate::happening::Happening;
use crate::record::{Entry, Log, Record};
use crate::rulebook::Current;
use crate::rules::{Counter as Hits, Met};
use crate::store::counters::Counted;
use crate::{events, store};

/// Windows that callers who were not verified may have open in one log; beyond, their addresses are not told apart.
const ADDRESSES: i64 = 1_000;

/// What Prometheus alerts on when no sink is there, or beside them.
static RAISED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("catalyst")
        .u64_counter("catalyst.alerts.raised")
        .build()
});

/// Writes the log, and tells those who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    /// The rules and sinks in use.
    rules: watch::Receiver<Arc<Current>>,
    limits: Limits,
    appended: watch::Sender<()>,
}

impl Recorder {
    pub(crate) fn new(rules: watch::Receiver<Arc<Current>>, limits: Limits) -> Self {
        Self {
            rules,
            limits,
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

    /// Appends security events as [`Recorder::append`] does, those of floods as counts.
    pub(crate) async fn append_sifted(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        log: Log,
        sightings: Vec<Sighting>,
    ) -> Result<(), Error> {
        let mut head = store::log::lock(tx, log).await?;
        let keys: BTreeSet<Uuid> = sightings.iter().flat_map(Sighting::keys).collect();
        let keys: Vec<Uuid> = keys.into_iter().collect();
        let windows = store::floods::list(tx, log, &keys).await?;
        let has_addresses = sightings
            .iter()
            .any(|sighting| !sighting.happening.source_address.is_empty());
        let room = if has_addresses {
            ADDRESSES - store::floods::count(tx, log).await?
        } else {
            0
        };
        let now = ctx.now();
        let room = usize::try_from(room).unwrap_or_default();
        let mut sieve = Sieve::new(self.limits, now, windows, room);
        let mut entries = Vec::with_capacity(sightings.len());
        for sighting in sightings {
            entries.extend(sieve.pass(sighting, || ctx.clock().new_uuid()));
        }
        store::floods::save(tx, log, &sieve.into_windows()).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let records = head.append(tx.tenant(), log, now, entries);
        store::log::insert(tx, log, &records).await?;
        store::log::move_to(tx, log, &head).await
    }

    /// Whether any rule looks at domain events.
    pub(crate) fn asks_for_domain_events(&self) -> bool {
        self.rules.borrow().rules.asks_for_domain_events()
    }

    /// Raises an alert wherever events reach the threshold of a rule and are no repeat. Call it after the events were
    /// appended to the tenant's log, whose lock it needs. `knows_offenders` says whether the tenant may keep who they are,
    /// which are its own people.
    pub(crate) async fn alert(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        happenings: &[Happening],
        knows_offenders: bool,
    ) -> Result<(), Error> {
        let current = Arc::clone(&self.rules.borrow());
        let met = current.rules.met(happenings);
        if met.is_empty() {
            return Ok(());
        }
        if knows_offenders {
            keep_offenders(tx, met.iter().map(|it| (it.offender_key, &it.offender))).await?;
        }
        for met in &met {
            self.settle(ctx, tx, &current, met).await?;
        }
        Ok(())
    }

    async fn settle(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        current: &Current,
        met: &Met,
    ) -> Result<(), Error> {
        let Some(trigger) = Trigger::of(met, &met.hits) else {
            return Ok(());
        };
        let since = trigger.first_at - met.rule.repeat_within;
        if store::alerts::count_in(tx, &trigger, since, ctx.now()).await? {
            return Ok(());
        }
        let Some(trigger) = reach(tx, met, trigger).await? else {
            return Ok(());
        };
        let sinks: Vec<(&str, bool)> = current
            .rules
            .routes_of(&met.rule)
            .into_iter()
            .map(|sink| (sink.name.as_str(), sink.resolves()))
            .collect();
        let delivery = if sinks.is_empty() {
            DeliveryState::NotConfigured
        } else {
            DeliveryState::Pending
        };
        let alert = Alert::raised(ctx.new_id(), &trigger, delivery, ctx.now());
        store::alerts::insert(tx, &alert, &trigger).await?;
        if !sinks.is_empty() {
            store::deliveries::insert(tx, alert.id, &sinks, ctx.now()).await?;
        }
        tx.emit(events::raised(ctx, &alert));
        RAISED.add(1, &[KeyValue::new("rule", trigger.rule.name.clone())]);
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

/// What raises an alert, once the threshold of the rule is reached; until then the events are counted.
async fn reach(tx: &mut Tx, met: &Met, trigger: Trigger) -> Result<Option<Trigger>, Error> {
    if met.rule.threshold == 1 {
        return Ok(Some(trigger));
    }
    let known = store::counters::take(tx, met).await?;
    let mut counted = known.unwrap_or_else(|| Counted {
        counter: Hits::default(),
        event_id: met.event_id,
        traceparent: met.traceparent.clone(),
        offender_key: met.offender_key,
    });
    match counted.counter.add(&met.rule, &met.hits) {
        Some(hits) => Ok(Trigger::of(met, &hits).map(|reached| Trigger {
            event_id: counted.event_id,
            traceparent: counted.traceparent,
            offender_key: counted.offender_key,
            ..reached
        })),
        None => {
            // By then a hit that comes late would no longer be kept.
            let expires_at = trigger.last_at + met.rule.window * 2;
            store::counters::insert(tx, met, &counted, expires_at).await?;
            Ok(None)
        }
    }
}

/// Keeps who is behind keys of offenders, in the tenant of the transaction, which is theirs. Nobody is not kept.
pub(crate) async fn keep_offenders<'a>(
    tx: &mut Tx,
    offenders: impl Iterator<Item = (Uuid, &'a Actor)>,
) -> Result<(), Error> {
    let known: BTreeMap<Uuid, &Actor> = offenders
        .filter(|(_, actor)| !actor.id().is_empty())
        .collect();
    if known.is_empty() {
        return Ok(());
    }
    store::alerts::insert_offenders(tx, &known).await
}
