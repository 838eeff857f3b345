//! Consumers: events in, effects in the database, once each.
//!
//! A pulled batch is grouped by tenant and each group applied in one transaction of that tenant: inbox rows, effects,
//! commit; then all are acknowledged, the last one doubly. A group that fails is tried again event by event, and in its
//! place while the database is away for a short time, so that nothing behind it is applied first.
//! An event that keeps failing, or that cannot be trusted, goes to the dead-letter stream with its reason, and what comes
//! behind it of the same aggregate follows it there until it is replayed.

mod letters;
pub(crate) mod parking;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures::{FutureExt, StreamExt};
use opentelemetry::KeyValue;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Code;
use tracing::Instrument;
use uuid::Uuid;

use crate::Error;
use crate::bus::Bus;
use crate::ctx::{Actor, Clock, Ctx};
use crate::db::{Db, Tx};
use crate::error::{ServiceError, chain};
use crate::events::{Distrust, Event, Stream};
use crate::failpoint;
use crate::ids::TenantId;
use crate::security::SecurityLog;
use crate::tasks::Tasks;
use crate::telemetry::{self, METRICS};
use parking::{Parking, Turn};

/// Messages asked for at once, and the most that one transaction applies.
const BATCH: usize = 500;
/// Bytes that are asked for at once, fewer events if need be. The client asks again at half of it, and what has come while
/// a batch is applied waits beside that batch: three times as much is held at most.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How often one looks how far the consumer is behind.
const LOOK: Duration = Duration::from_secs(5);
/// How long a group is tried in its place while the database is away: events that are handed back come again in an order
/// of their own, and what is behind them would be applied first.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long the events of other cells wait while those of one are tried one by one, which may be locked for hours.
const OTHERS_WAIT: Duration = Duration::from_secs(2);
/// The first and the longest pause between two tries.
const BREATH: Duration = Duration::from_millis(50);
const LONGEST_BREATH: Duration = Duration::from_secs(1);
/// How often the wait of an event that fails is doubled: up to half a minute.
const FAILING: i64 = 8;
/// The same for one that has done nothing and ought to follow soon, behind it or while its database is away: up to three
/// seconds.
const PATIENT: i64 = 5;
/// Why an event is set aside that has not failed itself.
const BEHIND: &str = "an earlier event of its aggregate is set aside";

/// What a service hears: one durable consumer.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// The durable's name on the stream.
    pub durable: &'static str,
    /// The stream that it reads.
    pub stream: Stream,
    /// Full names of the event types it is given; none: every type of the stream.
    pub types: &'static [&'static str],
}

/// Why a group of events could not be applied.
pub type Failure = Box<dyn ServiceError>;

impl<E: ServiceError + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// Applies events. Implementations key effects by aggregate and version, so that reordering changes nothing either.
#[tonic::async_trait]
pub trait Subscriber: Send + Sync + 'static {
    /// Applies events of one tenant, in the order of the stream, within `tx`; each arrives here once in effect.
    /// The context's actor is this service.
    async fn apply(&self, ctx: &Ctx, tx: &mut Tx, events: &[Event]) -> Result<(), Failure>;

    /// The last version that was applied of each of these aggregates, none for one without; for a subscriber whose
    /// effect is the order itself and that hears every event of them: it is given each version after the one before.
    async fn last_versions(
        &self,
        _tx: &mut Tx,
        _aggregates: &[Uuid],
    ) -> Result<Option<HashMap<Uuid, i64>>, Failure> {
        Ok(None)
    }

    /// Called after the transaction of applied events has committed.
    fn applied(&self) {}
}

/// One running consumer.
pub(crate) struct Consuming {
    pub(crate) service: &'static str,
    pub(crate) subscription: Subscription,
    pub(crate) subscriber: Arc<dyn Subscriber>,
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) security: SecurityLog,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) contract: DescriptorPool,
    pub(crate) parking: Parking,
}

/// A message of the broker and the event in it.
struct Delivery {
    message: Message,
    event: Event,
}

impl Consuming {
    /// Runs until the process stops. What was pulled and not acknowledged is delivered again.
    pub(crate) async fn run(self) {
        // A counter that appears with its first count is no increase to whoever watches it.
        for counter in [&METRICS.redelivered, &METRICS.dead_letters, &METRICS.parked] {
            counter.add(0, &self.labels());
        }
        tokio::join!(self.listen(), self.tell_lag());
    }

    async fn listen(&self) {
        while !self.tasks.is_stopping() {
            if let Err(error) = self.consume().await {
                tracing::warn!(service = self.service, consumer = self.subscription.durable, error = %error, "the consumer lost its stream and will attach again");
            }
            self.tasks.pause(Duration::from_millis(500)).await;
        }
    }

    /// Tells how far this consumer is behind. Every replica tells the same of it.
    async fn tell_lag(&self) {
        let (durable, stream) = (self.subscription.durable, self.subscription.stream.name());
        while self.tasks.pause(LOOK).await {
            let asked = self.bus.jetstream();
            let found: Result<Consumer<pull::Config>, _> =
                asked.get_consumer_from_stream(durable, stream).await;
            match found {
                Ok(consumer) => {
                    let state = consumer.cached_info();
                    let lag = state
                        .num_pending
                        .saturating_add(u64::try_from(state.num_ack_pending).unwrap_or_default());
                    METRICS.consumer_lag.record(lag, &self.labels());
                }
                Err(error) => {
                    tracing::debug!(consumer = durable, error = %error, "how far the consumer is behind is not known now");
                }
            }
        }
    }

    fn labels(&self) -> [KeyValue; 1] {
        [KeyValue::new("consumer", self.subscription.durable)]
    }

    async fn consume(&self) -> Result<(), async_nats::Error> {
        let consumer: Consumer<pull::Config> = self
            .bus
            .jetstream()
            .get_consumer_from_stream(self.subscription.durable, self.subscription.stream.name())
            .await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
            .expires(Duration::from_secs(10))
            .heartbeat(Duration::from_secs(3))
            .messages()
            .await?;
        // Whatever has arrived by the time the last batch is done makes the next one.
        let mut batches = messages.ready_chunks(BATCH);
        loop {
            let batch = tokio::select! {
                () = self.tasks.stopping() => {
                    // Pulled and not begun: another replica gets these at once.
                    while let Some(Some(batch)) = batches.next().now_or_never() {
                        for message in batch.into_iter().flatten() {
                            let _ = message.ack_with(AckKind::Nak(None)).await;
                        }
                    }
                    self.bus.flush().await;
                    return Ok(());
                }
                batch = batches.next() => batch,
            };
            let Some(batch) = batch else { return Ok(()) };
            let mut delivered = Vec::with_capacity(batch.len());
            let mut broken = None;
            for message in batch {
                match message {
                    Ok(message) => delivered.push(message),
                    Err(error) => broken = Some(error),
                }
            }
            // What did arrive is applied first; without an answer it would come again only after its wait.
            self.handle(delivered).await;
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
    }

    async fn handle(&self, messages: Vec<Message>) {
        let mut groups: Vec<(TenantId, Vec<Delivery>)> = Vec::new();
        let again = messages.iter().filter(|it| deliveries(it) > 1).count();
        METRICS.redelivered.add(again as u64, &self.labels());
        for message in messages {
            match self.read(&message) {
                Ok(event) => {
                    let tenant = event.tenant;
                    let delivery = Delivery { message, event };
                    match groups.iter_mut().find(|(of, _)| *of == tenant) {
                        Some((_, group)) => group.push(delivery),
                        None => groups.push((tenant, vec![delivery])),
                    }
                }
                Err(distrust) => self.reject(&message, distrust).await,
            }
        }
        // Those of the shared cell need not wait for a dedicated one.
        groups.sort_by_key(|(tenant, _)| !self.db.cells().is_shared_for(*tenant));
        for (tenant, group) in groups {
            self.handle_group(tenant, group).await;
        }
    }

    fn read(&self, message: &Message) -> Result<Event, Distrust> {
        let stream = self.subscription.stream;
        let event = Event::read(
            stream,
            &message.subject,
            message.headers.as_ref(),
            message.payload.clone(),
        )?;
        let message_type = self
            .contract
            .get_message_by_name(&event.type_name)
            .ok_or(Distrust::Type)?;
        // Here, and not where a service first looks: whoever records what it does not understand would keep it.
        DynamicMessage::decode(message_type, event.body.clone()).map_err(|_| Distrust::Body)?;
        Ok(event)
    }

    async fn handle_group(&self, tenant: TenantId, group: Vec<Delivery>) {
        failpoint::reach("event_received").await;
        let begun = Instant::now();
        let mut pause = BREATH;
        // What is away, slow or locked is one cell, if there are several: the others' events must not wait for it.
        let others_wait = !self.db.cells().are_one_for(tenant);
        let failure = loop {
            match self.apply(tenant, &group).await {
                Ok(turns) => return self.settle(group, &turns).await,
                Err(failure) => {
                    let is_short = is_away(&*failure) && begun.elapsed() < OUTAGE && !others_wait;
                    if !is_short || !self.tasks.pause(pause).await {
                        break failure;
                    }
                }
            }
            pause = (pause * 2).min(LONGEST_BREATH);
            self.keep(&group).await;
        };
        // A group that keeps failing for want of time or luck is too much at once.
        let is_stubborn = group
            .iter()
            .any(|delivery| deliveries(&delivery.message) > 2);
        if group.len() > 1 && (is_stubborn || !is_transient(&*failure)) {
            // What comes behind an event that failed is not tried before it.
            let mut failed = HashSet::new();
            let since = Instant::now();
            for delivery in group {
                let aggregate = delivery.event.aggregate_id;
                let is_slow = !failed.is_empty() && since.elapsed() > OTHERS_WAIT;
                if (is_slow && others_wait) || failed.contains(&aggregate) {
                    self.wait(&delivery, PATIENT).await;
                    continue;
                }
                let alone = vec![delivery];
                match self.apply(tenant, &alone).await {
                    Ok(turns) => self.settle(alone, &turns).await,
                    Err(failure) => {
                        failed.insert(aggregate);
                        self.fail(tenant, &alone, &*failure).await;
                    }
                }
            }
            return;
        }
        self.fail(tenant, &group, &*failure).await;
    }

    /// Applies what may be applied now, and says what becomes of each event.
    async fn apply(&self, tenant: TenantId, group: &[Delivery]) -> Result<Vec<Turn>, Failure> {
        let spans: Vec<tracing::Span> = group
            .iter()
            .map(|delivery| {
                let event = &delivery.event;
                let span = tracing::info_span!("event.consume", otel.kind = "consumer", consumer = self.subscription.durable, event.r#type = %event.type_name, event.id = %event.id, tenant.id = %tenant);
                telemetry::set_parent(&span, event.traceparent.as_deref());
                span
            })
            .collect();
        let span = spans.first().cloned().unwrap_or_else(tracing::Span::none);
        // A panic in a subscriber fails its events and must not end the consumer.
        AssertUnwindSafe(self.apply_in_span(tenant, group))
            .catch_unwind()
            .instrument(span)
            .await
            .unwrap_or_else(|_| Err(Error::internal("the subscriber panicked").into()))
    }

    async fn apply_in_span(
        &self,
        tenant: TenantId,
        group: &[Delivery],
    ) -> Result<Vec<Turn>, Failure> {
        let ctx = self.ctx(tenant);
        let mut tx = self.db.begin(&ctx).await?;
        let early = self.early(&mut tx, group).await?;
        let parking::Admitted { fresh, turns } = self.parking.admit(&mut tx, group, &early).await?;
        let mut seen = HashSet::with_capacity(fresh.len());
        let events: Vec<Event> = group
            .iter()
            .map(|delivery| &delivery.event)
            .filter(|event| fresh.contains(&event.id) && seen.insert(event.id))
            .cloned()
            .collect();
        if !events.is_empty() {
            self.subscriber.apply(&ctx, &mut tx, &events).await?;
        }
        tx.commit().await?;
        let done = turns.iter().filter(|turn| **turn == Turn::Now).count();
        METRICS.consumed.add(events.len() as u64, &self.labels());
        METRICS
            .repeated
            .add((done - events.len()) as u64, &self.labels());
        self.subscriber.applied();
        Ok(turns)
    }

    /// Events that have come before the version that they follow, where that matters.
    async fn early(&self, tx: &mut Tx, group: &[Delivery]) -> Result<HashSet<Uuid>, Failure> {
        // First versions follow none: most of an import needs no look.
        let following = group.iter().filter(|it| it.event.version > 1);
        let aggregates: HashSet<Uuid> = following.map(|it| it.event.aggregate_id).collect();
        if aggregates.is_empty() {
            return Ok(HashSet::new());
        }
        let aggregates: Vec<Uuid> = aggregates.into_iter().collect();
        let Some(mut last) = self.subscriber.last_versions(tx, &aggregates).await? else {
            return Ok(HashSet::new());
        };
        let events = group.iter().map(|it| (&it.event, deliveries(&it.message)));
        Ok(parking::early(&mut last, events))
    }

    fn ctx(&self, tenant: TenantId) -> Ctx {
        let service = Actor::Service(self.service.to_owned());
        Ctx::of_event(tenant, service, self.clock.clone())
    }

    /// Tells the broker what became of each event, now that it is durable.
    async fn settle(&self, group: Vec<Delivery>, turns: &[Turn]) {
        let mut done = Vec::with_capacity(group.len());
        for (delivery, turn) in group.into_iter().zip(turns) {
            match turn {
                Turn::Now => done.push(delivery),
                Turn::Later => self.wait(&delivery, PATIENT).await,
                Turn::Aside => {
                    METRICS.parked.add(1, &self.labels());
                    self.set_aside(&delivery.message, BEHIND).await;
                }
            }
        }
        self.acknowledge(&done).await;
    }

    /// Tells the broker that the effects are durable. The last one waits for the broker's confirmation, and with it
    /// all before it on the same connection have arrived.
    async fn acknowledge(&self, group: &[Delivery]) {
        let Some((last, rest)) = group.split_last() else {
            return;
        };
        failpoint::reach("event_applied").await;
        for delivery in rest {
            if let Err(error) = delivery.message.ack().await {
                tracing::debug!(consumer = self.subscription.durable, error = %error, "an acknowledgement was not sent; the event comes again and changes nothing");
            }
        }
        if let Err(error) = failpoint::begun("ack_sent", last.message.double_ack()).await {
            tracing::debug!(consumer = self.subscription.durable, error = %error, "an acknowledgement was not confirmed; the event comes again and changes nothing");
        }
    }

    /// Asks for the events again later, or sets one aside that failed too often for reasons of its own.
    async fn fail(
        &self,
        tenant: TenantId,
        group: &[Delivery],
        failure: &(dyn ServiceError + 'static),
    ) {
        let transient = is_transient(failure);
        let doublings = if is_away(failure) { PATIENT } else { FAILING };
        for delivery in group {
            let event = &delivery.event;
            tracing::warn!(consumer = self.subscription.durable, event.id = %event.id, event.r#type = %event.type_name, event.delivered = deliveries(&delivery.message), error = %chain(failure), "an event could not be applied");
            if !transient && self.is_given_up(tenant, event).await {
                self.set_aside(&delivery.message, &chain(failure)).await;
            } else {
                self.wait(delivery, doublings).await;
            }
        }
    }

    /// Notes a failure; whether the event has failed as often as it may. What cannot be noted does not count.
    async fn is_given_up(&self, tenant: TenantId, event: &Event) -> bool {
        let noted = async {
            let mut tx = self.db.begin(&self.ctx(tenant)).await?;
            let is_given_up = self.parking.note_failure(&mut tx, tenant, event).await?;
            tx.commit().await?;
            Ok::<bool, Error>(is_given_up)
        };
        noted.await.unwrap_or_else(|error| {
            tracing::warn!(consumer = self.subscription.durable, event.id = %event.id, error = %chain(&error), "a failure could not be noted");
            false
        })
    }

    /// Tells the broker that the events are in work, so that no other replica gets them.
    async fn keep(&self, group: &[Delivery]) {
        for delivery in group {
            if let Err(error) = delivery.message.ack_with(AckKind::Progress).await {
                tracing::debug!(consumer = self.subscription.durable, error = %error, "the broker was not told that an event is in work; it may come twice");
            }
        }
    }

    /// Asks for an event again, the later the more often it came, after twice the time each up to `doublings`.
    async fn wait(&self, delivery: &Delivery, doublings: i64) {
        let delivered = deliveries(&delivery.message);
        let delay = Duration::from_millis(100 << delivered.clamp(0, doublings));
        if let Err(error) = delivery.message.ack_with(AckKind::Nak(Some(delay))).await {
            tracing::debug!(consumer = self.subscription.durable, error = %error, "a negative acknowledgement was not sent; the event comes again after its wait");
        }
    }
}

/// How often the broker has delivered a message, this time included.
fn deliveries(message: &Message) -> i64 {
    message.info().map_or(1, |info| info.delivered)
}

/// Whether what the events need is away, for them and for all others.
fn is_away(failure: &(dyn ServiceError + 'static)) -> bool {
    failure.verdict().code() == Code::Unavailable
}

/// Whether the same event may well be applied a little later: the fault is not the event's.
fn is_transient(failure: &(dyn ServiceError + 'static)) -> bool {
    matches!(failure.verdict().code(), Code::Unavailable | Code::Aborted)
}
