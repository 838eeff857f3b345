//! Ends a consultant's work for the firm, for good.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;
use crate::{events, store};

/// Emits `ConsultantDeactivated`; an inactive consultant is returned unchanged.
#[tracing::instrument(name = "consultants.deactivate_consultant", skip_all)]
pub(crate) async fn deactivate_consultant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    id: ConsultantId,
    etag: Option<i64>,
) -> Result<Consultant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut consultant = store::lock(&mut tx, id).await?;
    check_etag(etag, consultant.version)?;
    if consultant.deactivate(ctx.now()) {
        store::update(&mut tx, &consultant).await?;
        tx.emit(events::deactivated(ctx, &consultant));
    }
    tx.remember(ctx, &consultant).await?;
    tx.commit().await?;
    Ok(consultant)
}
