//! What attempts across tenants are found from: whose id is whose, and ids that were named in vain.

use std::collections::BTreeMap;

use kit::TenantId;
use kit::Tx;
use kit::ctx::Actor;
use kit::db::ExemptTx;
use kit::session::Session;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::error::Error;

/// An id that a caller named and did not find.
pub(crate) struct Miss<'a> {
    pub(crate) event_id: Uuid,
    pub(crate) kind: &'a str,
    pub(crate) resource_id: Uuid,
    pub(crate) actor: &'a Actor,
    pub(crate) method: String,
    pub(crate) occurred_at: OffsetDateTime,
    pub(crate) traceparent: Option<&'a str>,
}

/// Notes ids as the tenant's, each with its kind.
#[tracing::instrument(name = "db.registry.insert", skip_all)]
pub(crate) async fn register(tx: &mut Tx, kinds: &BTreeMap<Uuid, &str>) -> Result<(), Error> {
    sqlx::query(
        "insert into audit.registry (tenant_id, id, kind) \
         select $1, id, kind from unnest($2::uuid[], $3::text[]) as e (id, kind) \
         on conflict (tenant_id, id) do nothing",
    )
    .bind(tx.tenant().uuid())
    .bind(kinds.keys().copied().collect::<Vec<_>>())
    .bind(kinds.values().copied().collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps misses of the tenant's callers until they are judged.
#[tracing::instrument(name = "db.miss.insert", skip_all)]
pub(crate) async fn insert_misses(
    tx: &mut Tx,
    misses: &[Miss<'_>],
    now: OffsetDateTime,
) -> Result<(), Error> {
    sqlx::query(
        "insert into audit.miss \
             (tenant_id, event_id, kind, resource_id, actor_kind, actor_id, method, occurred_at, traceparent, received_at) \
         select $1, event_id, kind, resource_id, actor_kind, actor_id, method, occurred_at, traceparent, $2 \
         from unnest($3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], \
                     $10::text[]) \
              as e (event_id, kind, resource_id, actor_kind, actor_id, method, occurred_at, traceparent)",
    )
    .bind(tx.tenant().uuid())
    .bind(now)
    .bind(misses.iter().map(|miss| miss.event_id).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.kind).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.resource_id).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.actor.kind()).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.actor.id()).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.method.as_str()).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.occurred_at).collect::<Vec<_>>())
    .bind(misses.iter().map(|miss| miss.traceparent).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Claims the effects of events in the tenant of the transaction; the ids of those that had none yet.
/// Waits for another replica that is at it, and then finds the effect there.
#[tracing::instrument(name = "db.inbox.insert", skip_all)]
pub(crate) async fn claim(tx: &mut Tx, event_ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let fresh = sqlx::query_scalar(
        "insert into audit.inbox (tenant_id, event_id) select $1, id from unnest($2::uuid[]) as e (id) order by id \
         on conflict (tenant_id, event_id) do nothing returning event_id",
    )
    .bind(tx.tenant().uuid())
    .bind(event_ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(fresh)
}

#[derive(FromRow)]
struct Row {
    tenant_id: Uuid,
    event_id: Uuid,
    kind: String,
    resource_id: Uuid,
    actor_kind: String,
    actor_id: String,
    method: String,
    occurred_at: OffsetDateTime,
    traceparent: Option<String>,
    victim_id: Uuid,
    victim_kind: String,
}

impl From<Row> for Attempt {
    fn from(row: Row) -> Self {
        Self {
            offender: TenantId::new(row.tenant_id),
            victim: TenantId::new(row.victim_id),
            actor: Actor::from_parts(&row.actor_kind, &row.actor_id),
            miss_id: row.event_id,
            named_kind: row.kind,
            kind: row.victim_kind,
            resource_id: row.resource_id,
            method: row.method,
            occurred_at: row.occurred_at,
            traceparent: row.traceparent,
        }
    }
}

/// Misses received since then whose id is another tenant's, the oldest first. For the operator's role.
#[tracing::instrument(name = "db.miss.list_attempts", skip_all)]
pub(crate) async fn list(
    session: &mut Session,
    since: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Attempt>, Error> {
    // Lateral with a limit: one look into the index for each miss, however many ids are registered.
    let rows: Vec<Row> = sqlx::query_as(
        "select m.tenant_id, m.event_id, m.kind, m.resource_id, m.actor_kind, m.actor_id, m.method, m.occurred_at, \
                m.traceparent, r.tenant_id as victim_id, r.kind as victim_kind \
         from audit.miss m cross join lateral ( \
             select tenant_id, kind from audit.registry \
             where id = m.resource_id and tenant_id <> m.tenant_id limit 1) r \
         where m.received_at >= $1 order by m.received_at limit $2",
    )
    .bind(since)
    .bind(limit)
    .fetch_all(session)
    .await?;
    Ok(rows.into_iter().map(Attempt::from).collect())
}

/// Forgets misses that have been judged. For the operator's role.
#[tracing::instrument(name = "db.miss.delete", skip_all)]
pub(crate) async fn forget(tx: &mut ExemptTx, attempts: &[Attempt]) -> Result<(), Error> {
    sqlx::query(
        "delete from audit.miss m using unnest($1::uuid[], $2::uuid[]) as e (tenant_id, event_id) \
         where m.tenant_id = e.tenant_id and m.event_id = e.event_id",
    )
    .bind(
        attempts
            .iter()
            .map(|attempt| attempt.offender.uuid())
            .collect::<Vec<_>>(),
    )
    .bind(
        attempts
            .iter()
            .map(|attempt| attempt.miss_id)
            .collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets misses from before `before` whose id is no other tenant's. For the operator's role.
#[tracing::instrument(name = "db.miss.expire", skip_all)]
pub(crate) async fn expire(tx: &mut ExemptTx, before: OffsetDateTime) -> Result<(), Error> {
    sqlx::query(
        "delete from audit.miss m where m.received_at < $1 and not exists ( \
             select from audit.registry r where r.id = m.resource_id and r.tenant_id <> m.tenant_id)",
    )
    .bind(before)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
