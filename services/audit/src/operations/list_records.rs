//! Lists the records that a tenant may read, in the order of its log.

use kit::page::Page;
use kit::{Ctx, Db};

use crate::error::Error;
use crate::record::{Filter, Record};
use crate::store;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "audit.list_records", skip_all)]
pub(crate) async fn list_records(
    ctx: &Ctx,
    db: &Db,
    filter: &Filter,
    page: &Page<i64>,
) -> Result<Vec<Record>, Error> {
    let mut tx = db.begin(ctx).await?;
    store::records::list(
        &mut tx,
        filter,
        page.after.unwrap_or_default(),
        page.limit(),
    )
    .await
}
