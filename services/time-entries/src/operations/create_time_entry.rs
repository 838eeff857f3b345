//! Records time worked.

use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::owners::Owners;
use crate::reach::Reach;
use crate::reference::Named;
use crate::time_entry::{NewTimeEntry, TimeEntry};
use crate::{events, store};

/// Emits `TimeEntryCreated`. A repeat gets the entry that the first call made.
///
/// The references are read before the entry is written, in one statement: their states and the project's billing are
/// needed anyway, and an insert that failed for want of them would cost its transaction.
#[tracing::instrument(name = "time_entries.create_time_entry", skip_all)]
pub(crate) async fn create_time_entry(
    ctx: &Ctx,
    db: &Db,
    owners: &Owners,
    repeat: &Repeat,
    new: NewTimeEntry,
) -> Result<TimeEntry, Error> {
    let named = Named::new([new.project_id], [new.consultant_id]);
    let (mut tx, known) = owners.begin(ctx, db, &named).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let project = known
        .projects
        .get(&new.project_id)
        .ok_or(Error::ProjectNotFound(new.project_id))?;
    let reach = Reach::of(ctx, &mut tx).await?;
    let consultant = known
        .consultants
        .get(&new.consultant_id)
        .filter(|consultant| reach.covers(consultant.id))
        .ok_or(Error::ConsultantNotFound(new.consultant_id))?;
    let entry = TimeEntry::new(ctx.new_id(), new, project, consultant, ctx.now())?;
    store::time_entry::insert(&mut tx, &entry).await?;
    tx.emit(events::created(ctx, &entry));
    tx.remember(ctx, &entry).await?;
    tx.commit().await?;
    Ok(entry)
}
