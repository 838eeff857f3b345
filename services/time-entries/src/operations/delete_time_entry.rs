//! Removes an entry. The audit log keeps that it was there.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::reach::Reach;
use crate::time_entry::TimeEntryId;
use crate::{events, store};

/// Emits `TimeEntryDeleted` with the last state. A repeat finds it done.
#[tracing::instrument(name = "time_entries.delete_time_entry", skip_all)]
pub(crate) async fn delete_time_entry(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    id: TimeEntryId,
    etag: Option<i64>,
) -> Result<(), Error> {
    let mut tx = db.begin(ctx).await?;
    if tx.once::<TimeEntryId>(ctx, repeat).await?.is_some() {
        return Ok(());
    }
    let reach = Reach::of(ctx, &mut tx).await?;
    let (entry, project) = store::time_entry::lock(&mut tx, id)
        .await?
        .filter(|(entry, _)| reach.covers(entry.consultant_id))
        .ok_or(Error::NotFound(id))?;
    check_etag(etag, entry.version)?;
    let last = entry.delete(&project, ctx.now())?;
    store::time_entry::delete(&mut tx, id).await?;
    tx.bury(id.uuid(), last.version).await?;
    tx.emit(events::deleted(ctx, &last));
    tx.remember(ctx, &id).await?;
    tx.commit().await?;
    Ok(())
}
