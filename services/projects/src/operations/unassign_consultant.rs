//! Removes an assignment.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::assignment::AssignmentId;
use crate::error::Error;
use crate::{events, store};

/// Emits `ConsultantUnassigned`. The lock on the project keeps its archiving and other removals out.
#[tracing::instrument(name = "projects.unassign_consultant", skip_all)]
pub(crate) async fn unassign_consultant(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    id: AssignmentId,
    etag: Option<i64>,
) -> Result<(), Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let assignment = store::assignment::get(&mut tx, id).await?;
    check_etag(etag, assignment.version)?;
    let project = store::project::lock(&mut tx, assignment.plan.project_id).await?;
    if project.archived {
        return Err(Error::ProjectArchived);
    }
    store::assignment::delete(&mut tx, id).await?;
    let last = assignment.removed();
    tx.bury(id.uuid(), last.version).await?;
    tx.emit(events::consultant_unassigned(ctx, &last));
    tx.remember(ctx, &()).await?;
    tx.commit().await?;
    Ok(())
}
