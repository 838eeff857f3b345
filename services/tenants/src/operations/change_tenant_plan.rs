//! Gives a firm another share of the deployment.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::plan::Plan;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::tenant::{FirmId, Tenant};
use crate::{events, store};

/// What a change of plan asks for.
pub(crate) struct PlanChange {
    pub(crate) id: FirmId,
    pub(crate) etag: Option<i64>,
    pub(crate) plan: Plan,
}

/// Emits `TenantPlanChanged`; a tenant that has the plan already is returned unchanged.
#[tracing::instrument(name = "tenants.change_tenant_plan", skip_all)]
pub(crate) async fn change_tenant_plan(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    change: PlanChange,
) -> Result<Tenant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut tenant = store::lock(&mut tx, change.id).await?;
    check_etag(change.etag, tenant.version)?;
    if let Some(previous) = tenant.change_plan(change.plan, ctx.now()) {
        store::update(&mut tx, &tenant).await?;
        tx.emit(events::plan_changed(ctx, &tenant, previous));
    }
    tx.remember(ctx, &tenant).await?;
    tx.commit().await?;
    Ok(tenant)
}
