//! Reads one consultant.

use kit::cache::Cache;
use kit::{Ctx, Db};

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;
use crate::store;

/// A consultant who was read a moment ago is not read again where the deployment gives a cache room.
#[tracing::instrument(name = "consultants.get_consultant", skip_all)]
pub(crate) async fn get_consultant(
    ctx: &Ctx,
    db: &Db,
    cache: &Cache<Consultant>,
    id: ConsultantId,
) -> Result<Consultant, Error> {
    let found = cache.read(ctx, id, async || store::get(ctx, db, id).await);
    found.await?.ok_or(Error::NotFound(id))
}
