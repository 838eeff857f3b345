//! Sums of entries, added up by the database.

use kit::Tx;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres, query_as};
use time::{Date, Duration, OffsetDateTime, Time};

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
    // An optional filter is a statement of its own, so that each has its index. The bounds of started_at are what
    // reaches it: a local date is at most a day away from that of the instant in UTC.
    let query = match (selection.project, selection.consultant) {
        (None, None) => page(
            tx,
            selection,
            after,
            limit,
            "",
        ),
        _ => page(tx, selection, after, limit, ""),
    };
    let rows = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Sum::from).collect())
}
