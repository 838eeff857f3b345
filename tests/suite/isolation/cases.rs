//! One case for each RPC: how to call it rightly, and which ids in the call could be another tenant's.

use std::sync::LazyLock;

use harness::{Caller, Firm, eventually};
use kit::TenantId;
use kit::ctx::Clock;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A tenant's admin.
    Admin,
    /// A platform operator.
    Operator,
    /// This service of the deployment, with a delegated tenant.
    Service(&'static str),
}

/// What happens to an id that is another tenant's, and to one that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// NOT_FOUND.
    Missing,
    /// An answer with nothing in it.
    Empty,
    /// The row of the batch is rejected as not found; the others go on.
    RowRejected,
}

/// How one RPC is called. `$name` in the request is an id of the fixture; `$new` is unique.
pub(super) struct Case {
    /// `catalyst.projects.v1.ProjectService/GetProject`.
    pub(super) method: &'static str,
    /// Who may call.
    pub(super) who: Who,
    /// The request as proto JSON.
    pub(super) request: &'static str,
    /// Ids in it that a caller could swap for another tenant's, and what must come of that.
    pub(super) ids: &'static [(&'static str, Foreign)],
}

use Foreign::{Empty, Missing, RowRejected};
use Who::{Admin, Operator, Service};

/// Every RPC of the contract.
pub(super) const CASES: &[Case] = &[
    case(
        "catalyst.tenants.v1.TenantService/CreateTenant",
        Operator,
        r#"{"tenant": {"slug": "$new", "displayName": "New", "timeZone": "UTC", "currencyCode": "EUR"}}"#,
        &[],
    ),
    case(
        "catalyst.tenants.v1.TenantService/GetTenant",
        Operator,
        r#"{"tenantId": "$tenant"}"#,
        &[],
    ),
    case(
        "catalyst.tenants.v1.TenantService/ListTenants",
        Operator,
        "{}",
        &[],
    ),
    case(
        "catalyst.tenants.v1.TenantService/SuspendTenant",
        Operator,
        r#"{"tenantId": "$spare", "reason": "test"}"#,
        &[],
    ),
    case(
        "catalyst.tenants.v1.TenantService/ResumeTenant",
        Operator,
        r#"{"tenantId": "$spare"}"#,
        &[],
    ),
    case(
        "catalyst.tenants.v1.TenantService/ChangeTenantPlan",
        Operator,
        r#"{"tenantId": "$spare", "plan": "TENANT_PLAN_SMALL"}"#,
        &[],
    ),
    case(
        "catalyst.tenants.v1.TenantService/PlaceTenant",
        Operator,
        r#"{"tenantId": "$spare", "cell": "shared"}"#,
        &[],
    ),
    case(
        "catalyst.consultants.v1.ConsultantService/CreateConsultant",
        Admin,
        r#"{"consultant": {"code": "$new", "displayName": "Kim", "weeklyCapacityMinutes": 2400}}"#,
        &[],
    ),
    case(
        "catalyst.consultants.v1.ConsultantService/GetConsultant",
        Admin,
        r#"{"consultantId": "$consultant"}"#,
        &[("$consultant", Missing)],
    ),
    case(
        "catalyst.consultants.v1.ConsultantService/ListConsultants",
        Admin,
        "{}",
        &[],
    ),
    case(
        "catalyst.consultants.v1.ConsultantService/UpdateConsultant",
        Admin,
        r#"{"consultant": {"id": "$consultant", "jobTitle": "Lead"}, "updateMask": "jobTitle"}"#,
        &[("$consultant", Missing)],
    ),
    case(
        "catalyst.consultants.v1.ConsultantService/DeactivateConsultant",
        Admin,
        r#"{"consultantId": "$leaver"}"#,
        &[("$leaver", Missing)],
    ),
    case(
        "catalyst.consultants.v1.ConsultantLookupService/LookupConsultant",
        Service("time-entries"),
        r#"{"consultantId": "$consultant"}"#,
        &[("$consultant", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/CreateClient",
        Admin,
        r#"{"client": {"code": "$new", "displayName": "North"}}"#,
        &[],
    ),
    case(
        "catalyst.projects.v1.ProjectService/GetClient",
        Admin,
        r#"{"clientId": "$client"}"#,
        &[("$client", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/ListClients",
        Admin,
        "{}",
        &[],
    ),
    case(
        "catalyst.projects.v1.ProjectService/UpdateClient",
        Admin,
        r#"{"client": {"id": "$client", "displayName": "South"}, "updateMask": "displayName"}"#,
        &[("$client", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/CreateProject",
        Admin,
        r#"{"project": {"clientId": "$client", "code": "$new", "displayName": "Apollo"}}"#,
        &[("$client", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/GetProject",
        Admin,
        r#"{"projectId": "$project"}"#,
        &[("$project", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/ListProjects",
        Admin,
        r#"{"clientId": "$client"}"#,
        &[("$client", Empty)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/UpdateProject",
        Admin,
        r#"{"project": {"id": "$project", "displayName": "Gemini"}, "updateMask": "displayName"}"#,
        &[("$project", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/ArchiveProject",
        Admin,
        r#"{"projectId": "$old_project"}"#,
        &[("$old_project", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/AssignConsultant",
        Admin,
        r#"{"assignment": {"projectId": "$project", "consultantId": "$consultant", "role": "lead",
            "allocationPercent": 50, "startDate": "2031-01-01", "endDate": "2031-01-31"}}"#,
        &[("$project", Missing), ("$consultant", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/UnassignConsultant",
        Admin,
        r#"{"assignmentId": "$assignment"}"#,
        &[("$assignment", Missing)],
    ),
    case(
        "catalyst.projects.v1.ProjectService/ListAssignments",
        Admin,
        r#"{"projectId": "$project", "consultantId": "$consultant"}"#,
        &[("$project", Empty), ("$consultant", Empty)],
    ),
    case(
        "catalyst.projects.v1.ProjectLookupService/LookupProject",
        Service("time-entries"),
        r#"{"projectId": "$project"}"#,
        &[("$project", Missing)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/CreateTimeEntry",
        Admin,
        r#"{"timeEntry": {"projectId": "$project", "consultantId": "$consultant", "timeZone": "UTC",
            "startedAt": "2026-05-04T08:00:00Z", "endedAt": "2026-05-04T09:00:00Z"}}"#,
        &[("$project", Missing), ("$consultant", Missing)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/GetTimeEntry",
        Admin,
        r#"{"timeEntryId": "$entry"}"#,
        &[("$entry", Missing)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/ListTimeEntries",
        Admin,
        r#"{"projectId": "$project", "consultantId": "$consultant"}"#,
        &[("$project", Empty), ("$consultant", Empty)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/UpdateTimeEntry",
        Admin,
        r#"{"timeEntry": {"id": "$entry", "projectId": "$project", "note": "seen"}, "updateMask": "note,projectId"}"#,
        &[("$entry", Missing), ("$project", Missing)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/DeleteTimeEntry",
        Admin,
        r#"{"timeEntryId": "$old_entry"}"#,
        &[("$old_entry", Missing)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/ImportTimeEntries",
        Admin,
        r#"{"overlapPolicy": "OVERLAP_POLICY_REJECT", "rows": [{"externalId": "$new", "projectId": "$project",
            "consultantId": "$consultant", "timeZone": "UTC", "startedAt": "2026-05-05T08:00:00Z",
            "endedAt": "2026-05-05T09:00:00Z"}]}"#,
        &[("$project", RowRejected), ("$consultant", RowRejected)],
    ),
    case(
        "catalyst.time_entries.v1.TimeEntryService/SummarizeTimeEntries",
        Admin,
        r#"{"projectId": "$project", "consultantId": "$consultant", "groupBy": ["SUMMARY_DIMENSION_PROJECT"]}"#,
        &[("$project", Empty), ("$consultant", Empty)],
    ),
    case(
        "catalyst.audit.v1.AuditService/ListRecords",
        Admin,
        // The own misses are on the own record under the id that was asked for; the domain's records are not.
        r#"{"filter": {"resourceId": "$project", "category": "RECORD_CATEGORY_DOMAIN"}}"#,
        &[("$project", Empty)],
    ),
    case(
        "catalyst.audit.v1.AuditService/WatchRecords",
        Admin,
        r#"{"afterSequence": "0"}"#,
        &[],
    ),
    case(
        "catalyst.audit.v1.AuditService/ListAlerts",
        Admin,
        "{}",
        &[],
    ),
    case(
        "catalyst.audit.v1.AuditService/AcknowledgeAlert",
        Admin,
        r#"{"alertId": "$alert", "note": "seen"}"#,
        &[("$alert", Missing)],
    ),
    case(
        "catalyst.audit.v1.AuditOperatorService/ListTenantRecords",
        Operator,
        "{}",
        &[],
    ),
    case(
        "catalyst.audit.v1.AuditOperatorService/ExportRecords",
        Operator,
        r#"{"tenantId": "$tenant"}"#,
        &[],
    ),
    case(
        "catalyst.audit.v1.AuditOperatorService/ListTenantAlerts",
        Operator,
        "{}",
        &[],
    ),
    case(
        "catalyst.audit.v1.AuditOperatorService/AcknowledgeTenantAlert",
        Operator,
        r#"{"tenantId": "$tenant", "alertId": "$alert"}"#,
        &[],
    ),
];

const fn case(
    method: &'static str,
    who: Who,
    request: &'static str,
    ids: &'static [(&'static str, Foreign)],
) -> Case {
    Case {
        method,
        who,
        request,
        ids,
    }
}

/// A firm with at least one of everything, and the id behind each `$name`.
pub(super) struct Fixture {
    pub(super) firm: Firm,
    ids: Vec<(&'static str, String)>,
}

impl Fixture {
    /// Builds a firm, its people, work and time, and an alert.
    pub(super) async fn new(name: &str) -> Self {
        let firm = Firm::new(name).await;
        let spare = Firm::new("Spare").await;
        let consultant = firm.hires("Kim").await;
        let leaver = firm.hires("Lee").await;
        let project = firm.creates_project("Apollo").await;
        let old_project = firm.creates_project("Vostok").await;
        let assignment = firm.assigns(&project.id, &consultant.id).await;
        let entry = firm.logs_hour(&project.id, &consultant.id, 8).await;
        let old_entry = firm.logs_hour(&project.id, &consultant.id, 10).await;
        firm.deletes_some(&project.id, &leaver.id).await;
        let alert = Self::raise_alert(&firm).await;
        let request = proto::audit::v1::AcknowledgeAlertRequest {
            alert_id: alert.clone(),
            request_id: Clock::system().new_uuid().to_string(),
            ..Default::default()
        };
        firm.audit()
            .acknowledge_alert(request)
            .await
            .expect("the alert is acknowledged");
        let ids = vec![
            ("$tenant", firm.id.to_string()),
            ("$spare", spare.id.to_string()),
            ("$client", project.client_id.clone()),
            ("$old_project", old_project.id),
            ("$project", project.id),
            ("$consultant", consultant.id),
            ("$leaver", leaver.id),
            ("$assignment", assignment.id),
            ("$old_entry", old_entry.id),
            ("$entry", entry.id),
            ("$alert", alert),
        ];
        Self { firm, ids }
    }

    /// A mismatch of metadata and token raises one.
    async fn raise_alert(firm: &Firm) -> String {
        let other = TenantId::new(Clock::system().new_uuid());
        let swapped = firm
            .user("mallory", &["admin"])
            .without("x-tenant-id")
            .with("x-tenant-id", &other.to_string());
        let refused = swapped
            .projects()
            .list_clients(proto::projects::v1::ListClientsRequest::default())
            .await;
        assert!(refused.is_err());
        eventually("an alert is raised", async || {
            let alerts = firm
                .audit()
                .list_alerts(proto::audit::v1::ListAlertsRequest::default())
                .await;
            alerts
                .ok()?
                .into_inner()
                .alerts
                .first()
                .map(|alert| alert.id.clone())
        })
        .await
    }

    /// The id behind a name.
    pub(super) fn id(&self, name: &str) -> &str {
        self.ids
            .iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| panic!("no {name}"), |(_, id)| id.as_str())
    }

    /// The caller that a case asks for.
    pub(super) fn caller(&self, who: Who, method: &str) -> Caller {
        match who {
            Who::Admin => self.firm.user("admin", &["admin"]),
            Who::Operator => Caller::operator(),
            Who::Service(service) => Caller::service(service, audience(method), self.firm.id),
        }
    }

    /// The request of a case as bytes, with the ids of this fixture but for the `swapped` one.
    pub(super) fn request(&self, case: &Case, swapped: Option<(&str, &str)>) -> Vec<u8> {
        compose(case.method, &self.json(case, swapped)).encode_to_vec()
    }

    /// The same as proto JSON.
    pub(super) fn json(&self, case: &Case, swapped: Option<(&str, &str)>) -> Value {
        let mut text = case.request.to_owned();
        if let Some((name, id)) = swapped {
            text = text.replace(&format!("\"{name}\""), &format!("\"{id}\""));
        }
        for (name, id) in &self.ids {
            text = text.replace(&format!("\"{name}\""), &format!("\"{id}\""));
        }
        let new = Clock::system().new_uuid().simple().to_string();
        serde_json::from_str(&text.replace("$new", &format!("n{new}")))
            .expect("the case's request is JSON")
    }
}

/// The service that serves a method, by its package.
pub(super) fn audience(method: &str) -> &'static str {
    match method.split('.').nth(1) {
        Some("tenants") => "tenants",
        Some("consultants") => "consultants",
        Some("projects") => "projects",
        Some("time_entries") => "time-entries",
        _ => "audit",
    }
}

/// The contract.
pub(super) fn contract() -> DescriptorPool {
    static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(proto::DESCRIPTOR_SET).expect("the descriptor set decodes")
    });
    CONTRACT.clone()
}

/// Every RPC of the contract's own services.
pub(super) fn methods() -> Vec<MethodDescriptor> {
    let services: Vec<_> = contract().services().collect();
    services
        .iter()
        .filter(|service| service.full_name().starts_with("catalyst."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// `package.Service/Method`.
pub(super) fn full_name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

pub(super) fn descriptor(method: &str) -> MethodDescriptor {
    methods()
        .into_iter()
        .find(|known| full_name(known) == method)
        .unwrap_or_else(|| panic!("no RPC {method}"))
}

/// The request of a method from proto JSON.
pub(crate) fn compose(method: &str, json: &Value) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor(method).input(), json)
        .unwrap_or_else(|error| panic!("the request of {method}: {error}"))
}

/// An answer as proto JSON.
pub(crate) fn decode(method: &str, body: &[u8]) -> Value {
    let message =
        DynamicMessage::decode(descriptor(method).output(), body).expect("the answer decodes");
    serde_json::to_value(message).expect("the answer is JSON")
}
