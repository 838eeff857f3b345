//! Lists entries in the order in which the work began.

use kit::page::Page;
use kit::{Ctx, Db};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Error;
use crate::reach::Reach;
use crate::reference::{ConsultantId, ProjectId};
use crate::store;
use crate::store::list::Stretch;
use crate::time_entry::TimeEntry;

/// Which entries are listed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Filter {
    pub(crate) project: Option<ProjectId>,
    pub(crate) consultant: Option<ConsultantId>,
    /// Only those that began at this instant or later.
    pub(crate) from: OffsetDateTime,
    /// Only those that began before this instant.
    pub(crate) until: OffsetDateTime,
}

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "time_entries.list_time_entries", skip_all)]
pub(crate) async fn list_time_entries(
    ctx: &Ctx,
    db: &Db,
    filter: &Filter,
    page: &Page<(OffsetDateTime, Uuid)>,
) -> Result<Vec<TimeEntry>, Error> {
    let mut tx = db.begin(ctx).await?;
    let Ok(consultant) = Reach::of(ctx, &mut tx).await?.narrow(filter.consultant) else {
        return Ok(Vec::new());
    };
    // No entry has the nil id, so the first page begins with the very instant.
    let after = page.after.unwrap_or((filter.from, Uuid::nil()));
    let stretch = Stretch {
        after,
        until: filter.until,
        limit: page.limit(),
    };
    store::list::list(&mut tx, filter.project, consultant, stretch).await
}
