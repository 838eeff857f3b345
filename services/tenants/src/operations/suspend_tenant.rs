//! Shuts a firm out of the deployment; its rows stay.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::tenant::{FirmId, Tenant};
use crate::{events, store};

/// What a suspension asks for.
pub(crate) struct Suspension {
    pub(crate) id: FirmId,
    pub(crate) etag: Option<i64>,
    /// Why, for the audit log; the row keeps none.
    pub(crate) reason: String,
}

/// Emits `TenantSuspended`; a suspended tenant is returned unchanged.
#[tracing::instrument(name = "tenants.suspend_tenant", skip_all)]
pub(crate) async fn suspend_tenant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    suspension: Suspension,
) -> Result<Tenant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut tenant = store::lock(&mut tx, suspension.id).await?;
    check_etag(suspension.etag, tenant.version)?;
    if tenant.suspend(ctx.now()) {
        store::update(&mut tx, &tenant).await?;
        tx.emit(events::suspended(ctx, &tenant, &suspension.reason));
    }
    tx.remember(ctx, &tenant).await?;
    tx.commit().await?;
    Ok(tenant)
}
