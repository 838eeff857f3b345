//! The broker's side of the deployment: streams, the tenant directory's bucket and durable consumers.
//! Made by `catalyst migrate` with the migrator's rights; a service may only use what is there.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{Config, Republish, StorageType, SubjectTransform};

use crate::bus::Bus;
use crate::directory::BUCKET;
use crate::events::{Stream, tokens};
use crate::host::Definition;
use crate::ledger::{CHECKPOINTS, LedgerName};
use crate::subscriber::Subscription;

/// How long a stored message id is recognised. Consumers keep their own inbox, so this is only the first filter.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
/// How long a consumer has for a batch before it is delivered again, and how long what a killed one held waits for the
/// next. A batch that takes longer comes twice, which the inbox absorbs.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Unacknowledged messages of one consumer: bounds what a slow one holds in memory.
const MAX_ACK_PENDING: i64 = 5_000;

/// The largest event, headers included. A server takes 1 MiB unless told otherwise; the difference is room for the
/// headers with which a consumer sets an event aside, or the rejection that it records of it.
pub const MAX_EVENT: i32 = 960 * 1024;

/// Makes or updates everything. `replicas` is 1 on a single server, 3 on a cluster.
pub async fn apply(
    bus: &Bus,
    definitions: &[Definition],
    replicas: usize,
) -> Result<(), async_nats::Error> {
    let jetstream = bus.jetstream();
    for stream in streams(replicas) {
        jetstream.create_or_update_stream(stream).await?;
    }
    jetstream
        .create_or_update_key_value(bucket(replicas))
        .await?;
    for definition in definitions {
        for (stream, config) in durables(definition) {
            jetstream.create_consumer_on_stream(config, stream).await?;
        }
    }
    Ok(())
}

/// Every stream of the deployment but the bucket's.
pub fn streams(replicas: usize) -> [Config; 4] {
    let dead_letters = Config {
        name: "DEAD_LETTERS".to_owned(),
        description: Some("messages that a consumer set aside, with the reason".to_owned()),
        subjects: vec!["dead_letter.>".to_owned()],
        duplicate_window: DUPLICATE_WINDOW,
        storage: StorageType::File,
        num_replicas: replicas,
        ..Config::default()
    };
    [
        event_stream(Stream::Domain, replicas),
        event_stream(Stream::Security, replicas),
        dead_letters,
        ledger_stream(CHECKPOINTS, replicas),
    ]
}

/// The bucket of the tenant directory.
pub fn bucket(replicas: usize) -> kv::Config {
    kv::Config {
        bucket: BUCKET.to_owned(),
        description: "the state of each tenant; written by the tenants service alone".to_owned(),
        history: 1,
        storage: StorageType::File,
        num_replicas: replicas,
        ..kv::Config::default()
    }
}

fn event_stream(stream: Stream, replicas: usize) -> Config {
    // Published to `ingest…`, stored and republished under the subjects that subscribers hear: on a plain stream,
    // core subscribers would hear the messages of refused batches, events that never happened.
    let words = match stream {
        Stream::Domain => "*.*.*",
        Stream::Security => "*.*",
    };
    Config {
        name: stream.name().to_owned(),
        subjects: vec![format!("{}.{words}", stream.ingest())],
        subject_transform: Some(SubjectTransform {
            source: format!("{}.>", stream.ingest()),
            destination: format!("{}.>", stream.heard()),
        }),
        republish: Some(Republish {
            source: format!("{}.>", stream.heard()),
            destination: format!("{}.>", stream.heard()),
            headers_only: false,
        }),
        storage: StorageType::File,
        num_replicas: replicas,
        duplicate_window: DUPLICATE_WINDOW,
        allow_atomic_publish: true,
        max_message_size: MAX_EVENT,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// Kept for ever: the server lets neither be taken back, deleting and purging refused.
fn ledger_stream(ledger: LedgerName, replicas: usize) -> Config {
    Config {
        name: ledger.stream.to_owned(),
        description: Some("entries that are never changed, each after the last".to_owned()),
        subjects: vec![ledger.subject.to_owned()],
        duplicate_window: DUPLICATE_WINDOW,
        storage: StorageType::File,
        num_replicas: replicas,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// The durable consumers of a service, each with the stream that it reads.
pub fn durables(definition: &Definition) -> Vec<(&'static str, pull::Config)> {
    let subscriptions = definition.subscriptions.iter();
    subscriptions
        .map(|subscription| {
            let config = pull::Config {
                durable_name: Some(subscription.durable.to_owned()),
                description: Some(format!("events that {} applies", definition.name)),
                ack_policy: AckPolicy::Explicit,
                ack_wait: ACK_WAIT,
                // Deliveries are counted and set aside by the consumer itself, with a reason.
                max_deliver: -1,
                max_ack_pending: MAX_ACK_PENDING,
                filter_subjects: filters(subscription),
                ..pull::Config::default()
            };
            (subscription.stream.name(), config)
        })
        .collect()
}

fn filters(subscription: &Subscription) -> Vec<String> {
    let heard = subscription.stream.heard();
    if subscription.types.is_empty() {
        return vec![format!("{heard}.>")];
    }
    let types = subscription.types.iter();
    types
        .filter_map(|name| tokens(name))
        .map(|(noun, event)| match subscription.stream {
            Stream::Domain => format!("{heard}.*.{noun}.{event}"),
            Stream::Security => format!("{heard}.*.{event}"),
        })
        .collect()
}
