//! The relay: moves the rows of one outbox to the broker and removes each only after its acknowledgement.
//!
//! One relay per outbox holds a lease, so rows need no locks. It reads the oldest rows, publishes them as one atomic
//! batch (one fsync for the batch), and removes them in a statement that also checks the lease's epoch.
//! No cursor is kept: a sequence has gaps that fill later, and a late commit is found by the next read.
//! A crash after the acknowledgement and before the removal publishes again under the same ids; a relay that lost its
//! lease can publish, but not remove: the broker's duplicate window and the consumers' inbox absorb both.
//!
//! **Fair between tenants.** Tenants take turns, a row each, until a batch is full, so an event waits for the batch at
//! the broker and never for another tenant's backlog. Of one tenant the oldest rows go first, and a batch is published
//! in the order in which its rows were written, which keeps the order of each aggregate.
//!
//! **Nobody else's events.** Whoever owns the database of a dedicated cell can write any row: what it says of a tenant that
//! the directory does not place there is not published.
//!
//! **Two hands.** While a batch is at the broker, the rows of the one before are removed and the next one is read. It
//! is published after the acknowledgement and not beside it: were a batch to fail, one behind it could overtake it.

mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Error;
use crate::bus::Bus;
use crate::cells::CellName;
use crate::ctx::Clock;
use crate::db::ExemptDb;
use crate::directory::Directory;
use crate::events::{self, Stream};
use crate::failpoint;
use crate::host::Definition;
use crate::ids::TenantId;
use crate::outbox::Wake;
use crate::pressure::{Backlog, Pressure, Watch};
use crate::session::Session;
use crate::settings::{DatabaseSettings, SettingsError};
use crate::start::hear_wakes;
use crate::tasks::Tasks;
use crate::telemetry::{self, METRICS};
use rows::{Batch, Pending, Rows};

/// The net under the wake-ups, and the heartbeat of the lease.
const POLL: Duration = Duration::from_millis(500);
/// How long a tenant that the directory does not know yet is waited for.
const BECOMES_KNOWN: Duration = Duration::from_millis(500);
/// `atomic publish batch contains duplicate message id`: some or all of these are stored already.
const DUPLICATE_IN_BATCH: u32 = 10_201;

/// Moves one outbox of one service.
struct Relay {
    db: ExemptDb,
    rows: Rows,
    bus: Bus,
    wake: Wake,
    heard: Wake,
    tasks: Tasks,
    watch: Watch,
    cell: CellName,
    serves: Arc<AtomicBool>,
    /// Of a dedicated cell.
    directory: Option<Directory>,
    /// Rows that were not published at the last look.
    withheld: AtomicUsize,
    service: &'static str,
    noun: &'static str,
    outbox: &'static str,
    stream: Stream,
}

/// What the relays of one service and cell have in common.
pub(crate) struct Relays<'a> {
    pub(crate) database: &'a DatabaseSettings,
    pub(crate) cell: &'a CellName,
    pub(crate) definition: &'a Definition,
    pub(crate) bus: &'a Bus,
    pub(crate) clock: &'a Clock,
    pub(crate) pressure: &'a Pressure,
    /// Whether the cell has been judged and may be touched.
    pub(crate) serves: &'a Arc<AtomicBool>,
    /// Of a dedicated cell: whose events may come from it.
    pub(crate) directory: Option<&'a Directory>,
    pub(crate) tasks: &'a Tasks,
}

impl Relays<'_> {
    /// Starts the relay of one outbox, which `wake` tells of rows that this process has written.
    pub(crate) fn start(&self, stream: Stream, wake: Wake) -> Result<(), SettingsError> {
        let Definition { name, schema, .. } = *self.definition;
        let tasks = self.tasks.clone();
        let heard = Wake::default();
        // Refusals are not slowed: each must be on record before its caller hears of it.
        let (outbox, pressure) = match stream {
            Stream::Domain => ("outbox", Some(self.pressure.clone())),
            Stream::Security => ("security_outbox", None),
        };
        if stream == Stream::Domain {
            let hearing = hear_wakes(
                self.bus.clone(),
                name,
                self.cell.clone(),
                heard.clone(),
                tasks.clone(),
            );
            tasks.spawn(hearing);
        }
        let relay = Relay {
            db: ExemptDb::new(self.database, &format!("{schema}_relay"), 1, tasks.clone())?,
            rows: Rows::new(schema, outbox, self.clock.new_uuid()),
            bus: self.bus.clone(),
            wake,
            heard,
            tasks: tasks.clone(),
            watch: Watch::new(name, self.cell, outbox, pressure),
            cell: self.cell.clone(),
            serves: Arc::clone(self.serves),
            directory: self.directory.cloned(),
            withheld: AtomicUsize::new(0),
            service: name,
            noun: schema,
            outbox,
            stream,
        };
        tasks.spawn(relay.run());
        Ok(())
    }
}

impl Relay {
    /// Runs until the process stops; rows that remain are moved by the next relay.
    async fn run(self) {
        let mut failures: u32 = 0;
        while !self.tasks.is_stopping() {
            if !self.serves.load(Ordering::Acquire) {
                self.tasks.pause(POLL).await;
                continue;
            }
            match self.round().await {
                Ok(Round::Moved) => {
                    failures = 0;
                    self.rest().await;
                }
                Ok(Round::Standby) => {
                    failures = 0;
                    // Another relay tells of them.
                    self.tell_withheld(0);
                    self.stand_by().await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let delay = Duration::from_millis(50 << failures.min(5));
                    tracing::warn!(service = self.service, cell = %self.cell, relay.outbox = self.outbox, error = %crate::error::chain(&error), "the relay could not move events and will try again");
                    self.tasks.pause(delay).await;
                }
            }
        }
        self.tell_withheld(0);
        // Of a cell that is named no longer, nothing would be told any more, and the last backlog would alert for ever.
        self.watch.tell(Backlog::default());
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
                if let Err(error) = self.bus.send(subject, async_nats::HeaderMap::new(), wake_of(&self.cell)).await {
                    tracing::debug!(service = self.service, error = %error, "the wake-up of another relay was not sent");
                }
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// One round: renew the lease, read, and move until no more is waiting.
    async fn round(&self) -> Result<Round, Error> {
        let mut session = self.db.reader().await?;
        let Some(epoch) = self.rows.acquire(&mut session).await? else {
            self.measure(&mut session).await?;
            return Ok(Round::Standby);
        };
        let batch = self.read(&mut session, &Batch::default()).await?;
        if batch.rows.is_empty() {
            return Ok(Round::Moved);
        }
        // The connection is free for others while the broker syncs.
        drop(session);
        self.haul(epoch, batch).await
    }

    /// Moves a batch and those behind it.
    async fn haul(&self, epoch: i64, mut batch: Batch) -> Result<Round, Error> {
        let mut acknowledged = Batch::default();
        while !batch.rows.is_empty() && !self.tasks.is_stopping() {
            failpoint::reach("before_publish").await;
            let spans = publish_spans(&batch.rows);
            let (published, next) = tokio::join!(
                self.publish(&batch.rows),
                self.prepare(epoch, &acknowledged, &batch)
            );
            published?;
            drop(spans);
            failpoint::reach("after_ack").await;
            METRICS.relay_lag.record(batch.age(), self.watch.labels());
            acknowledged = batch;
            let Some(next) = next? else {
                return Ok(Round::Standby);
            };
            batch = next;
        }
        let mut session = self.db.reader().await?;
        let held = self.remove(&mut session, epoch, &acknowledged).await?;
        Ok(if held { Round::Moved } else { Round::Standby })
    }

    /// What can be done while a batch is at the broker: what went before is removed, what comes next is read.
    /// None when the lease went to another relay.
    async fn prepare(
        &self,
        epoch: i64,
        acknowledged: &Batch,
        at_the_broker: &Batch,
    ) -> Result<Option<Batch>, Error> {
        if acknowledged.rows.is_empty() && !at_the_broker.is_followed {
            return Ok(Some(Batch::default()));
        }
        let mut session = self.db.reader().await?;
        if !self.remove(&mut session, epoch, acknowledged).await? {
            return Ok(None);
        }
        if !at_the_broker.is_followed {
            return Ok(Some(Batch::default()));
        }
        self.read(&mut session, at_the_broker).await.map(Some)
    }

    /// Reads the next batch, and tells how much waits with it.
    async fn read(&self, session: &mut Session, at_the_broker: &Batch) -> Result<Batch, Error> {
        let mut batch = self.rows.read(session, at_the_broker).await?;
        match batch.backlog() {
            Some(backlog) => self.watch.tell(backlog),
            None => self.measure(session).await?,
        }
        self.withhold(&mut batch).await;
        Ok(batch)
    }

    /// Leaves rows of tenants that are not placed in the cell where they are.
    async fn withhold(&self, batch: &mut Batch) {
        let Some(directory) = &self.directory else {
            return;
        };
        if self.withheld.load(Ordering::Relaxed) == 0 {
            // A new tenant's first event may be faster than the directory. It is waited for once: others wait behind it.
            let tenants: HashSet<TenantId> = batch.rows.iter().map(|row| row.tenant).collect();
            let known = tenants
                .iter()
                .map(|tenant| directory.becomes_known(*tenant, BECOMES_KNOWN));
            futures::future::join_all(known).await;
        }
        // Asked once for each tenant: of two rows the later one must not go alone.
        let mut is_placed = HashMap::new();
        for row in &batch.rows {
            is_placed.entry(row.tenant).or_insert_with(|| {
                let placement = directory.placement(row.tenant);
                placement.is_some_and(|it| it.cell == self.cell)
            });
        }
        let read = batch.rows.len();
        batch
            .rows
            .retain(|row| is_placed.get(&row.tenant) == Some(&true));
        let withheld = read - batch.rows.len();
        let before = self.tell_withheld(withheld);
        if withheld > 0 && before == 0 {
            tracing::error!(service = self.service, cell = %self.cell, relay.outbox = self.outbox, relay.rows = withheld, "the cell's outbox holds events of tenants that are not placed there; they are not published");
        }
    }

    /// How many rows the last look did not publish; how many those were at the look before.
    fn tell_withheld(&self, rows: usize) -> usize {
        if self.directory.is_some() {
            let told = u64::try_from(rows).unwrap_or(u64::MAX);
            METRICS.relay_withheld.record(told, self.watch.labels());
        }
        self.withheld.swap(rows, Ordering::Relaxed)
    }

    /// Counts what waits, when the last count is old.
    async fn measure(&self, session: &mut Session) -> Result<(), Error> {
        if !self.watch.is_due() {
            return Ok(());
        }
        let begun = Instant::now();
        let backlog = self.rows.measure(session, self.watch.limit()).await?;
        self.watch.counted(begun, backlog);
        Ok(())
    }

    /// Removes what the broker has acknowledged; false when the lease went to another relay.
    async fn remove(
        &self,
        session: &mut Session,
        epoch: i64,
        acknowledged: &Batch,
    ) -> Result<bool, Error> {
        let removed = self.rows.remove(session, epoch, acknowledged).await?;
        let Some(removed) = removed else {
            tracing::warn!(
                service = self.service,
                relay.outbox = self.outbox,
                "the lease went to another relay before the rows were removed"
            );
            return Ok(false);
        };
        METRICS.relay_published.add(removed, self.watch.labels());
        Ok(true)
    }

    /// Publishes all rows and returns once the broker has acknowledged every one of them.
    async fn publish(&self, rows: &[Pending]) -> Result<(), Error> {
        if !self.bus.is_connected() {
            // The client would keep what is sent now, and send it when the rows have long gone another way.
            return Err(Error::Unavailable {
                what: "the broker",
                source: "not connected".into(),
            });
        }
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
            let sent = self.bus.request(subject, headers, row.body.clone());
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
            events::put(&mut headers, "Nats-Batch-Id", batch_id.as_str());
            events::put(&mut headers, "Nats-Batch-Sequence", position);
            let body = row.body.clone();
            if position < last {
                self.bus
                    .send(subject, headers, body)
                    .await
                    .map_err(unavailable)?;
                continue;
            }
            events::put(&mut headers, "Nats-Batch-Commit", "1");
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
    Moved,
    Standby,
}

/// The core subject on which replicas wake the relay that holds the lease.
pub(crate) fn wake_subject(service: &str) -> String {
    format!("relay.{service}")
}

/// What the message says that wakes the relays of a cell. The subject is the same for all, so that what a service may
/// publish does not depend on which cells there are.
pub(crate) fn wake_of(cell: &CellName) -> Bytes {
    if cell.is_shared() {
        return Bytes::new();
    }
    Bytes::copy_from_slice(cell.as_str().as_bytes())
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

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable {
        what: "the broker",
        source: Box::new(error),
    }
}
