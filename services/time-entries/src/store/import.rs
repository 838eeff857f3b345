//! Many entries at a time: a statement for a chunk, and the constraints decide which rows get in.

use std::collections::{HashMap, HashSet};

use kit::Tx;

use super::column;
use crate::error::Error;
use crate::time_entry::{TimeEntry, TimeEntryId};

/// Waits until no other import of the tenant has a chunk under way, and holds the others off until the end of `tx`.
/// Rows of two chunks may conflict in opposite orders. The database would notice after a second and end one of the two,
/// and six imports of the same rows kept each other from ending for 9 s and more.
#[tracing::instrument(name = "db.time_entry.import_in_turn", skip_all)]
pub(crate) async fn in_turn(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query(
        "select pg_advisory_xact_lock(hashtextextended('time_entries.import ' || $1::text, 0))",
    )
    .bind(tx.tenant().uuid())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes entries in their order; those that meet a taken external id or overlap another entry are left out.
/// The ids of those that were written.
#[tracing::instrument(name = "db.time_entry.insert_all", skip_all)]
pub(crate) async fn insert_all(
    tx: &mut Tx,
    entries: &[&TimeEntry],
    overlap_kept: bool,
) -> Result<HashSet<TimeEntryId>, Error> {
    let entries = || entries.iter().copied();
    // No conflict target: an exclusion constraint cannot be one, and the partitions', not the parent's, decide here.
    let written: Vec<TimeEntryId> = sqlx::query_scalar(
        "insert into time_entries.time_entry \
             (tenant_id, id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
              time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at) \
         select $1, id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                time_zone, billable, note, external_id, $2, version, created_at, created_at \
         from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::integer[], \
                     $9::integer[], $10::date[], $11::text[], $12::boolean[], $13::text[], $14::text[], \
                     $15::bigint[], $16::timestamptz[]) with ordinality \
              as e (id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                    time_zone, billable, note, external_id, version, created_at, n) \
         order by n \
         on conflict do nothing \
         returning id",
    )
    .bind(tx.tenant().uuid())
    .bind(overlap_kept)
    .bind(column(entries(), |entry| entry.id))
    .bind(column(entries(), |entry| entry.project_id))
    .bind(column(entries(), |entry| entry.consultant_id))
    .bind(column(entries(), |entry| entry.span.started_at))
    .bind(column(entries(), |entry| entry.span.ended_at))
    .bind(column(entries(), |entry| entry.span.break_minutes))
    .bind(column(entries(), |entry| entry.span.worked_minutes))
    .bind(column(entries(), |entry| entry.span.worked_on))
    .bind(column(entries(), |entry| entry.span.time_zone.as_str()))
    .bind(column(entries(), |entry| entry.billable))
    .bind(column(entries(), |entry| entry.note.as_str()))
    .bind(column(entries(), |entry| entry.external_id.as_deref()))
    .bind(column(entries(), |entry| entry.version))
    .bind(column(entries(), |entry| entry.created_at))
    .fetch_all(&mut **tx)
    .await?;
    Ok(written.into_iter().collect())
}

/// Which of these external ids are taken, and by which entries.
#[tracing::instrument(name = "db.time_entry.find_by_external_id", skip_all)]
pub(crate) async fn find_by_external_id(
    tx: &mut Tx,
    external_ids: &[&str],
) -> Result<HashMap<String, TimeEntryId>, Error> {
    let rows: Vec<(String, TimeEntryId)> = sqlx::query_as(
        "select external_id, id from time_entries.time_entry where tenant_id = $1 and external_id = any($2)",
    )
    .bind(tx.tenant().uuid())
    .bind(external_ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().collect())
}
