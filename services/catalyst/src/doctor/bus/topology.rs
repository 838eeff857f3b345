//! Streams, durables and the bucket of the live server, compared with what `catalyst migrate` makes of them.

use anyhow::Context as _;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::IntoConsumerConfig as _;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use kit::attest::{Finding, Severity};
use kit::bus::Bus;
use kit::settings::NatsSettings;
use kit::topology;
use serde::Serialize;
use serde_json::Value;

use super::finding;
use crate::services;

/// The user that may read how everything is set up.
pub(super) const READER: &str = "migrator";
/// What of a stream's configuration must be as it is made; the rest is the operator's to choose.
const OF_STREAM: [&str; 20] = [
    "subjects",
    "subject_transform",
    "republish",
    "retention",
    "discard",
    "storage",
    "max_msgs",
    "max_msgs_per_subject",
    "max_bytes",
    "max_age",
    "max_msg_size",
    "duplicate_window",
    "no_ack",
    "sealed",
    "mirror",
    "deny_delete",
    "deny_purge",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "allow_atomic",
];
/// The same of a durable.
const OF_DURABLE: [&str; 9] = [
    "filter_subject",
    "filter_subjects",
    "ack_policy",
    "ack_wait",
    "max_deliver",
    "max_ack_pending",
    "deliver_policy",
    "deliver_subject",
    "pause_until",
];
const REMEDY: &str = "run `catalyst migrate`; what it cannot change, such as a denial that was lifted, needs a stream made anew";

/// Every rule that is decided here, how much it weighs, and why it matters.
pub(super) const RULES: [(&str, Severity, &str); 7] = [
    (
        "nats-stream-missing",
        Severity::Error,
        "events stay in the outboxes and nobody hears them",
    ),
    (
        "nats-stream-departs",
        Severity::Error,
        "stored events can be lost, removed, stored twice or heard where they must not be",
    ),
    (
        "nats-bucket-missing",
        Severity::Error,
        "services do not learn which tenants are suspended",
    ),
    (
        "nats-bucket-departs",
        Severity::Error,
        "the state of a tenant can be lost or removed, so that a suspended one is let in",
    ),
    (
        "nats-durable-missing",
        Severity::Error,
        "a service does not hear the events that it must apply",
    ),
    (
        "nats-durable-departs",
        Severity::Error,
        "a service misses events, or gives up on them",
    ),
    (
        "nats-replicas-differ",
        Severity::Warning,
        "the least copied stream decides what is lost with a server",
    ),
];

pub(super) async fn attest(settings: &NatsSettings) -> anyhow::Result<Vec<Finding>> {
    let bus = Bus::connect(settings, READER).await?;
    let mut findings = Vec::new();
    let mut replicas = Vec::new();
    for expected in topology::streams(1) {
        let object = format!("NATS stream {}", expected.name);
        let Some(stream) = stream(&bus, &expected.name).await? else {
            findings.push(missing("nats-stream-missing", object));
            continue;
        };
        let live = &stream.cached_info().config;
        replicas.push(live.num_replicas);
        let (expected, live) = (json(&expected)?, json(live)?);
        findings.extend(departures(
            "nats-stream-departs",
            &object,
            &OF_STREAM,
            &expected,
            &live,
        ));
    }
    let bucket = topology::bucket(1).bucket;
    let object = format!("NATS bucket {bucket}");
    if let Some(stream) = stream(&bus, &format!("KV_{bucket}")).await? {
        let live = &stream.cached_info().config;
        replicas.push(live.num_replicas);
        // A bucket is a stream that keeps the last message of each key, whatever its age.
        let expected = serde_json::json!({
            "subjects": [format!("$KV.{bucket}.>")],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "deny_delete": true,
            "allow_rollup_hdrs": true,
        });
        let keys: Vec<&str> = OF_STREAM
            .into_iter()
            .filter(|key| *key != "duplicate_window")
            .collect();
        findings.extend(departures(
            "nats-bucket-departs",
            &object,
            &keys,
            &expected,
            &json(live)?,
        ));
    } else {
        findings.push(missing("nats-bucket-missing", object));
    }
    for service in &services::ALL {
        for (stream_name, expected) in topology::durables(service) {
            let name = expected.durable_name.clone().unwrap_or_default();
            let object = format!("NATS durable {name} of {stream_name}");
            let consumer = match stream(&bus, stream_name).await? {
                Some(stream) => stream.get_consumer::<Config>(&name).await,
                None => continue,
            };
            // One that pushes is missing too: its events go where nobody awaits them.
            let Ok(consumer) = consumer else {
                findings.push(missing("nats-durable-missing", object));
                continue;
            };
            let live = &consumer.cached_info().config;
            let (expected, live) = (json(&expected.into_consumer_config())?, json(live)?);
            findings.extend(departures(
                "nats-durable-departs",
                &object,
                &OF_DURABLE,
                &expected,
                &live,
            ));
        }
    }
    findings.extend(uneven(&replicas));
    Ok(findings)
}

/// None if there is no such stream.
async fn stream(bus: &Bus, name: &str) -> anyhow::Result<Option<Stream>> {
    match bus.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(told)
                if told.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(error).with_context(|| format!("the NATS stream {name} cannot be read")),
        },
    }
}

fn json(config: &impl Serialize) -> anyhow::Result<Value> {
    serde_json::to_value(config).context("a configuration of NATS has no JSON")
}

/// What of `live` is not as expected.
fn departures(
    rule: &'static str,
    object: &str,
    keys: &[&str],
    expected: &Value,
    live: &Value,
) -> Vec<Finding> {
    let differ = keys
        .iter()
        .filter(|key| said(expected, key) != said(live, key));
    differ
        .map(|key| {
            let problem = format!(
                "its {key} is {} and must be {}",
                said(live, key).unwrap_or(&Value::Null),
                said(expected, key).unwrap_or(&Value::Null)
            );
            finding(
                rule,
                Severity::Error,
                object.to_owned(),
                problem,
                REMEDY.to_owned(),
            )
        })
        .collect()
}

/// The value of a key; what the server has many ways of not saying is none.
fn said<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_i64().is_none_or(|number| number > 0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Object(_) => true,
    })
}

fn missing(rule: &'static str, object: String) -> Finding {
    let problem = "it is not there".to_owned();
    finding(
        rule,
        Severity::Error,
        object,
        problem,
        "run `catalyst migrate`".to_owned(),
    )
}

/// The least copied stream decides what is lost with a server.
fn uneven(replicas: &[usize]) -> Option<Finding> {
    let (least, most) = (replicas.iter().min()?, replicas.iter().max()?);
    (least != most).then(|| {
        finding(
            "nats-replicas-differ",
            Severity::Warning,
            "NATS streams".to_owned(),
            format!("some have {least} copies and some {most}"),
            "run `catalyst migrate` with CATALYST_NATS_REPLICAS as it should be".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_many_ways_of_saying_nothing_are_one() {
        let expected = serde_json::json!({ "max_msgs": 0, "subjects": ["a"], "deny_purge": true });
        let live = serde_json::json!({ "max_msgs": -1, "subjects": ["a"], "mirror": null, "deny_purge": true });
        let judged = |live: &Value| departures("rule", "it", &OF_STREAM, &expected, live);
        assert_eq!(judged(&live), []);

        let lifted = serde_json::json!({ "subjects": ["a", "b"] });
        let problems: Vec<_> = judged(&lifted)
            .into_iter()
            .map(|found| found.problem)
            .collect();
        assert_eq!(
            problems,
            [
                r#"its subjects is ["a","b"] and must be ["a"]"#,
                "its deny_purge is null and must be true"
            ]
        );
    }

    #[test]
    fn streams_with_unequal_copies_are_told() {
        assert!(uneven(&[3, 3, 3]).is_none());
        assert_eq!(
            uneven(&[3, 1, 3]).map(|found| found.severity),
            Some(Severity::Warning)
        );
    }
}
