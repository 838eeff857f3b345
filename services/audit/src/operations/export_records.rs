//! Reads the logs on, piece by piece, as they are stored.

use kit::TenantId;
use kit::db::ExemptDb;

use crate::error::Error;
use crate::store;
use crate::store::export::ExportRow;
use crate::store::records::OperatorPosition;

/// The most records of a piece.
const PIECE: i64 = 1_000;

/// The next records after a position; none at the end. No connection is held between two pieces.
#[tracing::instrument(name = "audit.export_records", skip_all)]
pub(crate) async fn export_records(
    db: &ExemptDb,
    tenant: Option<TenantId>,
    after: OperatorPosition,
) -> Result<Vec<ExportRow>, Error> {
    store::export::list(&mut db.reader().await?, tenant, after, PIECE).await
}
