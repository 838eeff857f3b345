//! Notes that someone has taken care of an alert: someone of the firm, or the operator.

use kit::change::check_etag;
use kit::once::Repeat;
use kit::{Ctx, Db};

use crate::alert::{Alert, AlertId};
use crate::error::Error;
use crate::{events, store};

/// Emits `AlertAcknowledged`; an alert that is acknowledged already is returned unchanged.
#[tracing::instrument(name = "audit.acknowledge_alert", skip_all)]
pub(crate) async fn acknowledge_alert(
    ctx: &Ctx,
    db: &Db,
    repeat: &Repeat,
    id: AlertId,
    note: String,
    etag: Option<i64>,
) -> Result<Alert, Error> {
    let mut tx = db.begin(ctx).await?;
    if let Some(first) = tx.once(ctx, repeat).await? {
        return Ok(first);
    }
    let mut alert = store::alerts::lock(&mut tx, id).await?;
    check_etag(etag, alert.revision)?;
    let is_new = alert.acknowledge(ctx.actor(), note, ctx.now());
    if let Some(by) = alert.acknowledged.as_ref().filter(|_| is_new) {
        store::alerts::acknowledge(&mut tx, &alert, by).await?;
        store::deliveries::resolve(&mut tx, alert.id, by.at).await?;
        tx.emit(events::acknowledged(ctx, &alert));
    }
    tx.remember(ctx, &alert).await?;
    tx.commit().await?;
    Ok(alert)
}
