//! Says in which cell the rows of a new tenant are to be.

use kit::cells::CellName;
use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::tenant::{FirmId, Tenant};
use crate::{events, store};

/// What a placement asks for.
pub(crate) struct Placing {
    pub(crate) id: FirmId,
    pub(crate) etag: Option<i64>,
    pub(crate) cell: CellName,
}

/// Emits `TenantPlaced`; a tenant that is in the cell already is returned unchanged.
#[tracing::instrument(name = "tenants.place_tenant", skip_all)]
pub(crate) async fn place_tenant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    placing: Placing,
) -> Result<Tenant, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut tenant = store::lock(&mut tx, placing.id).await?;
    check_etag(placing.etag, tenant.version)?;
    if let Some(previous) = tenant.place(placing.cell, ctx.now())? {
        store::update(&mut tx, &tenant).await?;
        tx.emit(events::placed(ctx, &tenant, &previous));
    }
    tx.remember(ctx, &tenant).await?;
    tx.commit().await?;
    Ok(tenant)
}
