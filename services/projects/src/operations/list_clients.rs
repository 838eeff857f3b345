//! Lists clients in the order of their creation.

use kit::page::Page;
use kit::{Ctx, Db};
use uuid::Uuid;

use crate::client::{Client, ClientId};
use crate::error::Error;
use crate::store;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "projects.list_clients", skip_all)]
pub(crate) async fn list_clients(
    ctx: &Ctx,
    db: &Db,
    page: &Page<Uuid>,
) -> Result<Vec<Client>, Error> {
    let mut tx = db.begin(ctx).await?;
    let after = ClientId::new(page.after.unwrap_or_default());
    store::client::list(&mut tx, after, page.limit()).await
}
