//! Reads one entry.

use kit::{Ctx, Db};

use crate::error::Error;
use crate::reach::Reach;
use crate::store;
use crate::time_entry::{TimeEntry, TimeEntryId};

#[tracing::instrument(name = "time_entries.get_time_entry", skip_all)]
pub(crate) async fn get_time_entry(
    ctx: &Ctx,
    db: &Db,
    id: TimeEntryId,
) -> Result<TimeEntry, Error> {
    let mut tx = db.begin(ctx).await?;
    let reach = Reach::of(ctx, &mut tx).await?;
    let found = store::time_entry::get(&mut tx, id).await?;
    found
        .filter(|entry| reach.covers(entry.consultant_id))
        .ok_or(Error::NotFound(id))
}
