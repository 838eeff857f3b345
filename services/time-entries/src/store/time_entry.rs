//! One entry: written, read, locked, changed, removed.

use kit::Tx;
use sqlx::FromRow;
use uuid::Uuid;

use super::Row;
use crate::error::Error;
use crate::reference::Project;
use crate::time_entry::{TimeEntry, TimeEntryId};

#[tracing::instrument(name = "db.time_entry.insert", skip_all, fields(time_entry.id = %entry.id))]
pub(crate) async fn insert(tx: &mut Tx, entry: &TimeEntry) -> Result<(), Error> {
    let span = &entry.span;
    sqlx::query(
        "insert into time_entries.time_entry \
             (tenant_id, id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
              time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(tx.tenant().uuid())
    .bind(entry.id)
    .bind(entry.project_id)
    .bind(entry.consultant_id)
    .bind(span.started_at)
    .bind(span.ended_at)
    .bind(span.break_minutes)
    .bind(span.worked_minutes)
    .bind(span.worked_on)
    .bind(&span.time_zone)
    .bind(entry.billable)
    .bind(&entry.note)
    .bind(&entry.external_id)
    .bind(entry.overlap_kept)
    .bind(entry.version)
    .bind(entry.created_at)
    .bind(entry.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.time_entry.get", skip_all, fields(time_entry.id = %id))]
pub(crate) async fn get(tx: &mut Tx, id: TimeEntryId) -> Result<Option<TimeEntry>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at \
         from time_entries.time_entry where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(TimeEntry::from))
}

#[derive(FromRow)]
struct LockedRow {
    #[sqlx(flatten)]
    entry: Row,
    client_id: Uuid,
    code: String,
    display_name: String,
    project_active: bool,
    project_billable: bool,
    project_version: i64,
}

/// Reads and locks an entry, with its project: the lock orders the events of one aggregate.
#[tracing::instrument(name = "db.time_entry.lock", skip_all, fields(time_entry.id = %id))]
pub(crate) async fn lock(
    tx: &mut Tx,
    id: TimeEntryId,
) -> Result<Option<(TimeEntry, Project)>, Error> {
    let row: Option<LockedRow> = sqlx::query_as(
        "select e.id, e.project_id, e.consultant_id, e.started_at, e.ended_at, e.break_minutes, e.worked_minutes, \
                e.worked_on, e.time_zone, e.billable, e.note, e.external_id, e.overlap_kept, e.version, e.created_at, \
                e.updated_at, p.client_id, p.code, p.display_name, p.active as project_active, \
                p.billable as project_billable, p.version as project_version \
         from time_entries.time_entry e \
         join time_entries.project p on p.tenant_id = e.tenant_id and p.id = e.project_id \
         where e.tenant_id = $1 and p.tenant_id = $1 and e.id = $2 for update of e",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| {
        let project = Project {
            id: row.entry.project_id,
            client_id: row.client_id,
            code: row.code,
            display_name: row.display_name,
            active: row.project_active,
            billable: row.project_billable,
            version: row.project_version,
        };
        (row.entry.into(), project)
    }))
}

#[tracing::instrument(name = "db.time_entry.update", skip_all, fields(time_entry.id = %entry.id))]
pub(crate) async fn update(tx: &mut Tx, entry: &TimeEntry) -> Result<(), Error> {
    let span = &entry.span;
    sqlx::query(
        "update time_entries.time_entry set \
             project_id = $3, started_at = $4, ended_at = $5, break_minutes = $6, worked_minutes = $7, worked_on = $8, \
             time_zone = $9, billable = $10, note = $11, external_id = $12, overlap_kept = $13, version = $14, \
             updated_at = $15 \
         where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(entry.id)
    .bind(entry.project_id)
    .bind(span.started_at)
    .bind(span.ended_at)
    .bind(span.break_minutes)
    .bind(span.worked_minutes)
    .bind(span.worked_on)
    .bind(&span.time_zone)
    .bind(entry.billable)
    .bind(&entry.note)
    .bind(&entry.external_id)
    .bind(entry.overlap_kept)
    .bind(entry.version)
    .bind(entry.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.time_entry.delete", skip_all, fields(time_entry.id = %id))]
pub(crate) async fn delete(tx: &mut Tx, id: TimeEntryId) -> Result<(), Error> {
    sqlx::query("delete from time_entries.time_entry where tenant_id = $1 and id = $2")
        .bind(tx.tenant().uuid())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
