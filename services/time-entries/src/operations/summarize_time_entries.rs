//! Adds entries up by project, consultant and period.

use kit::page::Page;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::reach::Reach;
use crate::store;
use crate::summary::{Key, Selection, Sum};

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "time_entries.summarize_time_entries", skip_all)]
pub(crate) async fn summarize_time_entries(
    ctx: &Ctx,
    db: &Db,
    selection: &Selection,
    page: &Page<Key>,
) -> Result<Vec<Sum>, Error> {
    let mut tx = db.begin(ctx).await?;
    let Ok(consultant) = Reach::of(ctx, &mut tx).await?.narrow(selection.consultant) else {
        return Ok(Vec::new());
    };
    let selection = Selection {
        consultant,
        ..*selection
    };
    // Empty text sorts before every part of a key.
    let after = page.after.clone().unwrap_or_default();
    store::summary::summarize(&mut tx, &selection, &after, page.limit()).await
}
