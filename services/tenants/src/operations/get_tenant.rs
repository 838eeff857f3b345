//! Reads one tenant.

use kit::{Ctx, Db};

use crate::error::Error;
use crate::store;
use crate::tenant::{FirmId, Tenant};

#[tracing::instrument(name = "tenants.get_tenant", skip_all)]
pub(crate) async fn get_tenant(ctx: &Ctx, db: &Db, id: FirmId) -> Result<Tenant, Error> {
    let mut tx = db.begin(ctx).await?;
    store::get(&mut tx, id).await?.ok_or(Error::NotFound(id))
}
