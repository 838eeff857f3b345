//! Changes fields of a project.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::project::{Profile, Project, ProjectId};
use crate::{events, store};

/// What an update asks for.
pub(crate) struct ProjectUpdate {
    pub(crate) id: ProjectId,
    pub(crate) etag: Option<i64>,
    pub(crate) named: Vec<&'static str>,
    pub(crate) wished: Profile,
}

/// Emits `ProjectUpdated`, unless nothing changed.
#[tracing::instrument(name = "projects.update_project", skip_all)]
pub(crate) async fn update_project(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    update: ProjectUpdate,
) -> Result<Project, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut project = store::project::lock(&mut tx, update.id).await?;
    check_etag(update.etag, project.version)?;
    let changed = project.update(&update.wished, &update.named, ctx.now())?;
    if !changed.is_empty() {
        store::project::update(&mut tx, &project).await?;
        tx.emit(events::project_updated(ctx, &project, &changed));
    }
    tx.remember(ctx, &project).await?;
    tx.commit().await?;
    Ok(project)
}
