//! Reads one consultant for another service, which keeps what it is told: as it is now, past every cache.

use kit::{Ctx, Db};

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;
use crate::store;

#[tracing::instrument(name = "consultants.lookup_consultant", skip_all)]
pub(crate) async fn lookup_consultant(
    ctx: &Ctx,
    db: &Db,
    id: ConsultantId,
) -> Result<Consultant, Error> {
    store::get(ctx, db, id).await?.ok_or(Error::NotFound(id))
}
