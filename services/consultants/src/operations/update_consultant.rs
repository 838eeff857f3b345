//! Changes fields of a consultant.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::consultant::{Consultant, ConsultantId, Profile};
use crate::error::Error;
use crate::{events, store};

/// What an update asks for.
pub(crate) struct Update {
    pub(crate) id: ConsultantId,
    pub(crate) etag: Option<i64>,
    pub(crate) named: Vec<&'static str>,
    pub(crate) wished: Profile,
}

/// Emits `ConsultantUpdated`, unless nothing changed.
#[tracing::instrument(name = "consultants.update_consultant", skip_all)]
pub(crate) async fn update_consultant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    update: Update,
) -> Result<Consultant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut consultant = store::lock(&mut tx, update.id).await?;
    check_etag(update.etag, consultant.version)?;
    let changed = consultant.update(&update.wished, &update.named, ctx.now());
    if !changed.is_empty() {
        store::update(&mut tx, &consultant).await?;
        tx.emit(events::updated(ctx, &consultant, &changed));
    }
    tx.remember(ctx, &consultant).await?;
    tx.commit().await?;
    Ok(consultant)
}
