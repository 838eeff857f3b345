//! Audit over gRPC: each RPC happy, repeated, unknown, refused and misused; the log without gaps and its chain; what
//! either side of an attempt across tenants may read. That attempts are found at all is shown in `audit_trail`.

mod alerts;
mod checkpoints;
mod full;
mod floods;
mod grants;
mod log;
mod rules;
mod sides;
mod verify;
mod sinks;
mod watch;

use ::audit::record::{Category, Entry, Log, Record, Resource};
use harness::{Caller, Firm, eventually};
use kit::TenantId;
use kit::ctx::{Actor, Clock};
use proto::audit::v1 as pb;
use proto::projects::v1 as projects;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

fn fields(status: &Status) -> Vec<String> {
    let violations = status
        .get_details_bad_request()
        .map(|it| it.field_violations)
        .unwrap_or_default();
    violations
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

fn new_id() -> String {
    Clock::system().new_uuid().to_string()
}

async fn list(firm: &Firm, filter: pb::RecordFilter) -> Vec<pb::AuditRecord> {
    let request = pb::ListRecordsRequest {
        page_size: 500,
        filter: Some(filter),
        ..Default::default()
    };
    firm.audit()
        .list_records(request)
        .await
        .expect("records are listed")
        .into_inner()
        .records
}

/// Waits until the log of a firm has at least so many records of what the test did.
async fn records(firm: &Firm, at_least: usize) -> Vec<pb::AuditRecord> {
    eventually("the records", async || {
        let records = list(firm, pb::RecordFilter::default()).await;
        (of_the_test(&records).count() >= at_least).then_some(records)
    })
    .await
}

/// Records without the refusals of a firm that waits to be let in.
fn of_the_test(records: &[pb::AuditRecord]) -> impl Iterator<Item = &pb::AuditRecord> {
    records
        .iter()
        .filter(|record| record.r#type != "catalyst.common.v1.SuspendedTenantRefused")
}

fn has_no_gaps(records: &[pb::AuditRecord]) -> bool {
    records
        .iter()
        .zip(1..)
        .all(|(record, sequence)| record.sequence == sequence)
}

async fn asks_for(firm: &Firm, subject: &str, project: &str) {
    let request = projects::GetProjectRequest {
        project_id: project.to_owned(),
    };
    let refused = firm
        .user(subject, &["manager"])
        .projects()
        .get_project(request)
        .await;
    assert_eq!(refused.expect_err("not found").code(), Code::NotFound);
}

/// Asks for what no consultant may, and is refused.
async fn is_denied(firm: &Firm, subject: &str) {
    let request = pb::ListRecordsRequest::default();
    let refused = firm
        .user(subject, &["consultant"])
        .audit()
        .list_records(request)
        .await;
    assert_eq!(reason(&refused.expect_err("refused")), "PERMISSION_DENIED");
}

/// The events that the records of a type stand for: one each, and the counts of aggregates of the type.
fn events_of(records: &[pb::AuditRecord], type_name: &str) -> i64 {
    let count = |record: &pb::AuditRecord| {
        if record.r#type == type_name {
            return 1;
        }
        if record.r#type != "catalyst.common.v1.SecurityEventsAggregated" {
            return 0;
        }
        let aggregate: proto::common::v1::SecurityEventsAggregated =
            prost::Message::decode(record.payload.as_slice()).expect("an aggregate");
        if aggregate.r#type == type_name {
            aggregate.count
        } else {
            0
        }
    };
    records.iter().map(count).sum()
}

async fn alerts_of(firm: &Firm) -> Vec<pb::Alert> {
    let request = pb::ListAlertsRequest {
        page_size: 500,
        ..Default::default()
    };
    firm.audit()
        .list_alerts(request)
        .await
        .expect("alerts are listed")
        .into_inner()
        .alerts
}

/// Names another tenant in the metadata: the quickest way to an alert in one's own.
async fn raises_alert(firm: &Firm, subject: &str) {
    let mixed_up = Caller::user(firm.id, subject, &["manager"])
        .without("x-tenant-id")
        .with("x-tenant-id", &new_id());
    let refused = mixed_up
        .projects()
        .list_projects(projects::ListProjectsRequest::default())
        .await;
    assert_eq!(reason(&refused.expect_err("refused")), "TENANT_MISMATCH");
}

async fn first_alert(firm: &Firm) -> pb::Alert {
    raises_alert(firm, "kim").await;
    eventually("the alert", async || {
        alerts_of(firm).await.into_iter().next()
    })
    .await
}

fn acknowledge(alert: &pb::Alert) -> pb::AcknowledgeAlertRequest {
    pb::AcknowledgeAlertRequest {
        alert_id: alert.id.clone(),
        note: "seen".to_owned(),
        ..Default::default()
    }
}

async fn records_of_operator(tenant: &str, filter: pb::RecordFilter) -> Vec<pb::TenantRecord> {
    let mut records = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListTenantRecordsRequest {
            tenant_id: tenant.to_owned(),
            page_size: 500,
            filter: Some(filter.clone()),
            page_token,
        };
        let listed = Caller::operator()
            .audit_operator()
            .list_tenant_records(request)
            .await;
        let page = listed.expect("records of tenants are listed").into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return records;
        }
    }
}

/// The record again, from nothing but what a reader is told.
fn told(tenant: TenantId, log: Log, record: pb::AuditRecord) -> Record {
    let header = |name: &str| record.headers.get(name).cloned().unwrap_or_default();
    let uuid = |text: &str| Uuid::parse_str(text).expect("a UUID");
    let instant = |at: Option<prost_types::Timestamp>| {
        let at = at.expect("an instant");
        let whole = OffsetDateTime::from_unix_timestamp(at.seconds).expect("a time");
        whole
            .replace_nanosecond(at.nanos.try_into().expect("nanoseconds"))
            .expect("a time")
    };
    let resource = Resource {
        kind: record.resource_kind.clone(),
        id: (!record.resource_id.is_empty()).then(|| uuid(&record.resource_id)),
    };
    Record {
        tenant,
        log,
        sequence: record.sequence,
        recorded_at: instant(record.record_time),
        hash: record.hash.as_slice().try_into().expect("32 bytes"),
        entry: Entry {
            id: uuid(&record.id),
            event_id: uuid(&header("ce-id")),
            type_name: header("ce-type"),
            category: match record.category() {
                pb::RecordCategory::Domain => Category::Domain,
                _ => Category::Security,
            },
            severity: record.severity(),
            actor: Actor::from_parts(&header("ce-authtype"), &header("ce-authid")),
            source: header("ce-source")
                .trim_start_matches("catalyst/")
                .to_owned(),
            aggregate_id: uuid(&header("ce-subject")),
            version: header("ce-sequence").parse().expect("a version"),
            resource: (!resource.kind.is_empty()).then_some(resource),
            occurred_at: OffsetDateTime::parse(&header("ce-time"), &Rfc3339).expect("a time"),
            traceparent: record.headers.get("ce-traceparent").cloned(),
            body: record.payload.into(),
        },
    }
}
