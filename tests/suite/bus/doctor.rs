//! The doctor's trial of the bus: nothing to find on a deployment as it is made, and each departure by its rule.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use catalyst::doctor::bus::{attest, operations};
use harness::world;
use kit::settings::NatsSettings;
use serde_json::json;

use super::lone::Lone;

async fn rules(settings: &NatsSettings) -> BTreeSet<&'static str> {
    let findings = attest(settings).await.expect("the doctor looks");
    findings.iter().map(|finding| finding.rule).collect()
}

#[tokio::test]
async fn the_doctor_finds_nothing_on_the_bus_of_a_deployment_that_serves() {
    let findings = attest(&world().settings.nats)
        .await
        .expect("the doctor looks");
    assert_eq!(findings, []);
}

#[tokio::test]
async fn a_user_that_was_given_everything_is_found_by_every_rule() {
    let lone = Lone::start().await;
    let everything = json!({ "allow": [">"] });
    lone.widen("projects", &everything, &everything);
    let mut expected: BTreeSet<_> = operations::RULES.iter().map(|rule| rule.may).collect();
    assert_eq!(rules(&lone.settings).await, expected);

    // An empty list means everything as well.
    lone.widen("projects", &json!({}), &json!({}));
    assert_eq!(rules(&lone.settings).await, expected);

    lone.widen("stranger", &everything, &everything);
    expected.insert("nats-user-unknown");
    assert_eq!(rules(&lone.settings).await, expected);
}

#[tokio::test]
async fn one_subject_too_many_and_one_too_few_are_found_by_their_rules() {
    let lone = Lone::start().await;
    let own = json!({
        "allow": ["_INBOX_consultants.>", "relay.consultants", "catalyst.*.consultants.*"]
    });
    let directory = [
        "$JS.API.STREAM.INFO.KV_tenants",
        "$JS.API.DIRECT.GET.KV_tenants.$KV.tenants.>",
        "$JS.API.CONSUMER.CREATE.KV_tenants",
        "$JS.API.CONSUMER.CREATE.KV_tenants.*.$KV.tenants.>",
        "$JS.API.CONSUMER.DELETE.KV_tenants.*",
        "$JS.FC.KV_tenants.>",
    ];
    let publishing = |more: &[&str]| {
        let all: Vec<&str> = directory.iter().chain(more).copied().collect();
        json!({ "allow": all })
    };
    let speaks = [
        "ingest_security.*.*",
        "dead_letter.consultants.>",
        "relay.consultants",
    ];

    lone.widen("consultants", &publishing(&speaks), &own);
    let found = attest(&lone.settings).await.expect("the doctor looks");
    let told: Vec<_> = found.iter().map(|finding| finding.rule).collect();
    assert_eq!(told, ["nats-user-cannot-publish-own"]);

    let mut more = speaks.to_vec();
    more.extend(["ingest.*.consultants.*", "$JS.API.STREAM.PURGE.CATALYST"]);
    lone.widen("consultants", &publishing(&more), &own);
    let found = attest(&lone.settings).await.expect("the doctor looks");
    let told: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("nats-user-may-administer-streams"),
        "{told:?}"
    );
    assert!(told[0].contains("NATS user consultants"), "{told:?}");
    assert!(
        told[0].contains("publish to $JS.API.STREAM.PURGE.CATALYST"),
        "{told:?}"
    );
}

#[tokio::test]
async fn streams_durables_and_a_bucket_that_depart_are_found() {
    let lone = Lone::start().await;
    let jetstream = jetstream::new(lone.user("migrator").await);
    let mut letters = kit::topology::streams(1)
        .into_iter()
        .find(|stream| stream.name == "DEAD_LETTERS")
        .expect("dead letters");
    letters.max_age = Duration::from_hours(1);
    jetstream.update_stream(&letters).await.expect("updated");
    jetstream.delete_stream("SECURITY").await.expect("deleted");
    let mut security = kit::topology::streams(1)
        .into_iter()
        .nth(1)
        .expect("security");
    security.deny_purge = false;
    security.republish = None;
    jetstream.create_stream(&security).await.expect("created");
    let events = jetstream.get_stream("CATALYST").await.expect("a stream");
    events.delete_consumer("projects").await.expect("deleted");
    let narrow = pull::Config {
        durable_name: Some("audit".to_owned()),
        filter_subjects: vec!["catalyst.*.projects.>".to_owned()],
        ack_policy: jetstream::consumer::AckPolicy::Explicit,
        ..pull::Config::default()
    };
    events.delete_consumer("audit").await.expect("deleted");
    events.create_consumer(narrow).await.expect("created");
    jetstream
        .delete_key_value("tenants")
        .await
        .expect("deleted");

    let found = attest(&lone.settings).await.expect("the doctor looks");
    let told: BTreeSet<_> = found
        .iter()
        .map(|finding| format!("{} {}", finding.rule, finding.object))
        .collect();
    let expected = [
        "nats-bucket-missing NATS bucket tenants",
        "nats-durable-departs NATS durable audit of CATALYST",
        "nats-durable-missing NATS durable audit-security of SECURITY",
        "nats-durable-missing NATS durable projects of CATALYST",
        "nats-stream-departs NATS stream DEAD_LETTERS",
        "nats-stream-departs NATS stream SECURITY",
    ];
    assert_eq!(told, expected.into_iter().map(str::to_owned).collect());
    let text = format!("{found:?}");
    for key in ["deny_purge", "republish", "max_age", "filter_subject"] {
        assert!(text.contains(key), "{key} is not named: {text}");
    }
}

#[tokio::test]
async fn credentials_that_are_elsewhere_are_a_warning() {
    let lone = Lone::start().await;
    let own = lone.settings.nats_credentials_dir.join("operator.creds");
    std::fs::remove_file(own).expect("removed");
    let found = attest(&lone.settings).await.expect("the doctor looks");
    let told: Vec<_> = found
        .iter()
        .map(|finding| (finding.rule, finding.severity, finding.object.as_str()))
        .collect();
    let warning = kit::attest::Severity::Warning;
    assert_eq!(
        told,
        [("nats-user-not-tried", warning, "NATS user operator")]
    );
}
