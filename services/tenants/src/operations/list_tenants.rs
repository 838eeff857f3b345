//! Lists tenants in the order of their creation.

use kit::page::Page;
use kit::{Ctx, Db};
use uuid::Uuid;

use crate::error::Error;
use crate::store;
use crate::tenant::{FirmId, Tenant};

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "tenants.list_tenants", skip_all)]
pub(crate) async fn list_tenants(
    ctx: &Ctx,
    db: &Db,
    active: Option<bool>,
    page: &Page<Uuid>,
) -> Result<Vec<Tenant>, Error> {
    let mut tx = db.begin(ctx).await?;
    let after = FirmId::new(page.after.unwrap_or_default());
    store::list(&mut tx, active, after, page.limit()).await
}
