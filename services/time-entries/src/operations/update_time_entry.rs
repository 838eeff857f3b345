//! Changes fields of an entry.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::change::Change;
use crate::error::Error;
use crate::owners::Owners;
use crate::reach::Reach;
use crate::reference::Named;
use crate::time_entry::{TimeEntry, TimeEntryId};
use crate::{events, store};

/// What an update asks for.
pub(crate) struct Update {
    pub(crate) id: TimeEntryId,
    pub(crate) etag: Option<i64>,
    pub(crate) change: Change,
}

/// Emits `TimeEntryUpdated`, unless nothing changed.
#[tracing::instrument(name = "time_entries.update_time_entry", skip_all)]
pub(crate) async fn update_time_entry(
    ctx: &Ctx,
    db: &Db,
    owners: &Owners,
    repeat: &Repeat,
    update: Update,
) -> Result<TimeEntry, Error> {
    let Update { id, etag, change } = update;
    let (mut tx, known) = owners
        .begin(ctx, db, &Named::new(change.project_id, []))
        .await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let reach = Reach::of(ctx, &mut tx).await?;
    let (mut entry, project) = store::time_entry::lock(&mut tx, id)
        .await?
        .filter(|(entry, _)| reach.covers(entry.consultant_id))
        .ok_or(Error::NotFound(id))?;
    check_etag(etag, entry.version)?;
    let target = match change.project_id {
        Some(id) => Some(known.projects.get(&id).ok_or(Error::ProjectNotFound(id))?),
        None => None,
    };
    let changed = entry.update(change, &project, target, ctx.now())?;
    if !changed.is_empty() {
        store::time_entry::update(&mut tx, &entry).await?;
        tx.emit(events::updated(ctx, &entry, &changed));
    }
    tx.remember(ctx, &entry).await?;
    tx.commit().await?;
    Ok(entry)
}
