//! Lists the alerts of a tenant, newest first.

use kit::page::Page;
use kit::{Ctx, Db};
use uuid::Uuid;

use crate::alert::{Alert, AlertId, Filter};
use crate::error::Error;
use crate::store;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "audit.list_alerts", skip_all)]
pub(crate) async fn list_alerts(
    ctx: &Ctx,
    db: &Db,
    filter: &Filter,
    page: &Page<Uuid>,
) -> Result<Vec<Alert>, Error> {
    let mut tx = db.begin(ctx).await?;
    let before = AlertId::new(page.after.unwrap_or(Uuid::max()));
    store::alerts::list(&mut tx, filter, before, page.limit()).await
}
