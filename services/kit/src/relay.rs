//! The relay: moves the rows of one outbox to the broker and removes each only after its acknowledgement.
//!
//! One relay per outbox holds a lease, so rows need no locks. It reads the oldest rows, publishes them as one atomic
//! batch (one fsync for the batch), and removes them in a statement that also checks the lease's epoch.
//! No cursor is kept: a sequence has gaps that fill later, and a late commit is found by the next read.
//! A crash after the acknowledgement and before the removal publishes again under the same ids; a relay that lost its
//! lease can publish, but not remove: the broker's duplicate window and the consumers' inbox absorb both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::KeyValue;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::Error;
use crate::bus::Bus;
use crate::ctx::{Actor, Clock};
use crate::db::{ExemptDb, schema_sql};
use crate::events::{self, Emitted, Stream};
use crate::failpoint;
use crate::ids::TenantId;
use crate::outbox::Wake;
use crate::tasks::Tasks;
use crate::telemetry::{self, METRICS};

/// The most messages that the broker takes in one atomic batch.
const BATCH: i64 = 1_000;
/// The lease is renewed with each round; another relay takes over this long after the last one.
const LEASE_SECONDS: i32 = 2;
/// The net under the wake-ups, and the heartbeat of the lease.
const POLL: Duration = Duration::from_millis(500);
/// `atomic publish batch contains duplicate message id`: some or all of these are stored already.
const DUPLICATE_IN_BATCH: u32 = 10_201;

/// Moves one outbox of one service.
pub(crate) struct Relay {
    db: ExemptDb,
    bus: Bus,
    wake: Wake,
    heard: Wake,
    tasks: Tasks,
    service: &'static str,
    noun: &'static str,
    outbox: &'static str,
    stream: Stream,
    holder: Uuid,
    sql: Sql,
}

struct Sql {
    acquire: Arc<str>,
    read: Arc<str>,
    remove: Arc<str>,
}

struct Pending {
    seq: i64,
    tenant: TenantId,
    event: Emitted,
}

impl Relay {
    #[expect(clippy::too_many_arguments, reason = "wired once, by the host")]
    pub(crate) fn new(
        db: ExemptDb,
        bus: Bus,
        wake: Wake,
        heard: Wake,
        tasks: Tasks,
        clock: &Clock,
        service: &'static str,
        schema: &'static str,
        stream: Stream,
    ) -> Self {
        let outbox = match stream {
            Stream::Domain => "outbox",
            Stream::Security => "security_outbox",
        };
        let sql = Sql {
            acquire: format!(
                "update {schema}.relay_lease \
                 set holder = $2, epoch = epoch + (holder <> $2)::int, \
                     expires_at = clock_timestamp() + make_interval(secs => $3) \
                 where outbox = $1 and (holder = $2 or expires_at < clock_timestamp()) returning epoch"
            )
            .into(),
            read: format!(
                "select seq, tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, \
                        traceparent, body \
                 from {schema}.{outbox} order by seq limit $1"
            )
            .into(),
            remove: format!(
                "with held as ( \
                     update {schema}.relay_lease set expires_at = clock_timestamp() + make_interval(secs => $4) \
                     where outbox = $1 and holder = $2 and epoch = $3 returning 1 \
                 ) \
                 delete from {schema}.{outbox} where seq = any($5) and exists (select 1 from held)"
            )
            .into(),
        };
        let holder = clock.new_uuid();
        Self {
            db,
            bus,
            wake,
            heard,
            tasks,
            service,
            noun: schema,
            outbox,
            stream,
            holder,
            sql,
        }
    }

    /// Runs until the process stops; rows that remain are moved by the next relay.
    pub(crate) async fn run(self) {
        let mut failures: u32 = 0;
        while !self.tasks.is_stopping() {
            match self.round().await {
                Ok(Round::Moved(count)) => {
                    failures = 0;
                    // A full batch means that more is waiting.
                    if i64::try_from(count).unwrap_or(BATCH) < BATCH {
                        self.rest().await;
                    }
                }
                Ok(Round::Standby) => {
                    failures = 0;
                    self.stand_by().await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let delay = Duration::from_millis(50 << failures.min(5));
                    tracing::warn!(service = self.service, relay.outbox = self.outbox, error = %crate::error::chain(&error), "the relay could not move events and will try again");
                    self.tasks.pause(delay).await;
                }
            }
        }
    }

    async fn rest(&self) {
        tokio::select! {
            () = self.tasks.stopping() => {}
            () = self.wake.woken() => {}
            () = self.heard.woken() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// Another replica holds the lease: pass the wake-ups of this process on to it. Those that were heard are not
    /// passed on again, or standby relays would wake each other for ever.
    async fn stand_by(&self) {
        tokio::select! {
            () = self.tasks.stopping() => {}
            () = self.wake.woken() => {
                let subject = wake_subject(self.service);
                if let Err(error) = self.bus.send(subject, async_nats::HeaderMap::new(), Bytes::new()).await {
                    tracing::debug!(service = self.service, error = %error, "the wake-up of another relay was not sent");
                }
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// One round: renew the lease, read, publish, remove.
    async fn round(&self) -> Result<Round, Error> {
        let mut session = self.db.reader().await?;
        let epoch: Option<i64> = sqlx::query_scalar(schema_sql(&self.sql.acquire))
            .bind(self.outbox)
            .bind(self.holder)
            .bind(f64::from(LEASE_SECONDS))
            .fetch_optional(&mut session)
            .await?;
        let Some(epoch) = epoch else {
            return Ok(Round::Standby);
        };
        let rows = sqlx::query(schema_sql(&self.sql.read))
            .bind(BATCH)
            .try_map(read_row)
            .fetch_all(&mut session)
            .await?;
        METRICS.outbox_age.record(age(&rows), &self.labels());
        if rows.is_empty() {
            return Ok(Round::Moved(0));
        }
        // The connection is free for others while the broker syncs.
        drop(session);
        failpoint::reach("before_publish").await;
        let spans = publish_spans(&rows);
        self.publish(&rows).await?;
        drop(spans);
        failpoint::reach("after_ack").await;
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let mut session = self.db.reader().await?;
        let removed = sqlx::query(schema_sql(&self.sql.remove))
            .bind(self.outbox)
            .bind(self.holder)
            .bind(epoch)
            .bind(f64::from(LEASE_SECONDS))
            .bind(&seqs)
            .execute(&mut session)
            .await?
            .rows_affected();
        if removed == 0 {
            tracing::warn!(
                service = self.service,
                relay.outbox = self.outbox,
                "the lease went to another relay before the rows were removed"
            );
        }
        METRICS.relay_published.add(removed, &self.labels());
        METRICS.relay_lag.record(age(&rows), &self.labels());
        Ok(Round::Moved(rows.len()))
    }

    fn labels(&self) -> [KeyValue; 2] {
        [
            KeyValue::new("service", self.service),
            KeyValue::new("outbox", self.outbox),
        ]
    }

    /// Publishes all rows and returns once the broker has acknowledged every one of them.
    async fn publish(&self, rows: &[Pending]) -> Result<(), Error> {
        if rows.len() > 1 {
            match self.publish_batch(rows).await? {
                Ok(()) => return Ok(()),
                Err(DUPLICATE_IN_BATCH) => {
                    tracing::info!(
                        service = self.service,
                        relay.outbox = self.outbox,
                        relay.rows = rows.len(),
                        "some events are stored already: publishing one by one under the same ids"
                    );
                }
                Err(code) => {
                    return Err(Error::internal(format!(
                        "the broker refused a batch with code {code}"
                    )));
                }
            }
        }
        for row in rows {
            let (subject, headers) = self.message(row)?;
            let body = row.event.body.clone().into();
            let sent = self.bus.request(subject, headers, body);
            let answer = failpoint::begun("after_publish", sent)
                .await
                .map_err(unavailable)?;
            if let Some(refusal) = answer.error {
                return Err(Error::internal(format!(
                    "the broker refused an event: {}",
                    refusal.description
                )));
            }
            if answer.stream.is_none() {
                return Err(Error::internal(
                    "the broker's answer to an event is no acknowledgement",
                ));
            }
        }
        Ok(())
    }

    /// One atomic batch: all of it is stored with one sync, or nothing. `Err(code)` is the broker's refusal.
    async fn publish_batch(&self, rows: &[Pending]) -> Result<Result<(), u32>, Error> {
        let batch_id = Clock::system().new_uuid().simple().to_string();
        let last = rows.len();
        for (i, row) in rows.iter().enumerate() {
            let position = i + 1;
            let (subject, mut headers) = self.message(row)?;
            headers.insert("Nats-Batch-Id", batch_id.as_str());
            headers.insert("Nats-Batch-Sequence", position.to_string().as_str());
            let body = Bytes::from(row.event.body.clone());
            if position < last {
                self.bus
                    .send(subject, headers, body)
                    .await
                    .map_err(unavailable)?;
                continue;
            }
            headers.insert("Nats-Batch-Commit", "1");
            let sent = self.bus.request(subject, headers, body);
            let answer = failpoint::begun("after_publish", sent)
                .await
                .map_err(unavailable)?;
            if let Some(refusal) = answer.error {
                return Ok(Err(refusal.err_code));
            }
            if answer.stream.is_none() {
                return Err(Error::internal(
                    "the broker's answer to a batch is no acknowledgement",
                ));
            }
        }
        Ok(Ok(()))
    }

    fn message(&self, row: &Pending) -> Result<(String, async_nats::HeaderMap), Error> {
        let subject = events::subject(
            self.stream,
            self.stream.ingest(),
            row.tenant,
            &row.event.type_name,
        )
        .ok_or_else(|| {
            Error::internal(format!(
                "{} is no event of the contract",
                row.event.type_name
            ))
        })?;
        Ok((subject, events::headers(row.tenant, self.noun, &row.event)))
    }
}

enum Round {
    Moved(usize),
    Standby,
}

/// The core subject on which replicas wake the relay that holds the lease.
pub(crate) fn wake_subject(service: &str) -> String {
    format!("relay.{service}")
}

/// A span for each row whose change is traced: from here to the broker's acknowledgement, as a child of the change.
fn publish_spans(rows: &[Pending]) -> Vec<tracing::Span> {
    let traced = rows.iter().filter(|row| row.event.traceparent.is_some());
    traced
        .map(|row| {
            let span = tracing::info_span!("outbox.publish", otel.kind = "producer", event.id = %row.event.event_id, event.r#type = %row.event.type_name, tenant.id = %row.tenant);
            telemetry::set_parent(&span, row.event.traceparent.as_deref());
            span
        })
        .collect()
}

/// Seconds since the oldest of the rows was written; 0 without rows.
fn age(rows: &[Pending]) -> f64 {
    rows.first().map_or(0.0, |oldest| {
        (Clock::system().now() - oldest.event.occurred_at)
            .as_seconds_f64()
            .max(0.0)
    })
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable {
        what: "the broker",
        source: Box::new(error),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `try_map` takes"
)]
fn read_row(row: PgRow) -> Result<Pending, sqlx::Error> {
    Ok(Pending {
        seq: row.try_get("seq")?,
        tenant: TenantId::new(row.try_get("tenant_id")?),
        event: Emitted {
            event_id: row.try_get("event_id")?,
            type_name: row.try_get("type")?,
            aggregate_id: row.try_get("aggregate_id")?,
            version: row.try_get("version")?,
            occurred_at: row.try_get("occurred_at")?,
            actor: Actor::from_parts(row.try_get("actor_kind")?, row.try_get("actor_id")?),
            traceparent: row.try_get("traceparent")?,
            body: row.try_get("body")?,
        },
    })
}
