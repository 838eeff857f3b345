//! Lists consultants in the order of their creation.

use kit::page::Page;
use kit::{Ctx, Db};
use uuid::Uuid;

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;
use crate::store;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "consultants.list_consultants", skip_all)]
pub(crate) async fn list_consultants(
    ctx: &Ctx,
    db: &Db,
    active: Option<bool>,
    page: &Page<Uuid>,
) -> Result<Vec<Consultant>, Error> {
    let mut tx = db.begin(ctx).await?;
    let after = ConsultantId::new(page.after.unwrap_or_default());
    store::list(&mut tx, active, after, page.limit()).await
}
