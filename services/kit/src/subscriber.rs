//! Consumers: events in, effects in the database, once each.
//!
//! A pulled batch is grouped by tenant and each group applied in one transaction of that tenant: inbox rows, effects,
//! commit; then all are acknowledged, the last one doubly. A group that fails is tried again event by event.
//! An event that keeps failing, or that cannot be trusted, goes to the dead-letter stream with its reason.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures::{FutureExt, StreamExt};
use opentelemetry::KeyValue;
use prost_reflect::{DescriptorPool, DynamicMessage};
use proto::common::v1 as security;
use tonic::Code;
use tracing::Instrument;
use uuid::Uuid;

use crate::Error;
use crate::bus::Bus;
use crate::ctx::{Actor, Clock, Ctx};
use crate::db::{Db, Tx, schema_sql};
use crate::error::{ServiceError, chain};
use crate::events::{Distrust, Event, Stream};
use crate::failpoint;
use crate::ids::TenantId;
use crate::outbox::OutboxSql;
use crate::security::SecurityLog;
use crate::tasks::Tasks;
use crate::telemetry::{self, METRICS};

/// Messages asked for at once, and the most that one transaction applies.
const BATCH: usize = 500;
/// Failures of its own after which an event is set aside. Deliveries are no measure: an outage raises them too.
const MAX_FAILURES: u32 = 8;
/// Failing events that are counted; with more, something else is wrong, and the counts begin anew.
const COUNTED: usize = 4_096;

/// Characters of a text of the publisher's that are put on record.
const QUOTED: usize = 512;
/// Bytes of a subject under which an event is set aside; the contract's own are shorter than 128.
const LONGEST_SUBJECT: usize = 1_024;

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
    pub(crate) sql: Arc<OutboxSql>,
    pub(crate) failures: Mutex<HashMap<Uuid, u32>>,
}

/// A message of the broker and the event in it.
struct Delivery {
    message: Message,
    event: Event,
}

impl Consuming {
    /// Runs until the process stops. What was pulled and not acknowledged is delivered again.
    pub(crate) async fn run(self) {
        while !self.tasks.is_stopping() {
            if let Err(error) = self.consume().await {
                tracing::warn!(service = self.service, consumer = self.subscription.durable, error = %error, "the consumer lost its stream and will attach again");
            }
            self.tasks.pause(Duration::from_millis(500)).await;
        }
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
        let failure = match self.apply(tenant, &group).await {
            Ok(()) => return self.acknowledge(&group).await,
            Err(failure) => failure,
        };
        // A group that keeps failing for want of time or luck is too much at once.
        let is_stubborn = group
            .iter()
            .any(|delivery| deliveries(&delivery.message) > 2);
        if group.len() > 1 && (is_stubborn || !is_transient(&*failure)) {
            for delivery in group {
                let alone = [delivery];
                match self.apply(tenant, &alone).await {
                    Ok(()) => self.acknowledge(&alone).await,
                    Err(failure) => self.fail(&alone, &*failure).await,
                }
            }
            return;
        }
        self.fail(&group, &*failure).await;
    }

    async fn apply(&self, tenant: TenantId, group: &[Delivery]) -> Result<(), Failure> {
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

    async fn apply_in_span(&self, tenant: TenantId, group: &[Delivery]) -> Result<(), Failure> {
        let ctx = Ctx::of_event(
            tenant,
            Actor::Service(self.service.to_owned()),
            self.clock.clone(),
        );
        let mut tx = self.db.begin(&ctx).await?;
        let ids: Vec<Uuid> = group.iter().map(|delivery| delivery.event.id).collect();
        let fresh: Vec<Uuid> = sqlx::query_scalar(schema_sql(&self.sql.insert_inbox))
            .bind(tenant.uuid())
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await
            .map_err(Error::from)?;
        let mut seen = std::collections::HashSet::with_capacity(fresh.len());
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
        let service = [KeyValue::new("consumer", self.subscription.durable)];
        METRICS.consumed.add(events.len() as u64, &service);
        METRICS
            .redelivered
            .add((group.len() - events.len()) as u64, &service);
        self.subscriber.applied();
        Ok(())
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
    async fn fail(&self, group: &[Delivery], failure: &(dyn ServiceError + 'static)) {
        let transient = is_transient(failure);
        for delivery in group {
            let delivered = deliveries(&delivery.message);
            let event = &delivery.event;
            tracing::warn!(consumer = self.subscription.durable, event.id = %event.id, event.r#type = %event.type_name, event.delivered = delivered, error = %chain(failure), "an event could not be applied");
            if !transient && self.count_failure(event.id) >= MAX_FAILURES {
                self.set_aside(&delivery.message, &chain(failure)).await;
                continue;
            }
            let delay = Duration::from_millis(100 << delivered.clamp(0, 8));
            if let Err(error) = delivery.message.ack_with(AckKind::Nak(Some(delay))).await {
                tracing::debug!(consumer = self.subscription.durable, error = %error, "a negative acknowledgement was not sent; the event comes again after its wait");
            }
        }
    }

    /// How often this event has failed for reasons of its own, this time included.
    fn count_failure(&self, event: Uuid) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= COUNTED {
            failures.clear();
        }
        let count = failures.entry(event).or_default();
        *count += 1;
        *count
    }

    /// A message that is no event, or not the event it claims to be: evidence first, then aside.
    async fn reject(&self, message: &Message, distrust: Distrust) {
        let header = |name: &str| {
            message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
                .map(|value| quoted(value.as_str()))
                .unwrap_or_default()
        };
        let (reason, severity) = match distrust {
            Distrust::Tenant => (
                security::EventRejectionReason::TenantDisagrees,
                security::Severity::High,
            ),
            Distrust::Source => (
                security::EventRejectionReason::SourceDisagrees,
                security::Severity::High,
            ),
            Distrust::Type => (
                security::EventRejectionReason::TypeDisagrees,
                security::Severity::High,
            ),
            Distrust::Envelope => (
                security::EventRejectionReason::EnvelopeInvalid,
                security::Severity::Medium,
            ),
            Distrust::Body => (
                security::EventRejectionReason::BodyInvalid,
                security::Severity::Medium,
            ),
        };
        let rejected = security::EventRejected {
            severity: severity.into(),
            reason: reason.into(),
            consumer: self.service.to_owned(),
            subject: quoted(&message.subject),
            event_id: header("ce-id"),
            event_type: header("ce-type"),
            event_source: header("ce-source"),
        };
        tracing::error!(consumer = self.subscription.durable, subject = %message.subject, reason = %distrust, "an event was rejected");
        let actor = Actor::Service(self.service.to_owned());
        if let Err(error) = self.security.record(TenantId::NONE, actor, &rejected).await {
            tracing::warn!(error = %chain(&error), "the rejection could not be recorded; the event comes again");
            return;
        }
        self.set_aside(message, &distrust.to_string()).await;
    }

    /// Moves a message to the dead-letter stream; it leaves this consumer only once it is stored there.
    async fn set_aside(&self, message: &Message, reason: &str) {
        let mut headers = async_nats::HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
            let name = name.to_string();
            if name.starts_with("Nats-") {
                continue;
            }
            for value in values {
                headers.append(name.as_str(), value.as_str());
            }
        }
        headers.insert("dead-letter-reason", quoted(reason).as_str());
        headers.insert("dead-letter-consumer", self.subscription.durable);
        let subject = dead_letter_subject(self.service, &message.subject);
        match self
            .bus
            .request(subject, headers, message.payload.clone())
            .await
        {
            Ok(answer) if answer.error.is_none() && answer.stream.is_some() => {
                METRICS
                    .dead_letters
                    .add(1, &[KeyValue::new("consumer", self.subscription.durable)]);
                if let Err(error) = message.ack_with(AckKind::Term).await {
                    tracing::debug!(error = %error, "a dead letter was not taken off its consumer and will be set aside again");
                }
            }
            Ok(_) => tracing::error!(
                consumer = self.subscription.durable,
                "the dead-letter stream refused a message"
            ),
            Err(error) => {
                tracing::warn!(consumer = self.subscription.durable, error = %error, "the dead-letter stream cannot be reached");
            }
        }
    }
}

/// Text of whoever published an event, fit for a record: bounded, and without what ends a line or a text.
fn quoted(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { '_' } else { c });
    visible.take(QUOTED).collect()
}

/// Where a message is set aside. A subject that is as long as a line of the broker's protocol may be does not fit
/// into a longer one: the broker would end the connection.
fn dead_letter_subject(service: &str, subject: &str) -> String {
    if subject.len() <= LONGEST_SUBJECT {
        format!("dead_letter.{service}.{subject}")
    } else {
        format!("dead_letter.{service}.overlong")
    }
}

/// How often the broker has delivered a message, this time included.
fn deliveries(message: &Message) -> i64 {
    message.info().map_or(1, |info| info.delivered)
}

/// Whether the same event may well be applied a little later: the fault is not the event's.
fn is_transient(failure: &(dyn ServiceError + 'static)) -> bool {
    matches!(failure.verdict().code(), Code::Unavailable | Code::Aborted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_publisher_wrote_is_put_on_record_bounded_and_on_one_line() {
        assert_eq!(quoted("catalyst/\0x\r\n"), "catalyst/_x__");
        assert_eq!(quoted(&"ä".repeat(10_000)).chars().count(), QUOTED);
    }

    #[test]
    fn a_message_is_set_aside_under_its_subject_unless_that_is_overlong() {
        let subject = "catalyst.0190.projects.project_created";
        assert_eq!(
            dead_letter_subject("audit", subject),
            "dead_letter.audit.catalyst.0190.projects.project_created"
        );
        let overlong = format!("catalyst.{}.projects.x", "a".repeat(4_000));
        assert_eq!(
            dead_letter_subject("audit", &overlong),
            "dead_letter.audit.overlong"
        );
    }
}
