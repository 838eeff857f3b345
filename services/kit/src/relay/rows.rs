//! The relay's statements on one outbox, and the rows that they read.
//!
//! Invariant: what a statement costs does not depend on what was known of the table when it was planned. An outbox is
//! empty most of the time, and a plan made then would read all of a backlog for each batch: so every access is a look
//! into an index that the text leaves no choice about (`lateral … limit`), and the relay's roles do without sequential
//! scans.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::Error;
use crate::ctx::{Actor, Clock};
use crate::db::schema_sql;
use crate::events::Emitted;
use crate::ids::TenantId;
use crate::pressure::Backlog;
use crate::session::Session;

/// The most messages that the broker takes in one atomic batch.
const BATCH: i64 = 1_000;
/// The lease is renewed with each round; another relay takes over this long after the last one.
const LEASE_SECONDS: i32 = 2;

/// One outbox, as the relay sees it.
pub(super) struct Rows {
    outbox: &'static str,
    holder: Uuid,
    acquire: Arc<str>,
    read: Arc<str>,
    remove: Arc<str>,
    measure: Arc<str>,
}

/// Rows that are published together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Pending>,
    /// More rows may be waiting than were read.
    pub(super) is_followed: bool,
}

/// A row of the outbox.
pub(super) struct Pending {
    seq: i64,
    pub(super) tenant: TenantId,
    /// Without its body.
    pub(super) event: Emitted,
    pub(super) body: Bytes,
}

impl Batch {
    fn ids(&self) -> Vec<Uuid> {
        self.rows.iter().map(|row| row.event.event_id).collect()
    }

    /// Seconds since the oldest of the rows was written; 0 without rows.
    pub(super) fn age(&self) -> f64 {
        let oldest = self.rows.iter().map(|row| row.event.occurred_at).min();
        oldest.map_or(0.0, |oldest| {
            (Clock::system().now() - oldest).as_seconds_f64().max(0.0)
        })
    }

    /// All that waits, if this is all of it.
    pub(super) fn backlog(&self) -> Option<Backlog> {
        (!self.is_followed).then(|| Backlog {
            rows: u64::try_from(self.rows.len()).unwrap_or(u64::MAX),
            age: self.age(),
        })
    }
}

/// The tenants that have rows, by a look into the index for each.
fn tenants(table: &str) -> String {
    format!(
        "with recursive tenant (tenant_id) as ( \
             (select o.tenant_id from {table} o order by o.tenant_id limit 1) \
             union all \
             select (select o.tenant_id from {table} o where o.tenant_id > t.tenant_id \
                     order by o.tenant_id limit 1) \
             from tenant t where t.tenant_id is not null \
         )"
    )
}

impl Rows {
    pub(super) fn new(schema: &str, outbox: &'static str, holder: Uuid) -> Self {
        let table = format!("{schema}.{outbox}");
        let tenants = tenants(&table);
        Self {
            outbox,
            holder,
            acquire: format!(
                "update {schema}.relay_lease \
                 set holder = $2, epoch = epoch + (holder <> $2)::int, \
                     expires_at = clock_timestamp() + make_interval(secs => $3) \
                 where outbox = $1 and (holder = $2 or expires_at < clock_timestamp()) returning epoch"
            )
            .into(),
            // Tenants take turns, in no order of their own: with more of them than a batch has rows, none waits for
            // ever. A tenant's share is small where many have rows, so that little is read in vain.
            read: format!(
                "{tenants}, share (rows) as ( \
                     select least($1, greatest(4 * $1 / greatest(count(tenant_id), 1), 1)) from tenant \
                 ) \
                 select r.seq, t.tenant_id, r.event_id, r.type, r.aggregate_id, r.version, r.occurred_at, \
                        r.actor_kind, r.actor_id, r.traceparent, r.body, r.turn >= share.rows as is_capped \
                 from share cross join tenant t cross join lateral ( \
                     select o.*, row_number() over (order by o.seq) as turn from {table} o \
                     where o.tenant_id = t.tenant_id and o.event_id not in (select unnest($2::uuid[])) \
                     order by o.seq limit (select rows from share) \
                 ) r \
                 order by r.turn, random() limit $1"
            )
            .into(),
            // A row is named by its id and by its place: whichever index is taken, the look finds it at once. By the id
            // alone, the index of places would pass over all rows of the tenant before it.
            remove: format!(
                "with held as ( \
                     update {schema}.relay_lease set expires_at = clock_timestamp() + make_interval(secs => $4) \
                     where outbox = $1 and holder = $2 and epoch = $3 returning 1 \
                 ), gone as ( \
                     delete from {table} where exists (select from held) and ctid = any (array( \
                         select r.ctid from unnest($5::uuid[], $6::uuid[], $7::bigint[]) as k (tenant_id, event_id, seq) \
                         cross join lateral ( \
                             select o.ctid from {table} o \
                             where o.tenant_id = k.tenant_id and o.event_id = k.event_id and o.seq = k.seq limit 1 \
                         ) r \
                     )) returning 1 \
                 ) \
                 select exists (select from held), (select count(*) from gone)"
            )
            .into(),
            measure: format!(
                "{tenants} \
                 select (select count(*) from (select from {table} limit $1) counted), \
                        (select extract(epoch from clock_timestamp() - min(r.occurred_at))::float8 \
                         from tenant t cross join lateral ( \
                             select o.occurred_at from {table} o where o.tenant_id = t.tenant_id \
                             order by o.seq limit 1 \
                         ) r)"
            )
            .into(),
        }
    }

    /// Takes or renews the lease; its epoch, or none while another relay holds it.
    pub(super) async fn acquire(&self, session: &mut Session) -> Result<Option<i64>, Error> {
        let epoch = sqlx::query_scalar(schema_sql(&self.acquire))
            .bind(self.outbox)
            .bind(self.holder)
            .bind(f64::from(LEASE_SECONDS))
            .fetch_optional(session)
            .await?;
        Ok(epoch)
    }

    /// The next rows beside those that are at the broker, in the order in which they were written.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        at_the_broker: &Batch,
    ) -> Result<Batch, Error> {
        let read: Vec<(Pending, bool)> = sqlx::query(schema_sql(&self.read))
            .bind(BATCH)
            .bind(at_the_broker.ids())
            .try_map(|row: PgRow| Ok((read_row(&row)?, row.try_get("is_capped")?)))
            .fetch_all(session)
            .await?;
        let is_full = i64::try_from(read.len()).is_ok_and(|count| count >= BATCH);
        let is_followed = is_full || read.iter().any(|(_, is_capped)| *is_capped);
        let mut rows: Vec<Pending> = read.into_iter().map(|(row, _)| row).collect();
        rows.sort_by_key(|row| row.seq);
        Ok(Batch { rows, is_followed })
    }

    /// Renews the lease and removes what the broker has acknowledged; how many rows that were, or none when the lease
    /// went to another relay.
    pub(super) async fn remove(
        &self,
        session: &mut Session,
        epoch: i64,
        acknowledged: &Batch,
    ) -> Result<Option<u64>, Error> {
        let tenants: Vec<Uuid> = acknowledged
            .rows
            .iter()
            .map(|it| it.tenant.uuid())
            .collect();
        let (held, gone): (bool, i64) = sqlx::query_as(schema_sql(&self.remove))
            .bind(self.outbox)
            .bind(self.holder)
            .bind(epoch)
            .bind(f64::from(LEASE_SECONDS))
            .bind(tenants)
            .bind(acknowledged.ids())
            .bind(
                acknowledged
                    .rows
                    .iter()
                    .map(|it| it.seq)
                    .collect::<Vec<_>>(),
            )
            .fetch_one(session)
            .await?;
        Ok(held.then(|| u64::try_from(gone).unwrap_or_default()))
    }

    /// How much waits, counted up to `limit`.
    pub(super) async fn measure(
        &self,
        session: &mut Session,
        limit: u64,
    ) -> Result<Backlog, Error> {
        let (rows, age): (i64, Option<f64>) = sqlx::query_as(schema_sql(&self.measure))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_one(session)
            .await?;
        Ok(Backlog {
            rows: u64::try_from(rows).unwrap_or_default(),
            age: age.unwrap_or_default().max(0.0),
        })
    }
}

fn read_row(row: &PgRow) -> Result<Pending, sqlx::Error> {
    let body: Vec<u8> = row.try_get("body")?;
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
            body: Vec::new(),
        },
        body: body.into(),
    })
}
