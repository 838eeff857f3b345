//! Rows. Every statement names the tenant; decides nothing.

pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod reference;
pub(crate) mod summary;
pub(crate) mod time_entry;

use sqlx::FromRow;
use time::{Date, OffsetDateTime};

use crate::reference::{ConsultantId, ProjectId};
use crate::span::Span;
use crate::time_entry::{TimeEntry, TimeEntryId};

#[derive(FromRow)]
struct Row {
    id: TimeEntryId,
    project_id: ProjectId,
    consultant_id: ConsultantId,
    started_at: OffsetDateTime,
    ended_at: OffsetDateTime,
    break_minutes: i32,
    worked_minutes: i32,
    worked_on: Date,
    time_zone: String,
    billable: bool,
    note: String,
    external_id: Option<String>,
    overlap_kept: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for TimeEntry {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            project_id: row.project_id,
            consultant_id: row.consultant_id,
            span: Span {
                started_at: row.started_at,
                ended_at: row.ended_at,
                break_minutes: row.break_minutes,
                worked_minutes: row.worked_minutes,
                worked_on: row.worked_on,
                time_zone: row.time_zone,
            },
            billable: row.billable,
            note: row.note,
            external_id: row.external_id,
            overlap_kept: row.overlap_kept,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// One column of `rows`, as `unnest` takes it.
fn column<R, T>(rows: impl IntoIterator<Item = R>, field: impl Fn(R) -> T) -> Vec<T> {
    rows.into_iter().map(field).collect()
}
