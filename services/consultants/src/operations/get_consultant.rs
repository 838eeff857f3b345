//! Reads one consultant, for a caller or for another service.

use kit::{Ctx, Db};

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;
use crate::store;

#[tracing::instrument(name = "consultants.get_consultant", skip_all)]
pub(crate) async fn get_consultant(
    ctx: &Ctx,
    db: &Db,
    id: ConsultantId,
) -> Result<Consultant, Error> {
    store::get(ctx, db, id).await?.ok_or(Error::NotFound(id))
}
