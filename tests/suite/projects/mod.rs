//! Clients, projects and assignments as callers meet them: what each call gives, refuses, repeats and tells.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod archive;
mod assign;
mod assignments;
mod clients;
mod lookup;
mod references;
mod work;

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use harness::{Firm, world};
use kit::ctx::Clock;
use prost_types::FieldMask;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// An id that nothing has, and a request id that nothing used.
fn new_id() -> String {
    Clock::system().new_uuid().to_string()
}

/// A code that no other test uses.
fn new_code() -> String {
    format!("t-{}", Clock::system().new_uuid().simple())
}

fn mask(paths: &[&str]) -> FieldMask {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    FieldMask { paths }
}

/// The reason in the `ErrorInfo` of a refusal.
fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

#[track_caller]
fn assert_refused<T: Debug>(answer: Result<Response<T>, Status>, code: Code, why: &str) {
    let status = answer.expect_err("the call is refused");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (code, why),
        "{}",
        status.message()
    );
}

/// The fields that an `INVALID_FIELDS` names, in its order.
#[track_caller]
fn invalid_fields<T: Debug>(answer: Result<Response<T>, Status>) -> Vec<String> {
    let status = answer.expect_err("the call is refused");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS"),
        "{}",
        status.message()
    );
    let details = status.get_error_details();
    let violations = details.bad_request().map(|it| it.field_violations.clone());
    let fields = violations.into_iter().flatten().map(|it| it.field);
    fields.collect()
}

/// A subscriber of a firm's own events of this service.
struct Ear {
    subscription: async_nats::Subscriber,
    _client: async_nats::Client,
}

impl Ear {
    async fn of(firm: &Firm) -> Self {
        let credentials = catalyst::stack::identity::issue_tenant_credentials(
            &world().identity_dir,
            firm.id.uuid(),
            "suite",
        )
        .expect("credentials are issued");
        let client = async_nats::ConnectOptions::with_credentials(&credentials)
            .expect("credentials")
            .connect(&world().nats_url)
            .await
            .expect("the firm's subscriber connects");
        let subject = format!("catalyst.{}.projects.>", firm.id);
        let subscription = client.subscribe(subject).await.expect("subscribed");
        client
            .flush()
            .await
            .expect("the server has the subscription");
        Self {
            subscription,
            _client: client,
        }
    }

    /// The next event on the aggregate: its version and its message.
    async fn hears<E: prost::Name + Default>(&mut self, aggregate: &str) -> (i64, E) {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), self.subscription.next());
            let message = next.await.expect("an event within 10 s").expect("open");
            let headers = message.headers.expect("an envelope");
            let header = |name: &str| headers.get(name).expect("a header").as_str().to_owned();
            if header("ce-subject") == aggregate {
                assert_eq!(header("ce-type"), E::full_name());
                let version = header("ce-sequence").parse().expect("a version");
                return (version, E::decode(message.payload).expect("a message"));
            }
        }
    }
}
