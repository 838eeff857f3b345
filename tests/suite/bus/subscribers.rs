//! What a tenant's subscriber hears, whatever it asks for: its own tenant's events, and nothing else.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use catalyst::doctor::bus::operations::{OTHER, OWN, TENANT, Verb, operations};
use futures::StreamExt;
use kit::ctx::Clock;

use super::lone::Lone;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let found = tokio::time::timeout(Duration::from_secs(10), future).await;
    found.unwrap_or_else(|_| panic!("did not happen within 10 s: {what}"))
}

/// Publishes and waits until the stream has it.
async fn stores(client: &Client, subject: &str) {
    let mut headers = HeaderMap::new();
    headers.insert(
        "Nats-Msg-Id",
        Clock::system().new_uuid().to_string().as_str(),
    );
    let answer = client
        .request_with_headers(subject.to_owned(), headers, subject.to_owned().into())
        .await
        .unwrap_or_else(|error| panic!("{subject}: {error}"));
    let answer = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(!answer.contains("error"), "{subject}: {answer}");
}

async fn subjects_heard(subscription: &mut Subscriber) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_millis(1), subscription.next()).await
    {
        heard.push(message.subject.to_string());
    }
    heard
}

#[tokio::test]
async fn a_tenants_subscriber_is_delivered_its_own_events_alone_whatever_it_subscribes() {
    let lone = Lone::start().await;
    let url = lone.nats.url();
    let tenant = lone.of_tenant(OWN).connect(&url).await.expect("connected");
    let operator = lone.user("operator").await;
    let mut all = Vec::new();
    for subject in ["catalyst.>", "security.>", "dead_letter.>"] {
        all.push(operator.subscribe(subject).await.expect("sent"));
    }
    let mut witness = futures::stream::select_all(all);

    let mut refused = Vec::new();
    for operation in operations() {
        let subject = operation.subject.clone();
        let subscription = match operation.verb {
            Verb::Hear => tenant.subscribe(subject).await,
            Verb::Share => tenant.queue_subscribe(subject, "group".to_owned()).await,
            Verb::Say => continue,
        };
        if !operation.needed_by.contains(&TENANT) {
            refused.push((operation.subject, subscription.expect("sent")));
        }
    }
    let own = format!("catalyst.{OWN}.>");
    let mut own = tenant.subscribe(own).await.expect("sent");
    tenant.flush().await.expect("sent");
    operator.flush().await.expect("sent");

    // What there is to be heard: events of others, refusals, dead letters, an entry of the directory, and own events.
    let (projects, audit) = (lone.user("projects").await, lone.user("audit").await);
    let directory = lone.user("tenants").await;
    stores(
        &projects,
        &format!("ingest.{OTHER}.projects.project_created"),
    )
    .await;
    stores(&projects, &format!("ingest_security.{OTHER}.rate_limited")).await;
    stores(&projects, &format!("ingest_security.{OWN}.rate_limited")).await;
    stores(
        &audit,
        &format!("dead_letter.audit.catalyst.{OTHER}.projects.x"),
    )
    .await;
    stores(&directory, &format!("$KV.tenants.{OTHER}")).await;
    stores(&projects, &format!("ingest.{OWN}.projects.project_created")).await;

    // The operator hears all but the directory, so there was something to hear.
    let mut witnessed = Vec::new();
    while witnessed.len() < 5 {
        let message = within("the operator hears", witness.next()).await;
        witnessed.push(message.expect("open").subject.to_string());
    }
    let sentinel = format!("catalyst.{OWN}.projects.project_created");
    let heard = within("the own event", own.next()).await.expect("open");
    assert_eq!(heard.subject.as_str(), sentinel);
    // It came last and on the same connection: whatever was sent before is here.
    let mut leaked = Vec::new();
    for (asked, subscription) in &mut refused {
        for subject in subjects_heard(subscription).await {
            leaked.push(format!("{asked} was delivered {subject}"));
        }
    }
    assert_eq!(leaked, Vec::<String>::new());
    assert_eq!(subjects_heard(&mut own).await, Vec::<String>::new());
    println!("{} refused subscriptions stayed silent", refused.len());
}

#[tokio::test]
async fn a_tenant_cannot_have_an_answer_sent_to_another() {
    let lone = Lone::start().await;
    let url = lone.nats.url();
    let tenant = lone.of_tenant(OWN).connect(&url).await.expect("connected");
    let victim = lone
        .of_tenant(OTHER)
        .connect(&url)
        .await
        .expect("connected");
    let mut feed = victim
        .subscribe(format!("catalyst.{OTHER}.>"))
        .await
        .expect("sent");
    victim.flush().await.expect("sent");
    let reply = format!("catalyst.{OTHER}.projects.project_created");
    for request in [
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.CATALYST",
        "$JS.API.CONSUMER.INFO.CATALYST.projects",
        "$JS.API.CONSUMER.MSG.NEXT.CATALYST.projects",
        "$SYS.REQ.USER.INFO",
    ] {
        asks(&tenant, request, &reply).await;
    }
    tenant.flush().await.expect("sent");
    let projects = lone.user("projects").await;
    let sentinel = format!("ingest.{OTHER}.projects.project_archived");
    stores(&projects, &sentinel).await;
    let first = within("the sentinel", feed.next()).await.expect("open");
    assert!(
        first.subject.ends_with(".project_archived"),
        "{}",
        first.subject
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test does what an attacker would"
)]
async fn asks(client: &Client, subject: &str, reply: &str) {
    client
        .publish_with_reply(subject.to_owned(), reply.to_owned(), "".into())
        .await
        .expect("sent");
}
