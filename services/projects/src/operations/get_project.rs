//! Reads one project.

use kit::cache::Cache;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::project::{Project, ProjectId};
use crate::store;

/// A project that was read a moment ago is not read again where the deployment gives a cache room.
#[tracing::instrument(name = "projects.get_project", skip_all)]
pub(crate) async fn get_project(
    ctx: &Ctx,
    db: &Db,
    cache: &Cache<Project>,
    id: ProjectId,
) -> Result<Project, Error> {
    let found = cache.read(ctx, id, async || store::project::get(ctx, db, id).await);
    found.await?.ok_or(Error::ProjectNotFound(id))
}
