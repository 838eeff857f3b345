//! The log as it is written: the end of the chain, and records after it.

use kit::Tx;

use crate::chain::Head;
use crate::error::Error;
use crate::record::{Log, Record};

/// Reads and locks the end of a log: whoever holds it appends next. Readers therefore see sequences without gaps.
#[tracing::instrument(name = "db.chain.lock", skip_all)]
pub(crate) async fn lock(tx: &mut Tx, log: Log) -> Result<Head, Error> {
    let locked = locked_head(tx, log).await?;
    if let Some(head) = locked {
        return Ok(head);
    }
    sqlx::query(
        "insert into audit.chain (tenant_id, operator_only, last_sequence, last_hash) values ($1, $2, $3, $4) \
         on conflict (tenant_id, operator_only) do nothing",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .bind(Head::START.sequence)
    .bind(Head::START.hash.as_slice())
    .execute(&mut **tx)
    .await?;
    locked_head(tx, log)
        .await?
        .ok_or_else(|| kit::Error::internal("a chain that was made is not there").into())
}

async fn locked_head(tx: &mut Tx, log: Log) -> Result<Option<Head>, Error> {
    let row: Option<(i64, [u8; 32])> = sqlx::query_as(
        "select last_sequence, last_hash from audit.chain where tenant_id = $1 and operator_only = $2 for update",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|(sequence, hash)| Head { sequence, hash }))
}

/// Moves the end of a log that this transaction has locked.
#[tracing::instrument(name = "db.chain.update", skip_all)]
pub(crate) async fn move_to(tx: &mut Tx, log: Log, head: &Head) -> Result<(), Error> {
    sqlx::query(
        "update audit.chain set last_sequence = $3, last_hash = $4 where tenant_id = $1 and operator_only = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .bind(head.sequence)
    .bind(head.hash.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The sequence of the last record that the tenant can read.
#[tracing::instrument(name = "db.chain.get", skip_all)]
pub(crate) async fn last_sequence(tx: &mut Tx) -> Result<i64, Error> {
    let sequence: Option<i64> = sqlx::query_scalar(
        "select last_sequence from audit.chain where tenant_id = $1 and not operator_only",
    )
    .bind(tx.tenant().uuid())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(sequence.unwrap_or_default())
}

/// Writes the records of a batch in one statement.
#[tracing::instrument(name = "db.record.insert", skip_all, fields(records = records.len()))]
pub(crate) async fn insert(tx: &mut Tx, log: Log, records: &[Record]) -> Result<(), Error> {
    let entries = || records.iter().map(|record| &record.entry);
    sqlx::query(
        "insert into audit.record \
             (tenant_id, operator_only, sequence, id, event_id, type, category, severity, actor_kind, actor_id, source, \
              aggregate_id, version, resource_kind, resource_id, occurred_at, recorded_at, traceparent, body, hash) \
         select $1, $2, sequence, id, event_id, type, category, severity, actor_kind, actor_id, source, \
                aggregate_id, version, resource_kind, resource_id, occurred_at, recorded_at, traceparent, body, hash \
         from unnest($3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::smallint[], $9::text[], \
                     $10::text[], $11::text[], $12::uuid[], $13::bigint[], $14::text[], $15::uuid[], \
                     $16::timestamptz[], $17::timestamptz[], $18::text[], $19::bytea[], $20::bytea[]) \
              as e (sequence, id, event_id, type, category, severity, actor_kind, actor_id, source, aggregate_id, \
                    version, resource_kind, resource_id, occurred_at, recorded_at, traceparent, body, hash)",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .bind(records.iter().map(|record| record.sequence).collect::<Vec<_>>())
    .bind(entries().map(|it| it.id).collect::<Vec<_>>())
    .bind(entries().map(|it| it.event_id).collect::<Vec<_>>())
    .bind(entries().map(|it| it.type_name.as_str()).collect::<Vec<_>>())
    .bind(entries().map(|it| it.category.as_str()).collect::<Vec<_>>())
    .bind(entries().map(|it| crate::alert::severity_number(it.severity)).collect::<Vec<_>>())
    .bind(entries().map(|it| it.actor.kind()).collect::<Vec<_>>())
    .bind(entries().map(|it| it.actor.id()).collect::<Vec<_>>())
    .bind(entries().map(|it| it.source.as_str()).collect::<Vec<_>>())
    .bind(entries().map(|it| it.aggregate_id).collect::<Vec<_>>())
    .bind(entries().map(|it| it.version).collect::<Vec<_>>())
    .bind(entries().map(|it| it.resource.as_ref().map_or("", |it| it.kind.as_str())).collect::<Vec<_>>())
    .bind(entries().map(|it| it.resource.as_ref().and_then(|it| it.id)).collect::<Vec<_>>())
    .bind(entries().map(|it| it.occurred_at).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.recorded_at).collect::<Vec<_>>())
    .bind(entries().map(|it| it.traceparent.as_deref()).collect::<Vec<_>>())
    .bind(entries().map(|it| &it.body[..]).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.hash.as_slice()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
