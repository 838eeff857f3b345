//! Time entries as callers meet them: what each call gives, refuses, repeats and tells.

mod change;
mod find;
mod import;
mod own;
mod record;
mod references;
mod summary;

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use harness::{Caller, Firm, world};
use kit::ctx::Clock;
use prost_types::{FieldMask, Timestamp};
use proto::time_entries::v1 as pb;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// An id that nothing has, and a request id that nothing used.
fn new_id() -> String {
    Clock::system().new_uuid().to_string()
}

fn mask(paths: &[&str]) -> FieldMask {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    FieldMask { paths }
}

/// So many minutes after an instant.
fn later(at: Option<Timestamp>, minutes: i64) -> Option<Timestamp> {
    at.map(|at| Timestamp {
        seconds: at.seconds + minutes * 60,
        ..at
    })
}

/// The reason in the `ErrorInfo` of a refusal.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

#[track_caller]
fn assert_refused<T: Debug>(answer: Result<T, Status>, code: Code, why: &str) {
    let status = answer.expect_err("the call is refused");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (code, why),
        "{}",
        status.message()
    );
}

/// Refused as an id that nothing has, of this kind.
#[track_caller]
fn assert_missing<T: Debug>(answer: Result<T, Status>, kind: &str) {
    let status = answer.expect_err("the call is refused");
    let details = status.get_error_details();
    let named = details
        .error_info()
        .and_then(|info| info.metadata.get("kind").cloned());
    assert_eq!(
        (status.code(), named.as_deref()),
        (Code::NotFound, Some(kind)),
        "{}",
        status.message()
    );
}

/// The fields that an INVALID_FIELDS names, in its order.
#[track_caller]
fn invalid_fields<T: Debug>(answer: Result<T, Status>) -> Vec<String> {
    let status = answer.expect_err("the call is refused");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS")
    );
    let details = status.get_error_details();
    let violations = details.bad_request().map(|it| it.field_violations.clone());
    violations
        .into_iter()
        .flatten()
        .map(|it| it.field)
        .collect()
}

/// A firm with a project and a consultant: what an entry needs.
struct Scene {
    firm: Firm,
    project: String,
    consultant: String,
}

impl Scene {
    async fn new() -> Self {
        let firm = Firm::new("Acme").await;
        let (project, consultant) = (
            firm.creates_project("Apollo").await.id,
            firm.hires("Kim").await.id,
        );
        Self {
            firm,
            project,
            consultant,
        }
    }

    /// An hour of work that begins at `hour` o'clock, not yet recorded.
    fn hour(&self, hour: i64) -> pb::TimeEntry {
        self.firm.hour_on(&self.project, &self.consultant, hour)
    }

    /// Records the hour of work that begins at `hour` o'clock.
    async fn records(&self, hour: i64) -> pb::TimeEntry {
        create(&self.firm, self.hour(hour)).await.expect("recorded")
    }
}

async fn create(caller: &Caller, entry: pb::TimeEntry) -> Result<pb::TimeEntry, Status> {
    create_as(caller, entry, "").await
}

async fn create_as(
    caller: &Caller,
    entry: pb::TimeEntry,
    request_id: &str,
) -> Result<pb::TimeEntry, Status> {
    let request = pb::CreateTimeEntryRequest {
        time_entry: Some(entry),
        request_id: request_id.to_owned(),
    };
    let created = caller.time_entries().create_time_entry(request).await;
    created.map(|answer| answer.into_inner().time_entry.expect("the entry"))
}

async fn get(caller: &Caller, id: &str) -> Result<pb::TimeEntry, Status> {
    let request = pb::GetTimeEntryRequest {
        time_entry_id: id.to_owned(),
    };
    let found = caller.time_entries().get_time_entry(request).await;
    found.map(|answer| answer.into_inner().time_entry.expect("the entry"))
}

async fn update(
    caller: &Caller,
    entry: pb::TimeEntry,
    paths: &[&str],
) -> Result<pb::TimeEntry, Status> {
    let request = pb::UpdateTimeEntryRequest {
        time_entry: Some(entry),
        update_mask: Some(mask(paths)),
        ..Default::default()
    };
    let updated = caller.time_entries().update_time_entry(request).await;
    updated.map(|answer| answer.into_inner().time_entry.expect("the entry"))
}

async fn delete(caller: &Caller, id: &str) -> Result<(), Status> {
    let request = pb::DeleteTimeEntryRequest {
        time_entry_id: id.to_owned(),
        ..Default::default()
    };
    caller
        .time_entries()
        .delete_time_entry(request)
        .await
        .map(|_: Response<_>| ())
}

async fn list(caller: &Caller, request: pb::ListTimeEntriesRequest) -> Vec<String> {
    let answer = caller
        .time_entries()
        .list_time_entries(request)
        .await
        .expect("a page");
    answer
        .into_inner()
        .time_entries
        .into_iter()
        .map(|entry| entry.id)
        .collect()
}

async fn sums(caller: &Caller, request: pb::SummarizeTimeEntriesRequest) -> Vec<pb::SummaryRow> {
    caller
        .time_entries()
        .summarize_time_entries(request)
        .await
        .expect("a page")
        .into_inner()
        .rows
}

/// A subscriber of a firm's own events of this service.
struct Ear {
    subscription: async_nats::Subscriber,
    _client: async_nats::Client,
}

impl Ear {
    async fn of(firm: &Firm) -> Self {
        let identity = &world().identity_dir;
        let credentials =
            catalyst::stack::identity::issue_tenant_credentials(identity, firm.id.uuid(), "suite")
                .expect("credentials are issued");
        let options =
            async_nats::ConnectOptions::with_credentials(&credentials).expect("credentials");
        let client = options
            .connect(&world().nats_url)
            .await
            .expect("the firm's subscriber connects");
        let subject = format!("catalyst.{}.time_entries.>", firm.id);
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

    /// The next event: its aggregate, its version and its message.
    async fn hears<E: prost::Name + Default>(&mut self) -> (String, i64, E) {
        let next = tokio::time::timeout(Duration::from_secs(10), self.subscription.next());
        let message = next.await.expect("an event within 10 s").expect("open");
        let headers = message.headers.expect("an envelope");
        let header = |name: &str| headers.get(name).expect("a header").as_str().to_owned();
        assert_eq!(header("ce-type"), E::full_name());
        let version = header("ce-sequence").parse().expect("a version");
        (
            header("ce-subject"),
            version,
            E::decode(message.payload).expect("a message"),
        )
    }
}
