//! Reads a tenant's log on, piece by piece.

use kit::{Ctx, Db};

use crate::error::Error;
use crate::record::{Filter, Record};
use crate::store;

/// The most records of a piece.
const PIECE: i64 = 200;

/// What was read, and how far the log is read by it.
pub(crate) struct Piece {
    pub(crate) records: Vec<Record>,
    /// Every record of the filter up to this sequence has been read.
    pub(crate) read_to: i64,
    /// More may follow at once.
    pub(crate) is_full: bool,
}

/// The records of the filter after `after`. Sequences are committed in their order, so nothing appears behind it.
#[tracing::instrument(name = "audit.watch_records", skip_all)]
pub(crate) async fn watch_records(
    ctx: &Ctx,
    db: &Db,
    filter: &Filter,
    after: i64,
) -> Result<Piece, Error> {
    let mut tx = db.begin(ctx).await?;
    // Read before the records: what is appended in between belongs to the next piece, or is sent already.
    let end = store::log::last_sequence(&mut tx).await?;
    if end <= after {
        return Ok(Piece {
            records: Vec::new(),
            read_to: after,
            is_full: false,
        });
    }
    let records = store::records::list(&mut tx, filter, after, PIECE).await?;
    let last = records.last().map_or(after, |record| record.sequence);
    let is_full = i64::try_from(records.len()).is_ok_and(|length| length == PIECE);
    let read_to = if is_full { last } else { last.max(end) };
    Ok(Piece {
        records,
        read_to,
        is_full,
    })
}

/// The sequence of the last record.
#[tracing::instrument(name = "audit.end_of_log", skip_all)]
pub(crate) async fn end_of_log(ctx: &Ctx, db: &Db) -> Result<i64, Error> {
    let mut tx = db.begin(ctx).await?;
    store::log::last_sequence(&mut tx).await
}
