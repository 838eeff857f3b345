//! Lets a suspended firm in again.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::tenant::{FirmId, Tenant};
use crate::{events, store};

/// Emits `TenantResumed`; an active tenant is returned unchanged.
#[tracing::instrument(name = "tenants.resume_tenant", skip_all)]
pub(crate) async fn resume_tenant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    id: FirmId,
    etag: Option<i64>,
) -> Result<Tenant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut tenant = store::lock(&mut tx, id).await?;
    check_etag(etag, tenant.version)?;
    if tenant.resume(ctx.now()) {
        store::update(&mut tx, &tenant).await?;
        tx.emit(events::resumed(ctx, &tenant));
    }
    tx.remember(ctx, &tenant).await?;
    tx.commit().await?;
    Ok(tenant)
}
