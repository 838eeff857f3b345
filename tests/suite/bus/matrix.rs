//! Every user of the bus × everything that could be tried on it, on a real server.

use std::collections::BTreeSet;

use async_nats::jetstream;
use catalyst::doctor::bus::operations::{OWN, Operation, TENANT, Verb, operations, users};
use catalyst::doctor::bus::trial::try_all;
use data_encoding::BASE64URL_NOPAD;
use futures::TryStreamExt;
use serde_json::Value;

use super::lone::Lone;

/// A line for each cell that is not as expected.
fn surprises(user: &str, operations: &[Operation], passed: &[bool]) -> Vec<String> {
    let cells = operations.iter().zip(passed);
    cells
        .filter(|(operation, passed)| operation.needed_by.contains(&user) != **passed)
        .map(|(operation, passed)| {
            let word = if *passed { "may" } else { "may not" };
            format!("{user} {word} {:?} {}", operation.verb, operation.subject)
        })
        .collect()
}

/// The subjects that a user's own token allows it to publish or to hear.
fn allowed(lone: &Lone, user: &str, kind: &str) -> Vec<String> {
    let path = lone
        .settings
        .nats_credentials_dir
        .join(format!("{user}.creds"));
    let text = std::fs::read_to_string(path).expect("credentials");
    let token = text.lines().find(|line| line.starts_with("ey"));
    let body = token
        .and_then(|token| token.split('.').nth(1))
        .expect("a token");
    let body = BASE64URL_NOPAD.decode(body.as_bytes()).expect("base64");
    let claims: Value = serde_json::from_slice(&body).expect("JSON");
    let subjects = claims["nats"][kind]["allow"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    subjects
        .iter()
        .map(|subject| subject.as_str().expect("text").to_owned())
        .collect()
}

/// Whether the pattern takes the subject, wildcards of the subject counting as words.
fn takes(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for expected in pattern.split('.') {
        match (expected, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(word)) if word != ">" => {}
            (expected, Some(word)) if expected == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

/// What is stored, how much of it each consumer has, and how all of it is set up.
async fn state(lone: &Lone) -> Vec<String> {
    let jetstream = jetstream::new(lone.user("migrator").await);
    let streams: Vec<_> = jetstream.streams().try_collect().await.expect("streams");
    let mut told = Vec::new();
    for stream in streams {
        told.push(format!("{:?} {:?}", stream.config, stream.state));
        let handle = jetstream
            .get_stream(&stream.config.name)
            .await
            .expect("a stream");
        let consumers: Vec<_> = handle.consumers().try_collect().await.expect("consumers");
        for consumer in consumers {
            told.push(format!(
                "{:?} {:?} {} {}",
                consumer.config, consumer.ack_floor, consumer.num_pending, consumer.num_ack_pending
            ));
        }
    }
    told.sort();
    told
}

#[tokio::test]
async fn every_user_may_do_on_the_bus_what_it_needs_and_nothing_else() {
    let lone = Lone::start().await;
    let operations = operations();
    let before = state(&lone).await;
    let mut surprising = Vec::new();
    let mut cells = 0;
    for user in users() {
        let options = kit::bus::options(&lone.settings, user).await;
        let options = options.expect("every user has credentials");
        let url = lone.nats.url();
        let passed = try_all(options, &[&url], &operations).await.expect(user);
        surprising.extend(surprises(user, &operations, &passed));
        cells += passed.len();
    }
    let url = lone.nats.url();
    let passed = try_all(lone.of_tenant(OWN), &[&url], &operations)
        .await
        .expect("a tenant's user");
    surprising.extend(surprises(TENANT, &operations, &passed));
    cells += passed.len();

    assert_eq!(surprising, Vec::<String>::new());
    println!(
        "{cells} cells: {} users, {} operations",
        users().len() + 1,
        operations.len()
    );
    assert_eq!(state(&lone).await, before, "trying left something behind");
}

#[tokio::test]
async fn every_user_and_every_permission_that_is_issued_has_an_expectation() {
    let lone = Lone::start().await;
    let known: BTreeSet<String> = users().into_iter().map(str::to_owned).collect();
    let issued: BTreeSet<String> = std::fs::read_dir(&lone.settings.nats_credentials_dir)
        .expect("the folder")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(issued, known);

    let operations = operations();
    let mut untried = Vec::new();
    for user in users() {
        for (kind, is_said) in [("pub", true), ("sub", false)] {
            for pattern in allowed(&lone, user, kind) {
                let is_tried = operations.iter().any(|operation| {
                    (operation.verb == Verb::Say) == is_said
                        && operation.needed_by.contains(&user)
                        && takes(&pattern, &operation.subject)
                });
                if !is_tried {
                    untried.push(format!("{user} {kind} {pattern}"));
                }
            }
        }
    }
    assert_eq!(untried, Vec::<String>::new());
}

#[test]
fn each_operation_is_listed_once() {
    let mut seen = BTreeSet::new();
    for operation in operations() {
        let cell = (operation.verb, operation.subject);
        assert!(seen.insert(cell.clone()), "{cell:?} is listed twice");
    }
}
