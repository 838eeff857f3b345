//! Events that are there again, and events that should not be: put on the bus past the relay.

use std::time::Duration;

use anyhow::ensure;
use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use kit::events::Stream;
use kit::subscriber::Subscription;
use uuid::Uuid;

use crate::cells::Moment;
use crate::collect;
use crate::inject::Scene;

/// How often an event is there again.
const COPIES: usize = 3;
/// How many events are.
const EVENTS: usize = 20;
/// How soon an event that cannot be applied must be set aside.
const ASIDE_WITHIN: Duration = Duration::from_secs(30);

/// The last events come three times more; at a consumer's moments, whole streams come again to every consumer.
pub(crate) async fn duplicate(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let stream = match moment {
        Moment::M10 => Stream::Security,
        _ => Stream::Domain,
    };
    let (_, armed) = scene.arm(moment)?;
    armed.reached().await?;
    let stored = collect::stream(scene.stack, stream, &scene.load.ground.firms).await?;
    let operator = collect::bus(scene.stack, "operator").await?;
    for message in stored.iter().rev().take(EVENTS) {
        for _ in 0..COPIES {
            send_again(&operator, message).await?;
        }
    }
    operator.flush().await?;
    armed.release();
    if matches!(moment, Moment::M3 | Moment::M4) {
        return Ok(());
    }
    // A durable that is made anew begins with the first message of its stream.
    let jetstream = collect::migrator(scene.stack).await?;
    for Subscription {
        durable, stream, ..
    } in subscriptions()
    {
        let of_stream = jetstream.get_stream(stream.name()).await;
        let of_stream = of_stream.map_err(|error| anyhow::anyhow!("{error}"))?;
        of_stream
            .delete_consumer(durable)
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    scene.stack.run(&["migrate"]).await
}

/// The stream of domain events is gone while events are on their way, and is made again from the audit records.
pub(crate) async fn lose(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let (_, armed) = scene.arm(moment)?;
    armed.reached().await?;
    // What the consumers had not applied is in no record yet: it is lost with the stream, unless it is in an outbox.
    let pause = scene.load.pause();
    armed.release();
    let rest = scene.stack.settle(ASIDE_WITHIN).await;
    ensure!(rest.is_settled, "{} before the loss", rest.last.join(", "));
    let stream = Stream::Domain.name();
    let deleted = collect::migrator(scene.stack)
        .await?
        .delete_stream(stream)
        .await;
    deleted.map_err(|error| anyhow::anyhow!("{stream} cannot be deleted: {error}"))?;
    drop(pause);
    scene.load.goes_on(10, Duration::from_secs(30)).await?;
    scene.stack.run(&["migrate"]).await?;
    scene.stack.run(&["events", "rebuild"]).await
}

fn subscriptions() -> impl Iterator<Item = Subscription> {
    let services = catalyst::services::ALL.iter();
    services.flat_map(|definition| definition.subscriptions.iter().copied())
}

/// The same event once more. Without its message id, since the stream would know that.
async fn send_again(bus: &async_nats::Client, message: &Message) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
        let name = name.to_string();
        if name.starts_with("Nats-") {
            continue;
        }
        for value in values {
            headers.append(name.as_str(), value.as_str());
        }
    }
    publish(
        bus,
        ingest(&message.subject),
        headers,
        message.payload.clone(),
    )
    .await
}

/// Where what is heard under a subject is published.
fn ingest(heard: &str) -> String {
    heard
        .replacen("catalyst.", "ingest.", 1)
        .replacen("security.", "ingest_security.", 1)
}

#[expect(
    clippy::disallowed_methods,
    reason = "what no service does is what is tried"
)]
async fn publish(
    bus: &async_nats::Client,
    subject: String,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> anyhow::Result<()> {
    Ok(bus.publish_with_headers(subject, headers, body).await?)
}

/// Bad bytes, an unknown type and another tenant's name: each is set aside, and the others go on.
pub(crate) async fn poison(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let operator = collect::bus(scene.stack, "operator").await?;
    let firms = scene.load.ground.firms.clone();
    let [own, other, ..] = firms.as_slice() else {
        anyhow::bail!("two firms are needed");
    };
    let created = "catalyst.projects.v1.ClientCreated";
    let bad = [
        (created, "client_created", own.id, &b"\xff\xff\xff"[..]),
        (
            "catalyst.projects.v1.ClientDreamed",
            "client_dreamed",
            own.id,
            b"",
        ),
        (created, "client_created", other.id, b""),
    ];
    for (type_name, event, tenant, body) in bad {
        let id = uuid::Builder::from_random_bytes(scene.rng.u128(..).to_be_bytes()).into_uuid();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", id.to_string().as_str()),
            ("ce-type", type_name),
            ("ce-source", "catalyst/projects"),
            ("ce-subject", id.to_string().as_str()),
            ("ce-time", "2026-01-01T00:00:00Z"),
            ("ce-tenantid", tenant.to_string().as_str()),
            ("ce-sequence", "1"),
            ("ce-authtype", "user"),
            ("ce-authid", "poisoner"),
            ("Content-Type", "application/protobuf"),
        ] {
            headers.insert(name, value);
        }
        scene.forged.push(id);
        let subject = format!("ingest.{}.projects.{event}", own.id);
        publish(&operator, subject, headers, bytes::Bytes::from_static(body)).await?;
    }
    operator.flush().await?;
    let wanted = scene.forged.len();
    let aside = harness::within(ASIDE_WITHIN, async || {
        let found = set_aside(scene).await.unwrap_or_default();
        (found.len() >= wanted).then_some(())
    });
    ensure!(
        aside.await.is_some(),
        "not all of {wanted} bad events were set aside"
    );
    Ok(())
}

/// Those of the forged events that audit, which hears everything, has set aside.
async fn set_aside(scene: &Scene<'_>) -> anyhow::Result<Vec<Uuid>> {
    let dead = collect::messages(
        scene.stack,
        "DEAD_LETTERS",
        vec!["dead_letter.audit.>".to_owned()],
    );
    let ids = dead.await?.into_iter().filter_map(|message| {
        let headers = message.headers.as_ref()?;
        headers.get("ce-id")?.as_str().parse::<Uuid>().ok()
    });
    let mut found: Vec<Uuid> = ids.filter(|id| scene.forged.contains(id)).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
