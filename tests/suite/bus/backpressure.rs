//! What a consumer holds at once is bounded in bytes, however large events are.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use catalyst::services;
use harness::Firm;
use kit::events::Stream;

use super::forged::{envelope, publishes};
use super::rebuild::Own;

const EVENTS: usize = 200;
const BYTES: usize = 900 * 1024;
const BOUND: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_consumer_holds_64_mib_of_events_at_most() {
    let own = Own::start().await;
    let (host, channel) = own.serve().await;
    let firm = Firm::over(channel, "Verbose").await;
    own.is_consumed().await;
    host.stop().await;

    let projects = own.lone.user("projects").await;
    let mut body = Vec::new();
    // A field that a later release may have.
    prost::encoding::bytes::encode(1000, &vec![0_u8; BYTES], &mut body);
    let tenant = firm.id.to_string();
    for _ in 0..EVENTS {
        let mut headers = HeaderMap::new();
        for (name, value) in envelope(&tenant) {
            headers.insert(name, value.as_str());
        }
        headers.insert("ce-type", "catalyst.projects.v1.ClientCreated");
        let subject = format!("ingest.{tenant}.projects.client_created");
        let answer = publishes(&projects, subject, headers, &body).await;
        assert!(!answer.contains("error"), "{answer}");
    }

    let (host, _) = own.serve().await;
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    let jetstream = own.migrator.jetstream();
    let stream = jetstream.get_stream(Stream::Domain.name()).await;
    let stream = stream.expect("the stream");
    let durables: Vec<&str> = services::ALL
        .iter()
        .flat_map(|it| it.subscriptions)
        .filter(|it| it.stream == Stream::Domain)
        .map(|it| it.durable)
        .collect();
    harness::eventually("everything is consumed", async || {
        let mut is_consumed = true;
        for durable in &durables {
            let info = stream.consumer_info(durable).await.ok()?;
            let held = most.entry(durable).or_default();
            *held = info.num_ack_pending.max(*held);
            is_consumed &= info.num_pending == 0 && info.num_ack_pending == 0;
        }
        is_consumed.then_some(())
    })
    .await;
    println!("events held at once: {most:?}");
    // Some hear of other events alone.
    assert!(most.values().any(|held| *held > 1), "{most:?}");
    assert!(most.values().all(|held| held * BYTES <= BOUND), "{most:?}");
    own.end(host).await;
}
