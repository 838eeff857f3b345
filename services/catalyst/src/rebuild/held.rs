//! Which events of a tenant the stream holds, read from their headers alone.
//!
//! Invariant: what is read is the whole of the tenant's part as it was when the reading began, or an error.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures::StreamExt as _;
use kit::TenantId;
use kit::bus::Bus;
use kit::ctx::Clock;
use kit::events::{self, tenant_token};
use uuid::Uuid;

use crate::client::error::Unavailable;

/// Headers that are asked for at once.
const PIECE: usize = 2_000;
/// A reader that went away is forgotten by the broker after this.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// The stream of domain events.
pub(super) async fn stream(bus: &Bus) -> anyhow::Result<Stream> {
    let name = events::Stream::Domain.name();
    bus.jetstream().get_stream(name).await.map_err(|error| {
        Unavailable::new(format!(
            "the stream {name} cannot be read ({error}): run `catalyst migrate`, which makes it if it is gone"
        ))
        .into()
    })
}

/// The ids of a tenant's events in it.
pub(super) async fn ids(stream: &Stream, tenant: TenantId) -> anyhow::Result<HashSet<Uuid>> {
    let name = format!("rebuild-{}", Clock::system().new_uuid().simple());
    let heard = events::Stream::Domain.heard();
    let config = pull::Config {
        name: Some(name.clone()),
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        filter_subject: format!("{heard}.{}.>", tenant_token(tenant)),
        headers_only: true,
        inactive_threshold: FORGOTTEN,
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await;
    let consumer = consumer.context("the stream refuses a reader")?;
    let mut pending = consumer.cached_info().num_pending;
    let mut ids = HashSet::with_capacity(usize::try_from(pending).unwrap_or_default());
    while pending > 0 {
        let piece = consumer.fetch().max_messages(PIECE).messages().await;
        let mut messages = piece.context("the stream cannot be read")?;
        let before = pending;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| anyhow::anyhow!(error));
            let message = message.context("the stream cannot be read")?;
            let info = message.info().map_err(|error| anyhow::anyhow!(error))?;
            pending = pending.saturating_sub(1).min(info.pending);
            let id = message
                .headers
                .as_ref()
                .and_then(|headers| headers.get("ce-id"));
            // What has none is no event of ours.
            ids.extend(id.and_then(|id| Uuid::try_parse(id.as_str()).ok()));
        }
        ensure!(pending < before, "the stream could not be read to its end");
    }
    // It would be forgotten soon anyway.
    let _ = stream.delete_consumer(&name).await;
    Ok(ids)
}
