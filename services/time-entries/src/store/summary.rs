//! Sums of entries, added up by the database.

use kit::Tx;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres, query_as};
use time::{Duration, Time};

use crate::error::Error;
use crate::summary::{Dimension, Key, Selection, Sum};

#[derive(FromRow)]
struct Row {
    key_1: String,
    key_2: String,
    key_3: String,
    entries: i64,
    worked_minutes: i64,
    billable_minutes: i64,
}

impl From<Row> for Sum {
    fn from(row: Row) -> Self {
        Self {
            key: [row.key_1, row.key_2, row.key_3],
            entries: row.entries,
            worked_minutes: row.worked_minutes,
            billable_minutes: row.billable_minutes,
        }
    }
}

/// Groups after `after`, in the order of their keys, `limit` at most.
#[tracing::instrument(name = "db.time_entry.summarize", skip_all)]
pub(crate) async fn summarize(
    tx: &mut Tx,
    selection: &Selection,
    after: &Key,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    // An optional filter is a statement of its own, so that each has its index.
    let query = match (selection.project, selection.consultant) {
        (None, None) => page(
            tx,
            selection,
            after,
            limit,
            "select key_1, key_2, key_3, count(*) as entries, sum(worked_minutes) as worked_minutes, \
                    coalesce(sum(worked_minutes) filter (where billable), 0) as billable_minutes \
             from (select time_entries.summary_key($6, project_id, consultant_id, worked_on) collate \"C\" as key_1, \
                          time_entries.summary_key($7, project_id, consultant_id, worked_on) collate \"C\" as key_2, \
                          time_entries.summary_key($8, project_id, consultant_id, worked_on) collate \"C\" as key_3, \
                          worked_minutes, billable \
                   from time_entries.time_entry \
                   where tenant_id = $1 and started_at >= $2 and started_at < $3 \
                     and worked_on >= $4 and worked_on < $5) as entry \
             where (key_1, key_2, key_3) > ($9, $10, $11) \
             group by key_1, key_2, key_3 order by key_1, key_2, key_3 limit $12",
        ),
        (Some(project), None) => page(
            tx,
            selection,
            after,
            limit,
            "select key_1, key_2, key_3, count(*) as entries, sum(worked_minutes) as worked_minutes, \
                    coalesce(sum(worked_minutes) filter (where billable), 0) as billable_minutes \
             from (select time_entries.summary_key($6, project_id, consultant_id, worked_on) collate \"C\" as key_1, \
                          time_entries.summary_key($7, project_id, consultant_id, worked_on) collate \"C\" as key_2, \
                          time_entries.summary_key($8, project_id, consultant_id, worked_on) collate \"C\" as key_3, \
                          worked_minutes, billable \
                   from time_entries.time_entry \
                   where tenant_id = $1 and started_at >= $2 and started_at < $3 \
                     and worked_on >= $4 and worked_on < $5 and project_id = $13) as entry \
             where (key_1, key_2, key_3) > ($9, $10, $11) \
             group by key_1, key_2, key_3 order by key_1, key_2, key_3 limit $12",
        )
        .bind(project),
        (None, Some(consultant)) => page(
            tx,
            selection,
            after,
            limit,
            "select key_1, key_2, key_3, count(*) as entries, sum(worked_minutes) as worked_minutes, \
                    coalesce(sum(worked_minutes) filter (where billable), 0) as billable_minutes \
             from (select time_entries.summary_key($6, project_id, consultant_id, worked_on) collate \"C\" as key_1, \
                          time_entries.summary_key($7, project_id, consultant_id, worked_on) collate \"C\" as key_2, \
                          time_entries.summary_key($8, project_id, consultant_id, worked_on) collate \"C\" as key_3, \
                          worked_minutes, billable \
                   from time_entries.time_entry \
                   where tenant_id = $1 and started_at >= $2 and started_at < $3 \
                     and worked_on >= $4 and worked_on < $5 and consultant_id = $13) as entry \
             where (key_1, key_2, key_3) > ($9, $10, $11) \
             group by key_1, key_2, key_3 order by key_1, key_2, key_3 limit $12",
        )
        .bind(consultant),
        (Some(project), Some(consultant)) => page(
            tx,
            selection,
            after,
            limit,
            "select key_1, key_2, key_3, count(*) as entries, sum(worked_minutes) as worked_minutes, \
                    coalesce(sum(worked_minutes) filter (where billable), 0) as billable_minutes \
             from (select time_entries.summary_key($6, project_id, consultant_id, worked_on) collate \"C\" as key_1, \
                          time_entries.summary_key($7, project_id, consultant_id, worked_on) collate \"C\" as key_2, \
                          time_entries.summary_key($8, project_id, consultant_id, worked_on) collate \"C\" as key_3, \
                          worked_minutes, billable \
                   from time_entries.time_entry \
                   where tenant_id = $1 and started_at >= $2 and started_at < $3 \
                     and worked_on >= $4 and worked_on < $5 and project_id = $13 and consultant_id = $14) as entry \
             where (key_1, key_2, key_3) > ($9, $10, $11) \
             group by key_1, key_2, key_3 order by key_1, key_2, key_3 limit $12",
        )
        .bind(project)
        .bind(consultant),
    };
    let rows = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Sum::from).collect())
}

fn page(
    tx: &Tx,
    selection: &Selection,
    after: &Key,
    limit: i64,
    sql: &'static str,
) -> QueryAs<'static, Postgres, Row, PgArguments> {
    // The bounds of started_at are what reaches the index: a local date is never two days from that of UTC.
    let began = selection.from.saturating_sub(Duration::DAY);
    let ended = selection.until.saturating_add(Duration::DAY);
    let mut query = query_as(sql)
        .bind(tx.tenant().uuid())
        .bind(began.with_time(Time::MIDNIGHT).assume_utc())
        .bind(ended.with_time(Time::MIDNIGHT).assume_utc())
        .bind(selection.from)
        .bind(selection.until);
    for slot in selection.grouping.slots() {
        query = query.bind(slot.map(word));
    }
    for part in after {
        query = query.bind(part.clone());
    }
    query.bind(limit)
}

/// What `time_entries.summary_key` calls a dimension.
fn word(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Project => "project",
        Dimension::Consultant => "consultant",
        Dimension::Day => "day",
        Dimension::Week => "week",
        Dimension::Month => "month",
    }
}
