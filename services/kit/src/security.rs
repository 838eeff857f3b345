//! The record of refusals: durable before the caller hears of them.
//!
//! One writer per service and cell commits security events in groups: what arrives while a commit is under way makes the next
//! one, so a flood costs a commit per group and a single probe waits for nothing but its own.
//! Refusals without a verified tenant are counted in memory by source and kind and written each second.
//! Those of a verified tenant are not merged here, however many they are: each is committed by itself, since the id that
//! a miss names may be another tenant's, and leaves the outbox with the relay. The log of audit bounds what is kept.
//! When the database is down the answer is UNAVAILABLE and not the refusal. A tenant's are written in its own cell, so
//! that those of others do not wait for a cell that is away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::{Message, Name};
use proto::common::v1::{
    AuthenticationFailed, AuthenticationFailure, ProtocolAbuse, ProtocolAbused, RateLimited,
    Severity, UnknownMethodCalled,
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::cells::Cells;
use crate::ctx::{Actor, Clock};
use crate::db::schema_sql;
use crate::events::Emitted;
use crate::failpoint;
use crate::fields;
use crate::ids::TenantId;
use crate::outbox::{Columns, OutboxSql, Wake};
use crate::pool::{ACQUIRE_LIMIT, Pool};
use crate::session::Session;
use crate::tasks::Tasks;
use crate::telemetry;
use crate::turns::Asker;

/// Events that may wait for the writer; the next caller waits for room.
const QUEUE: usize = 4_096;
/// The most events in one statement.
const GROUP: usize = 512;
/// Distinct sources and kinds counted within one second; further ones share one entry without an address.
const SOURCES: usize = 1_024;

/// Counts since they were last written, by what they count.
type Tallies<K> = Arc<Mutex<HashMap<K, Tally>>>;

/// What is counted of those whom no verified tenant stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unverified {
    /// A token that was not accepted.
    Token(AuthenticationFailure),
    /// What no correct client does on the wire.
    Transport(ProtocolAbuse),
    /// A method that is not served.
    UnknownMethod,
}

/// Where a service writes its security events.
#[derive(Clone, Debug)]
pub struct SecurityLog {
    cells: Cells,
    unverified: Tallies<(Option<IpAddr>, Unverified)>,
    limited: Tallies<(TenantId, Actor, &'static str)>,
    clock: Clock,
}

/// Where the refusals of one cell wait for its writer.
#[derive(Clone, Debug)]
pub(crate) struct Queue(mpsc::Sender<Entry>);

/// A queue and its other end.
pub(crate) fn queue() -> (Queue, mpsc::Receiver<Entry>) {
    let (queue, entries) = mpsc::channel(QUEUE);
    (Queue(queue), entries)
}

/// One refusal, and whoever waits for it to be durable.
#[derive(Debug)]
pub(crate) struct Entry {
    tenant: TenantId,
    event: Emitted,
    written: oneshot::Sender<Result<(), Arc<Error>>>,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    count: i64,
    first: OffsetDateTime,
}

impl SecurityLog {
    /// The log of one service, whose counts are written each second.
    pub(crate) fn start(cells: Cells, clock: Clock, tasks: &Tasks) -> Self {
        let log = Self {
            cells,
            unverified: Arc::default(),
            limited: Arc::default(),
            clock,
        };
        // Apart: what is of a tenant waits for its cell, which may hang.
        tasks.spawn(flush_limited(log.clone(), tasks.clone()));
        tasks.spawn(flush_unverified(log.clone(), tasks.clone()));
        log
    }

    /// Writes an event of `tenant` and returns once it is committed.
    pub async fn record<M: Message + Name>(
        &self,
        tenant: TenantId,
        actor: Actor,
        event: &M,
    ) -> Result<(), Error> {
        let event_id = self.clock.new_uuid();
        let emitted = Emitted {
            event_id,
            type_name: M::full_name(),
            aggregate_id: event_id,
            version: 1,
            occurred_at: self.clock.now(),
            actor,
            traceparent: telemetry::current_traceparent(),
            body: event.encode_to_vec(),
        };
        let (written, outcome) = oneshot::channel();
        let unavailable = || Error::Unavailable {
            what: "the audit trail",
            source: "its writer has ended".into(),
        };
        let cell = self.cells.of_refusals(tenant)?;
        let Queue(queue) = &cell.refusals;
        queue
            .send(Entry {
                tenant,
                event: emitted,
                written,
            })
            .await
            .map_err(|_| unavailable())?;
        outcome
            .await
            .map_err(|_| unavailable())?
            .map_err(|source| Error::Unavailable {
                what: "the audit trail",
                source: source.into(),
            })
    }

    /// Counts a refusal that no verified tenant stands behind; written as one event per source, kind and second.
    pub(crate) fn count_unverified(&self, source: Option<IpAddr>, what: Unverified) {
        keep(&self.unverified, (source, what), (None, what), self.one());
    }

    /// Counts a call of a verified tenant that was refused for its rate; written as one event per second.
    pub fn count_limited(&self, tenant: TenantId, actor: &Actor, method: &'static str) {
        // With too many distinct callers in one second the tenant alone is told.
        let crowd = (tenant, Actor::User(String::new()), method);
        keep(
            &self.limited,
            (tenant, actor.clone(), method),
            crowd,
            self.one(),
        );
    }

    fn one(&self) -> Tally {
        let first = self.clock.now();
        Tally { count: 1, first }
    }

    async fn write_limited(&self) {
        let tallies = take(&self.limited);
        // All at once: the writer commits them in groups.
        let written = tallies.into_iter().map(async |((tenant, actor, method), tally)| {
            let event = RateLimited {
                severity: Severity::Low.into(),
                count: tally.count,
                window_start: Some(fields::timestamp(tally.first)),
                method: method.to_owned(),
            };
            if let Err(error) = self.record(tenant, actor.clone(), &event).await {
                tracing::warn!(error = %crate::error::chain(&error), "a count of refused calls could not be written and is kept");
                let nobody = (tenant, Actor::User(String::new()), method);
                keep(&self.limited, (tenant, actor, method), nobody, tally);
            }
        });
        futures::future::join_all(written).await;
    }

    async fn write_unverified(&self) {
        let tallies = take(&self.unverified);
        let written = tallies.into_iter().map(async |((source, what), tally)| {
            if let Err(error) = self.record_unverified(source, what, tally).await {
                tracing::warn!(error = %crate::error::chain(&error), "a count of unverified callers could not be written and is kept");
                keep(&self.unverified, (source, what), (None, what), tally);
            }
        });
        futures::future::join_all(written).await;
    }

    async fn record_unverified(
        &self,
        source: Option<IpAddr>,
        what: Unverified,
        Tally { count, first }: Tally,
    ) -> Result<(), Error> {
        let nobody = Actor::User(String::new());
        let source_address = source
            .map(|address| address.to_string())
            .unwrap_or_default();
        let window_start = Some(fields::timestamp(first));
        let severity = what.severity().into();
        match what {
            Unverified::Token(failure) => {
                let event = AuthenticationFailed {
                    severity,
                    failure: failure.into(),
                    source_address,
                    count,
                    window_start,
                };
                self.record(TenantId::NONE, nobody, &event).await
            }
            Unverified::Transport(abuse) => {
                let event = ProtocolAbused {
                    severity,
                    abuse: abuse.into(),
                    source_address,
                    count,
                    window_start,
                };
                self.record(TenantId::NONE, nobody, &event).await
            }
            Unverified::UnknownMethod => {
                let event = UnknownMethodCalled {
                    severity,
                    source_address,
                    count,
                    window_start,
                };
                self.record(TenantId::NONE, nobody, &event).await
            }
        }
    }
}

impl Unverified {
    fn severity(self) -> Severity {
        match self {
            Self::Token(
                AuthenticationFailure::BadSignature
                | AuthenticationFailure::UnknownKey
                | AuthenticationFailure::Broker,
            ) => Severity::Medium,
            // Mistakes of honest clients as well.
            Self::Token(_)
            | Self::UnknownMethod
            | Self::Transport(
                ProtocolAbuse::MessageTooLarge
                | ProtocolAbuse::MessageMalformed
                | ProtocolAbuse::RequestNotGrpc
                | ProtocolAbuse::TooManyConnections,
            ) => Severity::Low,
            Self::Transport(_) => Severity::Medium,
        }
    }
}

/// The counts so far, which begin anew.
fn take<K>(tallies: &Tallies<K>) -> HashMap<K, Tally> {
    std::mem::take(&mut *tallies.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Adds a count to its entry, or to the one of `crowd` when there are too many entries.
fn keep<K: Eq + std::hash::Hash>(tallies: &Tallies<K>, key: K, crowd: K, tally: Tally) {
    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    let has_room = tallies.len() < SOURCES || tallies.contains_key(&key);
    let current = tallies
        .entry(if has_room { key } else { crowd })
        .or_insert(Tally { count: 0, ..tally });
    current.count += tally.count;
    current.first = current.first.min(tally.first);
}

async fn flush_limited(log: SecurityLog, tasks: Tasks) {
    while tasks.pause(Duration::from_secs(1)).await {
        log.write_limited().await;
    }
    log.write_limited().await;
}

async fn flush_unverified(log: SecurityLog, tasks: Tasks) {
    while tasks.pause(Duration::from_secs(1)).await {
        log.write_unverified().await;
    }
    log.write_unverified().await;
}

/// Writes the refusals of one cell.
pub(crate) struct Writer {
    pool: Pool,
    sql: OutboxSql,
    wake: Wake,
    tasks: Tasks,
}

impl Writer {
    pub(crate) fn new(pool: Pool, schema: &'static str, tasks: Tasks) -> Self {
        Self {
            pool,
            sql: OutboxSql::new(schema),
            wake: Wake::default(),
            tasks,
        }
    }

    /// What tells the relay that something was written.
    pub(crate) fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Commits what is waiting, again and again, until the cell is gone.
    pub(crate) async fn run(self, mut entries: mpsc::Receiver<Entry>) {
        let mut group = Vec::with_capacity(GROUP);
        while entries.recv_many(&mut group, GROUP).await > 0 {
            self.write(&mut group).await;
        }
    }

    async fn write(&self, group: &mut Vec<Entry>) {
        let outcome = self.write_group(group).await.map_err(Arc::new);
        let is_of_one = matches!(
            outcome.as_ref().map_err(AsRef::as_ref),
            Err(error) if !matches!(error, Error::Unavailable { .. } | Error::Collision(_))
        );
        if is_of_one && group.len() > 1 {
            // One event that cannot be stored must not take the others with it.
            for entry in group.drain(..) {
                let one = self.write_group(std::slice::from_ref(&entry)).await;
                let _ = entry.written.send(one.map_err(Arc::new));
            }
            self.wake.wake();
            return;
        }
        if outcome.is_ok() {
            self.wake.wake();
        }
        for entry in group.drain(..) {
            // A caller that has gone away needs no answer; its event is written all the same.
            let _ = entry.written.send(outcome.clone());
        }
    }

    /// One statement, one commit, each row under its own tenant's context.
    async fn write_group(&self, group: &[Entry]) -> Result<(), Error> {
        let lease = self.pool.acquire(Asker::SERVICE, ACQUIRE_LIMIT).await?;
        let mut session = Session::new(lease, self.tasks.clone(), false);
        let columns = Columns::of(&group.iter().map(|entry| &entry.event));
        let tenants: Vec<uuid::Uuid> = group.iter().map(|entry| entry.tenant.uuid()).collect();
        failpoint::reach("before_security_commit").await;
        sqlx::query(schema_sql(&self.sql.record_security))
            .bind(tenants)
            .bind(columns.ids)
            .bind(columns.types)
            .bind(columns.aggregates)
            .bind(columns.occurred)
            .bind(columns.actor_kinds)
            .bind(columns.actor_ids)
            .bind(columns.traceparents)
            .bind(columns.bodies)
            .execute(&mut session)
            .await?;
        Ok(())
    }
}
