//! Reads one client.

use kit::{Ctx, Db};

use crate::client::{Client, ClientId};
use crate::error::Error;
use crate::store;

#[tracing::instrument(name = "projects.get_client", skip_all)]
pub(crate) async fn get_client(ctx: &Ctx, db: &Db, id: ClientId) -> Result<Client, Error> {
    let mut tx = db.begin(ctx).await?;
    store::client::get(&mut tx, id).await
}
