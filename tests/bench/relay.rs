//! Moving events: the relay beside the same messages published by a plain client, in batches and one by one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_nats::{Client, ConnectOptions, HeaderMap};
use bytes::Bytes;
use kit::ctx::Clock;
use kit::events::{self, Stream};
use sqlx::postgres::PgConnection;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;

use crate::Bench;
use crate::create::body;
use crate::load::count;
use crate::report::{OURS, Report};
use crate::seed::Firm;

pub(crate) const EVENTS: &str = "relay, events/s";
/// Limits, as the report calls them.
pub(crate) const BATCHES: &str = "atomic batches of 1,000";
pub(crate) const ONE_BY_ONE: &str = "one by one";
/// The most messages of one atomic batch, and as many as the relay takes.
const BATCH: u32 = 1_000;
const TYPE: &str = "catalyst.projects.v1.ProjectCreated";
/// How often one looks whether the outbox is empty: a part of the second that a round lasts.
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_mins(5);

/// The relay, then the plain client.
pub(crate) async fn round(
    bench: &Bench<'_>,
    events: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let firm = bench.firms.first().context("there is a firm")?;
    let client = connect(bench).await?;
    let mut admin = bench.system.admin().await?;

    report.record(
        EVENTS,
        OURS,
        relay(firm, events, &client, &mut admin).await?,
    );
    bench.system.settle().await?;

    let mut took = Duration::ZERO;
    for _ in 0..events / BATCH {
        // Made before its time is taken: all of them at once may not fit into memory.
        let batch: Vec<Message> = (0..BATCH)
            .map(|_| message(firm))
            .collect::<anyhow::Result<_>>()?;
        let started = Instant::now();
        publish_batch(&client, &batch).await?;
        took += started.elapsed();
    }
    report.record(
        EVENTS,
        BATCHES,
        f64::from(events / BATCH * BATCH) / took.as_secs_f64(),
    );
    bench.system.settle().await?;

    let started = Instant::now();
    let mut published = 0;
    while started.elapsed() < bench.time {
        publish(&client, message(firm)?).await?;
        published += 1;
    }
    report.record(
        EVENTS,
        ONE_BY_ONE,
        count(published) / started.elapsed().as_secs_f64(),
    );
    bench.system.settle().await
}

/// Fills the outbox in one transaction and waits until the relay has emptied it; events per second.
async fn relay(
    firm: &Firm,
    events: u32,
    client: &Client,
    admin: &mut PgConnection,
) -> anyhow::Result<f64> {
    fill(firm, events, admin).await?;
    let started = Instant::now();
    // What a replica sends when it has written events.
    send(
        client,
        "relay.projects".to_owned(),
        HeaderMap::new(),
        Bytes::new(),
    )
    .await?;
    emptied(firm, admin).await?;
    Ok(f64::from(events) / started.elapsed().as_secs_f64())
}

/// Writes events of a firm into the outbox in one transaction.
pub(crate) async fn fill(firm: &Firm, events: u32, admin: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query(
        "insert into projects.outbox \
             (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body) \
         select $1, gen_random_uuid(), $2, gen_random_uuid(), 1, now(), 'user', 'bench', null, $3 \
         from generate_series(1, $4)",
    )
    .bind(firm.tenant.uuid())
    .bind(TYPE)
    .bind(body(firm))
    .bind(i32::try_from(events)?)
    .execute(admin)
    .await?;
    Ok(())
}

/// Waits until no event of the firm is in the outbox.
pub(crate) async fn emptied(firm: &Firm, admin: &mut PgConnection) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rest: bool =
            sqlx::query_scalar("select exists (select from projects.outbox where tenant_id = $1)")
                .bind(firm.tenant.uuid())
                .fetch_one(&mut *admin)
                .await?;
        if !rest {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the relay did not empty the outbox within {} s",
                PATIENCE.as_secs()
            );
        }
        sleep(LOOK).await;
    }
}

/// The projects service's user: the one that may publish its events.
pub(crate) async fn connect(bench: &Bench<'_>) -> anyhow::Result<Client> {
    let stack = &bench.system.deployment.stack;
    let options =
        ConnectOptions::with_credentials_file(stack.credentials_dir.join("projects.creds")).await?;
    Ok(options
        .custom_inbox_prefix("_INBOX_projects")
        .connect(&stack.nats_url)
        .await?)
}

pub(crate) struct Message {
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A message as the relay sends it, with an id of its own.
pub(crate) fn message(firm: &Firm) -> anyhow::Result<Message> {
    let clock = Clock::system();
    let id = clock.new_uuid().to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Nats-Msg-Id", id.as_str()),
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-type", TYPE),
        ("ce-source", &events::source("projects")),
        ("ce-subject", &clock.new_uuid().to_string()),
        ("ce-time", &clock.now().format(&Rfc3339)?),
        ("ce-tenantid", &firm.tenant.to_string()),
        ("ce-sequence", "1"),
        ("ce-authtype", "user"),
        ("ce-authid", "bench"),
        ("Content-Type", "application/protobuf"),
    ] {
        headers.insert(name, value);
    }
    let subject = events::subject(Stream::Domain, Stream::Domain.ingest(), firm.tenant, TYPE);
    Ok(Message {
        subject: subject.context("an event of the contract")?,
        headers,
        body: body(firm).into(),
    })
}

/// All of it is stored with one sync, or nothing.
async fn publish_batch(client: &Client, batch: &[Message]) -> anyhow::Result<()> {
    let id = Clock::system().new_uuid().simple().to_string();
    for (
        index,
        Message {
            subject,
            headers,
            body,
        },
    ) in batch.iter().enumerate()
    {
        let (subject, mut headers, body) = (subject.clone(), headers.clone(), body.clone());
        headers.insert("Nats-Batch-Id", id.as_str());
        headers.insert("Nats-Batch-Sequence", (index + 1).to_string().as_str());
        if index + 1 < batch.len() {
            send(client, subject, headers, body).await?;
        } else {
            headers.insert("Nats-Batch-Commit", "1");
            publish(
                client,
                Message {
                    subject,
                    headers,
                    body,
                },
            )
            .await?;
        }
    }
    Ok(())
}

/// Publishes and waits until the stream has stored it.
pub(crate) async fn publish(
    client: &Client,
    Message {
        subject,
        headers,
        body,
    }: Message,
) -> anyhow::Result<()> {
    let answer = client.request_with_headers(subject, headers, body).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
    ensure!(
        answer.get("stream").is_some() && answer.get("error").is_none(),
        "the broker refuses: {answer}"
    );
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the limit of the broker is measured without an outbox"
)]
async fn send(
    client: &Client,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
) -> anyhow::Result<()> {
    Ok(client.publish_with_headers(subject, headers, body).await?)
}
