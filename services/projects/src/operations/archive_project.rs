//! Closes a project, for good.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::project::{Project, ProjectId};
use crate::{events, store};

/// Emits `ProjectArchived`; an archived project is returned unchanged.
#[tracing::instrument(name = "projects.archive_project", skip_all)]
pub(crate) async fn archive_project(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    id: ProjectId,
    etag: Option<i64>,
) -> Result<Project, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut project = store::project::lock(&mut tx, id).await?;
    check_etag(etag, project.version)?;
    if project.archive(ctx.now()) {
        store::project::update(&mut tx, &project).await?;
        tx.emit(events::project_archived(ctx, &project));
    }
    tx.remember(ctx, &project).await?;
    tx.commit().await?;
    Ok(project)
}
