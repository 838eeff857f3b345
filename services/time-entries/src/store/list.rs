//! Pages of entries, in the order in which the work began.

use kit::Tx;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{Postgres, query_as};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Row;
use crate::error::Error;
use crate::reference::{ConsultantId, ProjectId};
use crate::time_entry::TimeEntry;

/// After which position, before which instant, and how many at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) after: (OffsetDateTime, Uuid),
    pub(crate) until: OffsetDateTime,
    pub(crate) limit: i64,
}

/// Entries of all, of a project, of a consultant, or of a consultant on a project.
#[tracing::instrument(name = "db.time_entry.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    project: Option<ProjectId>,
    consultant: Option<ConsultantId>,
    stretch: Stretch,
) -> Result<Vec<TimeEntry>, Error> {
    // An optional filter is a statement of its own, so that each has its index.
    // Of the last two the index of the consultant serves both: one person's entries are few.
    let query = match (project, consultant) {
        (None, None) => page(
            tx,
            stretch,
            "select id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                    time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at \
             from time_entries.time_entry \
             where tenant_id = $1 and (started_at, id) > ($2, $3) and started_at < $4 \
             order by started_at, id limit $5",
        ),
        (Some(project), None) => page(
            tx,
            stretch,
            "select id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                    time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at \
             from time_entries.time_entry \
             where tenant_id = $1 and (started_at, id) > ($2, $3) and started_at < $4 and project_id = $6 \
             order by started_at, id limit $5",
        )
        .bind(project),
        (None, Some(consultant)) => page(
            tx,
            stretch,
            "select id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                    time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at \
             from time_entries.time_entry \
             where tenant_id = $1 and (started_at, id) > ($2, $3) and started_at < $4 and consultant_id = $6 \
             order by started_at, id limit $5",
        )
        .bind(consultant),
        (Some(project), Some(consultant)) => page(
            tx,
            stretch,
            "select id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, \
                    time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at \
             from time_entries.time_entry \
             where tenant_id = $1 and (started_at, id) > ($2, $3) and started_at < $4 and project_id = $6 \
               and consultant_id = $7 \
             order by started_at, id limit $5",
        )
        .bind(project)
        .bind(consultant),
    };
    let rows = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(TimeEntry::from).collect())
}

fn page(
    tx: &Tx,
    stretch: Stretch,
    sql: &'static str,
) -> QueryAs<'static, Postgres, Row, PgArguments> {
    let (started_at, id) = stretch.after;
    query_as(sql)
        .bind(tx.tenant().uuid())
        .bind(started_at)
        .bind(id)
        .bind(stretch.until)
        .bind(stretch.limit)
}
