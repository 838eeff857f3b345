//! What the audit trail holds of a run: each event that a cell must leave, and none that it must not.

use std::collections::BTreeMap;

use harness::{Caller, within};
use kit::TenantId;
use prost_reflect::DynamicMessage;
use proto::audit::v1 as audit;
use proto::common::v1::{AuthenticationFailed, SecurityEventsAggregated, Severity};

use super::ground::Ground;
use super::shot::Event;
use crate::isolation::cases::contract;

/// How long the trail may take to be complete.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What is on record, each event as often as it is there.
#[derive(Debug, Default)]
pub(super) struct Trail {
    events: BTreeMap<Event, i64>,
    /// Events that the log only counts, by all that its records of them say: tenant, actor, type and severity.
    counted: BTreeMap<(String, String, String, String), i64>,
    /// The longest time from an attempt across tenants to its record.
    pub(super) slowest: Option<time::Duration>,
}

/// Every record of a tenant since the run began, as the operator sees it.
async fn records(ground: &Ground, tenant: &str) -> Vec<audit::TenantRecord> {
    let mut client = Caller::operator().audit_operator();
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = audit::ListTenantRecordsRequest {
            page_size: 500,
            page_token,
            tenant_id: tenant.to_owned(),
            filter: Some(audit::RecordFilter {
                from_time: Some(kit::fields::timestamp(ground.since)),
                ..Default::default()
            }),
        };
        let page = client
            .list_tenant_records(request)
            .await
            .expect("records are listed")
            .into_inner();
        found.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// The tenants in whose logs the cells leave events.
fn tenants(ground: &Ground) -> [String; 6] {
    [
        ground.own.firm.id.to_string(),
        ground.other.firm.id.to_string(),
        ground.suspended.id.to_string(),
        ground.ghost.to_string(),
        TenantId::PLATFORM.to_string(),
        "none".to_owned(),
    ]
}

impl Trail {
    async fn read(ground: &Ground) -> Self {
        let mut trail = Self::default();
        for tenant in tenants(ground) {
            for record in records(ground, &tenant).await {
                trail.add(ground, &tenant, &record.record.unwrap_or_default());
            }
        }
        trail
    }

    fn add(&mut self, ground: &Ground, tenant: &str, record: &audit::AuditRecord) {
        let actor = record.actor.clone().unwrap_or_default().id;
        let type_name = record.r#type.rsplit('.').next().unwrap_or_default();
        if type_name == "AuthenticationFailed" {
            let body: AuthenticationFailed =
                prost::Message::decode(record.payload.as_slice()).expect("it decodes");
            let failure = body.failure().as_str_name();
            let event = Event::Unverified {
                source: body.source_address.clone(),
                failure: known(failure.trim_start_matches("AUTHENTICATION_FAILURE_")),
                severity: known(severity(body.severity())),
            };
            *self.events.entry(event).or_default() += body.count;
            return;
        }
        let is_of_a_service = tenant == ground.own.firm.id.to_string()
            || tenant == ground.suspended.id.to_string()
            || tenant == ground.ghost.to_string();
        let is_of_a_cell = ground.is_ours(&actor)
            || (is_of_a_service && matches!(actor.as_str(), "audit" | "time-entries" | "projects"));
        if !is_of_a_cell {
            return;
        }
        let tenant = tenant.to_owned();
        if record.category() == audit::RecordCategory::Domain {
            if ground.is_ours(&actor) {
                self.events.insert(Event::Acted { tenant, actor }, 1);
            }
            return;
        }
        if type_name == "CrossTenantAccessAttempted" {
            let took = instant(record.record_time) - instant(record.occur_time);
            self.slowest = self.slowest.max(Some(took));
        }
        if type_name == "SecurityEventsAggregated" {
            let body: SecurityEventsAggregated =
                prost::Message::decode(record.payload.as_slice()).expect("it decodes");
            let of = body.r#type.rsplit('.').next().unwrap_or_default();
            let key = (
                tenant,
                actor,
                of.to_owned(),
                severity(body.severity()).to_owned(),
            );
            *self.counted.entry(key).or_default() += body.count;
            return;
        }
        let is_counted = type_name == "RateLimited";
        let event = Event::Recorded {
            tenant,
            actor,
            type_name: type_name.to_owned(),
            severity: severity(record.severity()).to_owned(),
            method: method(record),
        };
        let times = self.events.entry(event).or_default();
        // One for each second in which there were refusals.
        *times = if is_counted { 1 } else { *times + 1 };
    }

    /// What must be there and is not, neither as a record nor in a count; and counts beyond what must be there.
    fn lacks(&self, expected: &BTreeMap<Event, i64>) -> (Vec<(Event, i64)>, i64) {
        let mut counted = self.counted.clone();
        let mut missing = Vec::new();
        for (event, times) in expected {
            let there = self.events.get(event).copied().unwrap_or_default();
            let mut lacking = (times - there).max(0);
            if let Event::Recorded {
                tenant,
                actor,
                type_name,
                severity,
                ..
            } = event
            {
                let key = (
                    tenant.clone(),
                    actor.clone(),
                    type_name.clone(),
                    severity.clone(),
                );
                if let Some(count) = counted.get_mut(&key) {
                    let taken = lacking.min(*count);
                    *count -= taken;
                    lacking -= taken;
                }
            }
            if lacking > 0 {
                missing.push((event.clone(), lacking));
            }
        }
        (missing, counted.into_values().sum())
    }

    /// What is there and must not be.
    fn exceeds(&self, expected: &BTreeMap<Event, i64>) -> Vec<(Event, i64)> {
        let surplus = self.events.iter().filter_map(|(event, there)| {
            let is_anyones = match event {
                // Other tests run beside this one, from the common address.
                Event::Unverified { source, .. } => source == "127.0.0.1",
                Event::Acted { .. } => true,
                Event::Recorded { .. } => false,
            };
            let times = expected.get(event).copied().unwrap_or_default();
            (!is_anyones && *there > times).then(|| (event.clone(), there - times))
        });
        surplus.collect()
    }
}

/// Waits until everything expected is on record and every `later` event with it, and returns what is amiss: an event
/// that is missing, and one that nobody expects. A service's events arrive in the order in which they were committed,
/// so that nothing of the cells is still to come when a later event of each service is there.
pub(super) async fn compare(
    ground: &Ground,
    expected: &[Event],
    later: &[Event],
) -> (Trail, Vec<(String, Event)>) {
    let mut counted: BTreeMap<Event, i64> = BTreeMap::new();
    for event in expected.iter().chain(later) {
        let times = counted.entry(event.clone()).or_default();
        let is_counted =
            matches!(event, Event::Recorded { type_name, .. } if type_name == "RateLimited");
        *times = if is_counted { 1 } else { *times + 1 };
    }
    let mut last = Trail::default();
    within(PATIENCE, async || {
        last = Trail::read(ground).await;
        last.lacks(&counted).0.is_empty().then_some(())
    })
    .await;
    let (missing, beyond) = last.lacks(&counted);
    assert_eq!(
        beyond, 0,
        "events are counted that no cell expects: {:?}",
        last.counted
    );
    let missing = missing
        .into_iter()
        .map(|(event, times)| (format!("{times} × missing"), event));
    let surplus = last
        .exceeds(&counted)
        .into_iter()
        .map(|(event, times)| (format!("{times} × unexpected"), event));
    let amiss = missing.chain(surplus).collect();
    (last, amiss)
}

fn instant(at: Option<prost_types::Timestamp>) -> time::OffsetDateTime {
    let at = at.unwrap_or_default();
    time::OffsetDateTime::from_unix_timestamp(at.seconds).expect("an instant")
        + time::Duration::nanoseconds(at.nanos.into())
}

fn severity(severity: Severity) -> &'static str {
    severity.as_str_name().trim_start_matches("SEVERITY_")
}

/// The text of a few that the cells expect.
fn known(text: &str) -> &'static str {
    const KNOWN: [&str; 11] = [
        "MISSING",
        "MALFORMED",
        "UNKNOWN_KEY",
        "BAD_SIGNATURE",
        "EXPIRED",
        "WRONG_ISSUER_OR_AUDIENCE",
        "CLAIMS_INVALID",
        "LOW",
        "MEDIUM",
        "HIGH",
        "INFO",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == text)
        .unwrap_or("other")
}

/// The RPC that the event's body names.
fn method(record: &audit::AuditRecord) -> String {
    let Some(descriptor) = contract().get_message_by_name(&record.r#type) else {
        return String::new();
    };
    let body = DynamicMessage::decode(descriptor, record.payload.as_slice()).expect("it decodes");
    body.get_field_by_name("method")
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
