//! Creates a consultant in the caller's tenant.

use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::consultant::{Consultant, Profile};
use crate::error::Error;
use crate::{events, store};

/// Emits `ConsultantCreated`. A repeat gets the consultant that the first call made.
#[tracing::instrument(name = "consultants.create_consultant", skip_all)]
pub(crate) async fn create_consultant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    profile: Profile,
) -> Result<Consultant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let consultant = Consultant::new(ctx.new_id(), profile, ctx.now());
    store::insert(&mut tx, &consultant).await?;
    tx.emit(events::created(ctx, &consultant));
    tx.remember(ctx, &consultant).await?;
    tx.commit().await?;
    Ok(consultant)
}
