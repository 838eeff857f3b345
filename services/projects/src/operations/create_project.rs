//! Creates a project of a client in the caller's tenant.

use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::client::ClientId;
use crate::error::Error;
use crate::project::{Profile, Project};
use crate::{events, store};

/// What a caller asks for.
pub(crate) struct NewProject {
    pub(crate) client_id: ClientId,
    pub(crate) profile: Profile,
}

/// Emits `ProjectCreated`. A repeat gets the project that the first call made.
#[tracing::instrument(name = "projects.create_project", skip_all)]
pub(crate) async fn create_project(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    new: NewProject,
) -> Result<Project, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let client = store::client::get(&mut tx, new.client_id).await?;
    let project = Project::new(ctx.new_id(), client.id, new.profile, ctx.now());
    store::project::insert(&mut tx, &project).await?;
    tx.emit(events::project_created(ctx, &project));
    tx.remember(ctx, &project).await?;
    tx.commit().await?;
    Ok(project)
}
