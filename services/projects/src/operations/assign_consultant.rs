//! Plans a consultant on a project for some days.

use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::assignment::{Assignment, Plan};
use crate::consultant::Consultant;
use crate::consultant_lookup::ConsultantLookup;
use crate::error::Error;
use crate::{events, store};

/// Emits `ConsultantAssigned`. A repeat gets the assignment that the first call made.
/// A consultant who is not known here yet is asked for, once the transaction that missed them is given up.
#[tracing::instrument(name = "projects.assign_consultant", skip_all)]
pub(crate) async fn assign_consultant(
    ctx: &Ctx,
    db: &Db,
    consultants: &ConsultantLookup,
    repeat: &Repeat,
    plan: Plan,
) -> Result<Assignment, Error> {
    match assign(ctx, db, repeat, &plan, None).await {
        Err(Error::ConsultantNotFound(id)) => {
            let consultant = consultants.look_up(ctx, id).await?;
            assign(ctx, db, repeat, &plan, Some(consultant)).await
        }
        outcome => outcome,
    }
}

/// The one transaction; `told` is what the consultants service said of the consultant, if it was asked.
async fn assign(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    plan: &Plan,
    told: Option<Consultant>,
) -> Result<Assignment, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let project = store::project::lock(&mut tx, plan.project_id).await?;
    if project.archived {
        return Err(Error::ProjectArchived);
    }
    if let Some(told) = told {
        store::consultant::upsert(&mut tx, &[told]).await?;
    }
    let consultant = store::consultant::share(&mut tx, plan.consultant_id).await?;
    if !consultant.active {
        return Err(Error::ConsultantInactive);
    }
    let assignment = Assignment::new(ctx.new_id(), plan.clone(), ctx.now());
    store::assignment::insert(&mut tx, &assignment).await?;
    tx.emit(events::consultant_assigned(ctx, &assignment));
    tx.remember(ctx, &assignment).await?;
    tx.commit().await?;
    Ok(assignment)
}
