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
    let mut tx = db.begin(ctx).await?;
    store::get(&mut tx, id).await?.ok_or(Error::NotFound(id))
}
