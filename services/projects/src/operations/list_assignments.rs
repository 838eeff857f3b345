//! Lists assignments in the order of their creation.

use kit::page::Page;
use kit::{Ctx, Db};
use uuid::Uuid;

use crate::assignment::{Assignment, AssignmentId, Filter};
use crate::error::Error;
use crate::store;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "projects.list_assignments", skip_all)]
pub(crate) async fn list_assignments(
    ctx: &Ctx,
    db: &Db,
    filter: Filter,
    page: &Page<Uuid>,
) -> Result<Vec<Assignment>, Error> {
    let mut tx = db.begin(ctx).await?;
    let after = AssignmentId::new(page.after.unwrap_or_default());
    store::assignment::list(&mut tx, filter, after, page.limit()).await
}
