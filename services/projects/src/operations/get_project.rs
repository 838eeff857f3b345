//! Reads one project, for a caller or for another service.

use kit::{Ctx, Db};

use crate::error::Error;
use crate::project::{Project, ProjectId};
use crate::store;

#[tracing::instrument(name = "projects.get_project", skip_all)]
pub(crate) async fn get_project(ctx: &Ctx, db: &Db, id: ProjectId) -> Result<Project, Error> {
    store::project::get(ctx, db, id).await
}
