//! Reads one project for another service, which keeps what it is told: as it is now, past every cache.

use kit::{Ctx, Db};

use crate::error::Error;
use crate::project::{Project, ProjectId};
use crate::store;

#[tracing::instrument(name = "projects.lookup_project", skip_all)]
pub(crate) async fn lookup_project(ctx: &Ctx, db: &Db, id: ProjectId) -> Result<Project, Error> {
    let found = store::project::get(ctx, db, id).await?;
    found.ok_or(Error::ProjectNotFound(id))
}
