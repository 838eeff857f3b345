//! Over every event, stream and durable consumer: what a tenant's subscriber may hear is its own firm's, and it can say
//! nothing and draw nothing.

use std::sync::{Arc, Mutex};

use async_nats::{ConnectOptions, Event};
use harness::{Firm, eventually, world};
use kit::TenantId;
use kit::bus::Bus;
use kit::events::{self, Stream};

use super::cases::contract;

/// Who hears the events of a stream, beside the services.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hears {
    /// The people of the tenant that is in the subject.
    ItsTenant,
    /// Nobody.
    Nobody,
}

/// Every stream of the broker, the buckets' included.
const STREAMS: [(&str, Hears); 5] = [
    ("CATALYST", Hears::ItsTenant),
    ("SECURITY", Hears::Nobody),
    ("DEAD_LETTERS", Hears::Nobody),
    ("KV_tenants", Hears::Nobody),
    ("AUDIT_CHECKPOINTS", Hears::Nobody),
];

/// Subjects tried before the refusals are waited for: the client forgets errors that it cannot tell in time.
const AT_ONCE: usize = 16;

/// Every event of the contract, and the stream that has it.
fn event_types() -> Vec<(Stream, String)> {
    let mut found = Vec::new();
    for file in contract().files() {
        let stream = match file.name() {
            "catalyst/common/v1/security_events.proto" => Stream::Security,
            name if name.starts_with("catalyst/") && name.ends_with("/events.proto") => {
                Stream::Domain
            }
            _ => continue,
        };
        found.extend(
            file.messages()
                .map(|message| (stream, message.full_name().to_owned())),
        );
    }
    found
}

/// A subscriber of a firm, and what the server refused it.
async fn subscriber(firm: &Firm) -> (async_nats::Client, Arc<Mutex<Vec<String>>>) {
    let credentials = catalyst::stack::identity::issue_tenant_credentials(
        &world().identity_dir,
        firm.id.uuid(),
        "isolation",
    )
    .expect("credentials are issued");
    let refused: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&refused);
    let options = ConnectOptions::with_credentials(&credentials)
        .expect("credentials")
        .event_callback(move |event| {
            let seen = Arc::clone(&seen);
            async move {
                if let Event::ServerError(error) = event {
                    seen.lock().expect("the refusals").push(error.to_string());
                }
            }
        });
    let client = options
        .connect(&world().nats_url)
        .await
        .expect("the subscriber connects");
    (client, refused)
}

/// Waits until the server has refused each of these subjects.
async fn all_are_refused(refused: &Mutex<Vec<String>>, subjects: &[String]) {
    eventually("every subject is refused", async || {
        let refused = refused.lock().expect("the refusals");
        let open = subjects.iter().find(|subject| {
            !refused
                .iter()
                .any(|text| text.contains(&format!("\"{subject}\"")))
        });
        open.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_event_of_the_contract_is_heard_by_another_tenant() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    let types = event_types();
    assert!(types.len() > 25, "only {} events were found", types.len());
    let (client, refused) = subscriber(&own).await;
    let mut subjects = Vec::new();
    let mut kept = Vec::new();
    for (stream, type_name) in &types {
        let of = |root: &str, tenant: TenantId| {
            events::subject(*stream, root, tenant, type_name).expect("an event of the contract")
        };
        let anyones = of(stream.heard(), own.id).replace(&own.id.to_string(), "*");
        subjects.extend([of(stream.heard(), other.id), anyones]);
        subjects.extend([of(stream.ingest(), own.id), of(stream.ingest(), other.id)]);
        let own_subject = of(stream.heard(), own.id);
        if *stream == Stream::Security {
            // What the firm may know of refusals it reads from its audit trail, which leaves out what it must not.
            subjects.push(own_subject);
        } else {
            kept.push(client.subscribe(own_subject).await.expect("sent"));
        }
    }
    for some in subjects.chunks(AT_ONCE) {
        for subject in some {
            kept.push(client.subscribe(subject.clone()).await.expect("sent"));
        }
        client.flush().await.expect("flushed");
        all_are_refused(&refused, some).await;
    }
    let refused = refused.lock().expect("the refusals");
    let own_ones: Vec<&String> = refused
        .iter()
        .filter(|text| text.contains(&format!("\"catalyst.{}.", own.id)))
        .collect();
    assert!(own_ones.is_empty(), "the own events: {own_ones:?}");
}

#[tokio::test]
async fn no_stream_bucket_or_durable_is_open_to_a_tenants_subscriber() {
    let own = Firm::new("Own").await;
    let bus = Bus::connect(&world().settings.nats, "migrator")
        .await
        .expect("the migrator connects");
    for (name, hears) in STREAMS {
        let stream = bus.jetstream().get_stream(name).await;
        let stream = stream.unwrap_or_else(|error| panic!("there is no stream {name}: {error}"));
        let info = stream.cached_info();
        let is_heard = info.config.republish.is_some() && name == Stream::Domain.name();
        assert_eq!(is_heard, hears == Hears::ItsTenant, "{name}");
    }
    let (client, refused) = subscriber(&own).await;
    let mut subjects = vec![
        "$JS.API.INFO".to_owned(),
        "$JS.API.STREAM.NAMES".to_owned(),
        "$JS.API.STREAM.LIST".to_owned(),
        format!("$KV.tenants.{}", own.id),
        "dead_letter.audit.x".to_owned(),
        "audit_checkpoint".to_owned(),
    ];
    for (name, _) in STREAMS {
        for verb in ["INFO", "PURGE", "DELETE", "UPDATE", "MSG.GET", "SNAPSHOT"] {
            subjects.push(format!("$JS.API.STREAM.{verb}.{name}"));
        }
        subjects.push(format!("$JS.API.DIRECT.GET.{name}"));
        subjects.push(format!("$JS.API.CONSUMER.CREATE.{name}"));
        subjects.push(format!("$JS.API.CONSUMER.NAMES.{name}"));
    }
    for definition in catalyst::services::ALL {
        for subscription in definition.subscriptions {
            let (stream, durable) = (subscription.stream.name(), subscription.durable);
            for verb in ["MSG.NEXT", "INFO", "DELETE"] {
                subjects.push(format!("$JS.API.CONSUMER.{verb}.{stream}.{durable}"));
            }
            subjects.push(format!("$JS.ACK.{stream}.{durable}.1.1.1.1.0"));
        }
    }
    for some in subjects.chunks(AT_ONCE) {
        for subject in some {
            #[expect(clippy::disallowed_methods, reason = "an intruder has no outbox")]
            client
                .publish(subject.clone(), "".into())
                .await
                .expect("sent");
        }
        client.flush().await.expect("flushed");
        all_are_refused(&refused, some).await;
    }
}

#[tokio::test]
async fn every_stream_of_the_broker_is_listed_here() {
    let answer = reqwest::get(format!(
        "{}/jsz?streams=true&accounts=true",
        world().nats_monitor_url
    ))
    .await
    .expect("the broker answers")
    .text()
    .await
    .expect("text");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let accounts = answer["account_details"].as_array().expect("accounts");
    let names: Vec<&str> = accounts
        .iter()
        .filter_map(|account| account["stream_detail"].as_array())
        .flatten()
        .filter_map(|stream| stream["name"].as_str())
        .collect();
    assert!(!names.is_empty(), "no streams in {answer}");
    for name in names {
        assert!(
            STREAMS.iter().any(|(known, _)| *known == name),
            "the stream {name} has no entry: say who hears it"
        );
    }
}
