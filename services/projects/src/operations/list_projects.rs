//! Lists projects in the order of their creation.

use kit::page::Page;
use kit::{Ctx, Db};
use uuid::Uuid;

use crate::error::Error;
use crate::project::{Filter, Project, ProjectId};
use crate::store;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "projects.list_projects", skip_all)]
pub(crate) async fn list_projects(
    ctx: &Ctx,
    db: &Db,
    filter: Filter,
    page: &Page<Uuid>,
) -> Result<Vec<Project>, Error> {
    let mut tx = db.begin(ctx).await?;
    let after = ProjectId::new(page.after.unwrap_or_default());
    store::project::list(&mut tx, filter, after, page.limit()).await
}
