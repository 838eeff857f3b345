//! Changes fields of a client.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::client::{Client, ClientId, Profile};
use crate::error::Error;
use crate::{events, store};

/// What an update asks for.
pub(crate) struct ClientUpdate {
    pub(crate) id: ClientId,
    pub(crate) etag: Option<i64>,
    pub(crate) named: Vec<&'static str>,
    pub(crate) wished: Profile,
}

/// Emits `ClientUpdated`, unless nothing changed.
#[tracing::instrument(name = "projects.update_client", skip_all)]
pub(crate) async fn update_client(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    update: ClientUpdate,
) -> Result<Client, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut client = store::client::lock(&mut tx, update.id).await?;
    check_etag(update.etag, client.version)?;
    let changed = client.update(&update.wished, &update.named, ctx.now());
    if !changed.is_empty() {
        store::client::update(&mut tx, &client).await?;
        tx.emit(events::client_updated(ctx, &client, &changed));
    }
    tx.remember(ctx, &client).await?;
    tx.commit().await?;
    Ok(client)
}
