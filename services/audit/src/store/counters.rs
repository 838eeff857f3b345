//! Events that meet a rule and have not reached its threshold, until they do.

use kit::Tx;
use kit::session::Session;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Error;
use crate::rules::{Counter, Hit, Met};

/// A counter and what the first of its events was.
pub(crate) struct Counted {
    pub(crate) counter: Counter,
    pub(crate) event_id: Uuid,
    pub(crate) traceparent: Option<String>,
    pub(crate) offender_key: Uuid,
}

#[derive(FromRow)]
struct Row {
    event_id: Uuid,
    traceparent: Option<String>,
    offender_key: Uuid,
    hits_at: Vec<OffsetDateTime>,
    hits_calls: Vec<i64>,
}

/// Removes and returns the counter of a group. Call it under the lock of the tenant's log.
#[tracing::instrument(name = "db.counter.take", skip_all)]
pub(crate) async fn take(tx: &mut Tx, met: &Met) -> Result<Option<Counted>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "delete from audit.counter where tenant_id = $1 and rule = $2 and key = $3 \
         returning event_id, traceparent, offender_key, hits_at, hits_calls",
    )
    .bind(tx.tenant().uuid())
    .bind(&met.rule.name)
    .bind(met.key)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Counted {
        counter: Counter::new(
            row.hits_at
                .into_iter()
                .zip(row.hits_calls)
                .map(|(at, calls)| Hit { at, calls })
                .collect(),
        ),
        event_id: row.event_id,
        traceparent: row.traceparent,
        offender_key: row.offender_key,
    }))
}

/// Stores the counter of a group.
#[tracing::instrument(name = "db.counter.insert", skip_all)]
pub(crate) async fn insert(
    tx: &mut Tx,
    met: &Met,
    counted: &Counted,
    expires_at: OffsetDateTime,
) -> Result<(), Error> {
    let hits = counted.counter.hits();
    sqlx::query(
        "insert into audit.counter \
             (tenant_id, rule, key, event_id, traceparent, offender_key, hits_at, hits_calls, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tx.tenant().uuid())
    .bind(&met.rule.name)
    .bind(met.key)
    .bind(counted.event_id)
    .bind(&counted.traceparent)
    .bind(counted.offender_key)
    .bind(hits.iter().map(|hit| hit.at).collect::<Vec<_>>())
    .bind(hits.iter().map(|hit| hit.calls).collect::<Vec<_>>())
    .bind(expires_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes counters that nobody will look at again. For the operator's role.
#[tracing::instrument(name = "db.counter.expire", skip_all)]
pub(crate) async fn expire(session: &mut Session, now: OffsetDateTime) -> Result<(), Error> {
    sqlx::query("delete from audit.counter where expires_at <= $1")
        .bind(now)
        .execute(session)
        .await?;
    Ok(())
}
