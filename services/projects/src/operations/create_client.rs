//! Creates a client in the caller's tenant.

use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::client::{Client, Profile};
use crate::error::Error;
use crate::{events, store};

/// Emits `ClientCreated`. A repeat gets the client that the first call made.
#[tracing::instrument(name = "projects.create_client", skip_all)]
pub(crate) async fn create_client(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    profile: Profile,
) -> Result<Client, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let client = Client::new(ctx.new_id(), profile, ctx.now());
    store::client::insert(&mut tx, &client).await?;
    tx.emit(events::client_created(ctx, &client));
    tx.remember(ctx, &client).await?;
    tx.commit().await?;
    Ok(client)
}
