//! Admits a firm to the deployment.

use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::tenant::{Admission, Tenant};
use crate::{events, store};

/// Emits `TenantCreated`. A repeat gets the tenant that the first call made.
#[tracing::instrument(name = "tenants.create_tenant", skip_all)]
pub(crate) async fn create_tenant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    admission: Admission,
) -> Result<Tenant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let tenant = Tenant::new(ctx.new_id(), admission, ctx.now());
    store::insert(&mut tx, &tenant).await?;
    tx.emit(events::created(ctx, &tenant));
    tx.remember(ctx, &tenant).await?;
    tx.commit().await?;
    Ok(tenant)
}
