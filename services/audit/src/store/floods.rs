//! Windows of floods: those that a batch passes through, and those that are over.

use kit::ctx::Actor;
use kit::session::Session;
use kit::{TenantId, Tx};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::records::severity;
use crate::alert::severity_number;
use crate::error::Error;
use crate::flood::Window;
use crate::record::Log;

#[derive(FromRow)]
struct Row {
    key: Uuid,
    r#type: String,
    severity: i16,
    actor_kind: String,
    actor_id: String,
    resource_kind: String,
    source_address: String,
    began_at: OffsetDateTime,
    recorded: i64,
    counted: i64,
    calls: i64,
    first_at: OffsetDateTime,
    last_at: OffsetDateTime,
    resource_ids: Vec<Uuid>,
}

impl From<Row> for Window {
    fn from(row: Row) -> Self {
        Self {
            key: row.key,
            type_name: row.r#type,
            severity: severity(row.severity),
            actor: Actor::from_parts(&row.actor_kind, &row.actor_id),
            kind: row.resource_kind,
            source_address: row.source_address,
            began_at: row.began_at,
            recorded: row.recorded,
            counted: row.counted,
            calls: row.calls,
            first_at: row.first_at,
            last_at: row.last_at,
            resource_ids: row.resource_ids,
        }
    }
}

/// The open windows of a log with these keys. Read under the lock of the log, which whoever changes them holds.
#[tracing::instrument(name = "db.flood.list", skip_all)]
pub(crate) async fn list(tx: &mut Tx, log: Log, keys: &[Uuid]) -> Result<Vec<Window>, Error> {
    // A look into the key for each: for a list of keys all windows of the log would be read where most logs have few.
    let rows: Vec<Row> = sqlx::query_as(
        "select f.* from unnest($3::uuid[]) as wanted (key) cross join lateral ( \
             select key, type, severity, actor_kind, actor_id, resource_kind, source_address, began_at, recorded, \
                    counted, calls, first_at, last_at, resource_ids \
             from audit.flood where tenant_id = $1 and operator_only = $2 and key = wanted.key limit 1) f",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .bind(keys)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Window::from).collect())
}

/// How many windows of a log are open.
#[tracing::instrument(name = "db.flood.count", skip_all)]
pub(crate) async fn count(tx: &mut Tx, log: Log) -> Result<i64, Error> {
    let count = sqlx::query_scalar(
        "select count(*) from audit.flood where tenant_id = $1 and operator_only = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

/// Stores windows, new and changed ones.
#[tracing::instrument(name = "db.flood.save", skip_all)]
pub(crate) async fn save(tx: &mut Tx, log: Log, windows: &[Window]) -> Result<(), Error> {
    // Arrays of different lengths do not nest: the ids travel as the text of an array.
    let ids = windows.iter().map(|window| {
        let ids: Vec<String> = window.resource_ids.iter().map(Uuid::to_string).collect();
        format!("{{{}}}", ids.join(","))
    });
    sqlx::query(
        "insert into audit.flood \
             (tenant_id, operator_only, key, type, severity, actor_kind, actor_id, resource_kind, source_address, \
              began_at, recorded, counted, calls, first_at, last_at, resource_ids) \
         select $1, $2, key, type, severity, actor_kind, actor_id, resource_kind, source_address, began_at, recorded, \
                counted, calls, first_at, last_at, resource_ids::uuid[] \
         from unnest($3::uuid[], $4::text[], $5::smallint[], $6::text[], $7::text[], $8::text[], $9::text[], \
                     $10::timestamptz[], $11::bigint[], $12::bigint[], $13::bigint[], $14::timestamptz[], \
                     $15::timestamptz[], $16::text[]) \
              as e (key, type, severity, actor_kind, actor_id, resource_kind, source_address, began_at, recorded, \
                    counted, calls, first_at, last_at, resource_ids) \
         on conflict (tenant_id, operator_only, key) do update set \
             began_at = excluded.began_at, recorded = excluded.recorded, counted = excluded.counted, \
             calls = excluded.calls, first_at = excluded.first_at, last_at = excluded.last_at, \
             resource_ids = excluded.resource_ids",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .bind(windows.iter().map(|it| it.key).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.type_name.as_str()).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| severity_number(it.severity)).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.actor.kind()).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.actor.id()).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.kind.as_str()).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.source_address.as_str()).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.began_at).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.recorded).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.counted).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.calls).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.first_at).collect::<Vec<_>>())
    .bind(windows.iter().map(|it| it.last_at).collect::<Vec<_>>())
    .bind(ids.collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the windows of a log that began before `before` and returns them, the oldest first.
#[tracing::instrument(name = "db.flood.take_over", skip_all)]
pub(crate) async fn take_over(
    tx: &mut Tx,
    log: Log,
    before: OffsetDateTime,
) -> Result<Vec<Window>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "delete from audit.flood where tenant_id = $1 and operator_only = $2 and began_at <= $3 \
         returning key, type, severity, actor_kind, actor_id, resource_kind, source_address, began_at, recorded, \
                   counted, calls, first_at, last_at, resource_ids",
    )
    .bind(tx.tenant().uuid())
    .bind(log.is_operator_only())
    .bind(before)
    .fetch_all(&mut **tx)
    .await?;
    let mut windows: Vec<Window> = rows.into_iter().map(Window::from).collect();
    windows.sort_by_key(|window| (window.began_at, window.key));
    Ok(windows)
}

/// The logs that have windows which began before `before`. For the operator's role.
#[tracing::instrument(name = "db.flood.list_logs", skip_all)]
pub(crate) async fn logs_with_over(
    session: &mut Session,
    before: OffsetDateTime,
) -> Result<Vec<(TenantId, Log)>, Error> {
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(
        "select distinct tenant_id, operator_only from audit.flood where began_at <= $1",
    )
    .bind(before)
    .fetch_all(session)
    .await?;
    let log = |(tenant, operator_only)| {
        (
            TenantId::new(tenant),
            Log::from_operator_only(operator_only),
        )
    };
    Ok(rows.into_iter().map(log).collect())
}
