//! What a service with stolen credentials could publish within its rights: every consumer that gets it refuses it,
//! puts that on record and sets the message aside; nothing of it is applied.

use std::collections::BTreeSet;

use async_nats::{HeaderMap, jetstream};
use harness::{Caller, eventually, world};
use kit::TenantId;
use kit::ctx::Clock;
use proto::audit::v1 as audit;
use proto::common::v1::{EventRejected, EventRejectionReason as Reason, Severity};

use super::raw::Raw;

const CREATED: &str = "project_created";
const TYPE: &str = "catalyst.projects.v1.ProjectCreated";

async fn connect(user: &str) -> async_nats::Client {
    let options = kit::bus::options(&world().settings.nats, user)
        .await
        .expect("credentials");
    options
        .connect(&world().nats_url)
        .await
        .expect("it connects")
}

fn new_id() -> String {
    Clock::system().new_uuid().to_string()
}

/// The envelope of a sound event of `tenant`.
pub(super) fn envelope(tenant: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", new_id()),
        ("ce-type", TYPE.to_owned()),
        ("ce-source", "catalyst/projects".to_owned()),
        ("ce-subject", new_id()),
        ("ce-time", "2026-01-01T00:00:00Z".to_owned()),
        ("ce-tenantid", tenant.to_owned()),
        ("ce-sequence", "1".to_owned()),
        ("ce-authtype", "service".to_owned()),
        ("ce-authid", "projects".to_owned()),
    ]
}

/// What a forger changes of a sound envelope.
enum Change {
    Nothing,
    Set(&'static str, String),
    Before(&'static str, String),
    After(&'static str, String),
    Braces(&'static str),
    Without(&'static str),
}

impl Change {
    fn apply(&self, headers: &mut Vec<(&'static str, String)>) {
        let of = |headers: &mut Vec<(&'static str, String)>, name: &str| {
            let found = headers.iter().position(|(key, _)| *key == name);
            found.expect("the envelope has it")
        };
        match self {
            Self::Nothing => {}
            Self::Set(name, value) => {
                let place = of(headers, name);
                headers[place].1.clone_from(value);
            }
            Self::Before(name, value) => headers.insert(0, (name, value.clone())),
            Self::After(name, value) => headers.push((name, value.clone())),
            Self::Braces(name) => {
                let place = of(headers, name);
                headers[place].1 = format!("{{{}}}", headers[place].1);
            }
            Self::Without(name) => {
                let place = of(headers, name);
                headers.remove(place);
            }
        }
    }
}

/// A message, and what must be said of it.
struct Forgery {
    what: String,
    tenant: String,
    event: &'static str,
    headers: Vec<(&'static str, String)>,
    body: &'static [u8],
    reason: Reason,
}

impl Forgery {
    /// A creation of a tenant that nobody else names.
    fn new(what: &str, reason: Reason, change: &Change) -> Self {
        let tenant = new_id();
        let mut headers = envelope(&tenant);
        change.apply(&mut headers);
        Self {
            what: what.to_owned(),
            tenant,
            event: CREATED,
            headers,
            body: b"",
            reason,
        }
    }
}

fn forgeries() -> Vec<Forgery> {
    use Change::{After, Before, Braces, Nothing, Set, Without};
    use Reason::{BodyInvalid, EnvelopeInvalid, SourceDisagrees, TenantDisagrees, TypeDisagrees};
    let other = || TenantId::PLATFORM.to_string();
    let set = |name, value: &str| Set(name, value.to_owned());
    let cases = [
        (
            "another tenant",
            TenantDisagrees,
            Set("ce-tenantid", other()),
        ),
        (
            "another source",
            SourceDisagrees,
            set("ce-source", "catalyst/consultants"),
        ),
        (
            "no source of ours",
            SourceDisagrees,
            set("ce-source", "elsewhere"),
        ),
        (
            "another type",
            TypeDisagrees,
            set("ce-type", "catalyst.projects.v1.ProjectArchived"),
        ),
        (
            "no type of ours",
            TypeDisagrees,
            set("ce-type", "google.protobuf.Any"),
        ),
        (
            "a type of 50,000 letters",
            TypeDisagrees,
            Set("ce-type", "x".repeat(50_000)),
        ),
        (
            "two tenants, the own first",
            EnvelopeInvalid,
            After("ce-tenantid", other()),
        ),
        (
            "two tenants, the own last",
            EnvelopeInvalid,
            Before("ce-tenantid", other()),
        ),
        (
            "a tenant in another spelling",
            EnvelopeInvalid,
            After("Ce-TenantId", other()),
        ),
        ("a tenant in braces", EnvelopeInvalid, Braces("ce-tenantid")),
        (
            "another version",
            EnvelopeInvalid,
            set("ce-specversion", "0.3"),
        ),
        ("no number", EnvelopeInvalid, set("ce-sequence", "first")),
        ("no time", EnvelopeInvalid, set("ce-time", "yesterday")),
        ("text that ends", EnvelopeInvalid, set("ce-authid", "kim\0")),
    ];
    let mut all: Vec<_> = cases
        .iter()
        .map(|(what, reason, change)| Forgery::new(what, *reason, change))
        .collect();
    all.extend(
        envelope("")
            .into_iter()
            .map(|(name, _)| Forgery::new(&format!("no {name}"), EnvelopeInvalid, &Without(name))),
    );
    all.push(Forgery {
        body: b"\xff\xff\xff",
        ..Forgery::new("a body that does not decode", BodyInvalid, &Nothing)
    });
    let unknown = set("ce-type", "catalyst.projects.v1.ProjectExploded");
    all.push(Forgery {
        event: "project_exploded",
        ..Forgery::new("an unknown type", TypeDisagrees, &unknown)
    });
    all
}

pub(super) async fn publishes(
    client: &async_nats::Client,
    subject: String,
    headers: HeaderMap,
    body: &[u8],
) -> String {
    let answer = client
        .request_with_headers(subject, headers, body.to_vec().into())
        .await;
    String::from_utf8_lossy(&answer.expect("the stream answers").payload).into_owned()
}

/// All rejections on the platform's record, newest first.
async fn rejections() -> Vec<EventRejected> {
    let request = audit::ListTenantRecordsRequest {
        tenant_id: TenantId::NONE.to_string(),
        page_size: 500,
        filter: Some(audit::RecordFilter {
            r#type: "catalyst.common.v1.EventRejected".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let operator = Caller::operator()
        .audit_operator()
        .list_tenant_records(request)
        .await;
    let records = operator.expect("the operator lists").into_inner().records;
    let payloads = records.into_iter().filter_map(|record| record.record);
    payloads
        .filter_map(|record| prost::Message::decode(record.payload.as_slice()).ok())
        .collect()
}

/// Whether the consumer of a service has set aside what came on a subject.
async fn is_set_aside(service: &str, subject: &str) -> bool {
    let jetstream = jetstream::new(connect("operator").await);
    let letters = jetstream
        .get_stream("DEAD_LETTERS")
        .await
        .expect("the stream");
    let subject = format!("dead_letter.{service}.{subject}");
    letters
        .get_last_raw_message_by_subject(&subject)
        .await
        .is_ok()
}

#[tokio::test]
async fn every_forged_event_is_rejected_on_record_and_set_aside_by_every_consumer_that_gets_it() {
    let projects = connect("projects").await;
    let since = Clock::system().now();
    let forgeries = forgeries();
    for forgery in &forgeries {
        let mut headers = HeaderMap::new();
        for (name, value) in &forgery.headers {
            headers.append(*name, value.as_str());
        }
        let subject = format!("ingest.{}.projects.{}", forgery.tenant, forgery.event);
        let answer = publishes(&projects, subject, headers, forgery.body).await;
        assert!(!answer.contains("error"), "{}: {answer}", forgery.what);
    }
    for forgery in &forgeries {
        let heard = format!("catalyst.{}.projects.{}", forgery.tenant, forgery.event);
        // Audit hears everything, time entries what is published of projects.
        let consumers: &[&str] = if forgery.event == CREATED {
            &["audit", "time-entries"]
        } else {
            &["audit"]
        };
        let severity = match forgery.reason {
            Reason::EnvelopeInvalid | Reason::BodyInvalid => Severity::Medium,
            _ => Severity::High,
        };
        let expected: BTreeSet<_> = consumers
            .iter()
            .map(|consumer| ((*consumer).to_owned(), forgery.reason, severity))
            .collect();
        let mut found = BTreeSet::new();
        let told = harness::within(std::time::Duration::from_secs(20), async || {
            let rejections = rejections().await;
            let of_this = rejections
                .iter()
                .filter(|rejected| rejected.subject == heard);
            found = of_this
                .map(|rejected| {
                    (
                        rejected.consumer.clone(),
                        rejected.reason(),
                        rejected.severity(),
                    )
                })
                .collect();
            (found == expected).then_some(())
        });
        let told = told.await;
        assert!(
            told.is_some(),
            "{}: {found:?}, not {expected:?}",
            forgery.what
        );
        for consumer in consumers {
            eventually(&forgery.what, async || {
                is_set_aside(consumer, &heard).await.then_some(())
            })
            .await;
        }
    }
    eventually("an alert of the platform", async || {
        let request = audit::ListTenantAlertsRequest {
            tenant_id: TenantId::NONE.to_string(),
            page_size: 500,
            ..Default::default()
        };
        let listed = Caller::operator()
            .audit_operator()
            .list_tenant_alerts(request)
            .await;
        let alerts = listed.expect("the operator lists").into_inner().alerts;
        let alerts = alerts.into_iter().filter_map(|alert| alert.alert);
        let mut late = alerts.filter(|alert| {
            let last = alert.last_occur_time.as_ref().map_or(0, |at| at.seconds);
            alert.rule == "event-rejected" && last >= since.unix_timestamp()
        });
        late.next()
    })
    .await;
    println!("{} forgeries", forgeries.len());
}

#[tokio::test]
async fn a_line_break_within_a_header_makes_no_second_tenant() {
    let (tenant, id) = (new_id(), new_id());
    let headers: Vec<String> = envelope(&tenant)
        .into_iter()
        .map(|(name, value)| match name {
            "ce-id" => format!("ce-id: {id}"),
            "ce-authid" => format!("ce-authid: kim\r\nce-tenantid: {}", TenantId::PLATFORM),
            _ => format!("{name}: {value}"),
        })
        .collect();
    let credentials = world().credentials_dir.join("projects.creds");
    let mut raw = Raw::connect(&world().nats_url, &credentials).await;
    let subject = format!("ingest.{tenant}.projects.{CREATED}");
    raw.publish(&subject, &headers.join("\r\n"), "").await;
    let rejected = eventually("the rejection", async || {
        let found = rejections().await;
        found.into_iter().find(|rejected| rejected.event_id == id)
    })
    .await;
    assert_eq!(rejected.reason(), Reason::EnvelopeInvalid);
}

#[tokio::test]
async fn a_subject_of_the_greatest_length_is_set_aside_like_any_other() {
    let (tenant, id) = ("t".repeat(3_900), new_id());
    let headers: Vec<String> = envelope(&new_id())
        .into_iter()
        .map(|(name, value)| match name {
            "ce-id" => format!("ce-id: {id}"),
            _ => format!("{name}: {value}"),
        })
        .collect();
    let credentials = world().credentials_dir.join("projects.creds");
    let mut raw = Raw::connect(&world().nats_url, &credentials).await;
    let subject = format!("ingest.{tenant}.projects.{CREATED}");
    raw.publish(&subject, &headers.join("\r\n"), "").await;
    eventually("the rejection", async || {
        let found = rejections().await;
        found.into_iter().find(|rejected| rejected.event_id == id)
    })
    .await;
    eventually("the dead letter", async || {
        is_set_aside("audit", "overlong").await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_streams_take_no_oversized_message_and_none_that_removes_others() {
    let projects = connect("projects").await;
    let tenant = new_id();
    let headers = |more: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in envelope(&tenant) {
            headers.append(name, value.as_str());
        }
        for (name, value) in more {
            headers.append(*name, *value);
        }
        headers
    };
    let subject = format!("ingest.{tenant}.projects.{CREATED}");
    let large = vec![0; 960 * 1024];
    let answer = publishes(&projects, subject.clone(), headers(&[]), &large).await;
    assert!(
        answer.contains("message size exceeds maximum allowed"),
        "{answer}"
    );
    for header in [
        ("Nats-Rollup", "all"),
        ("Nats-Rollup", "sub"),
        ("Nats-TTL", "1s"),
        ("Nats-Expected-Stream", "SECURITY"),
    ] {
        let answer = publishes(&projects, subject.clone(), headers(&[header]), b"").await;
        assert!(answer.contains("\"error\""), "{header:?}: {answer}");
    }
    let beyond = vec![0; 1024 * 1024 + 1];
    let refused = projects
        .request_with_headers(subject, headers(&[]), beyond.into())
        .await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_reply_that_the_server_reserves_cannot_be_asked_for() {
    let (sender, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    let path = world().credentials_dir.join("projects.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(path).await;
    let client = options
        .expect("credentials")
        .custom_inbox_prefix("_INBOX_projects")
        .event_callback(move |event| {
            drop(sender.send(event.to_string()));
            async {}
        })
        .connect(&world().nats_url)
        .await
        .expect("it connects");
    for reply in ["$JS.ACK.CATALYST.audit.1.1.1.1.1", "_R_.x"] {
        asks(&client, "relay.projects", reply).await;
        let refused = async {
            while let Some(told) = refusals.recv().await {
                if told.contains("Publish with Reply") && told.contains(reply) {
                    return;
                }
            }
        };
        let limit = std::time::Duration::from_secs(10);
        tokio::time::timeout(limit, refused).await.expect(reply);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test does what an attacker would"
)]
async fn asks(client: &async_nats::Client, subject: &str, reply: &str) {
    let sent = client.publish_with_reply(subject.to_owned(), reply.to_owned(), "".into());
    sent.await.expect("sent");
}
