//! Reads requests: every violation of a request is told at once.

use kit::fields::Fields;
use kit::once::Repeat;
use kit::{Id, TenantId};
use proto::audit::v1 as pb;
use proto::common::v1::Severity;

use crate::alert::{self, AlertId, severity_number};
use crate::record::{Category, Filter};
use crate::store::records::OperatorPosition;

/// What an acknowledgement asks for.
pub(super) struct Acknowledge {
    pub(super) alert_id: AlertId,
    pub(super) note: String,
    pub(super) etag: Option<i64>,
}

pub(super) fn filter(filter: Option<&pb::RecordFilter>) -> Result<Filter, kit::Error> {
    let mut fields = Fields::new();
    let read = read_filter(&mut fields, filter);
    fields.finish(Some(read))
}

/// The filter, and the sequence to begin after; none begins at the end of the log.
pub(super) fn watch(
    request: &pb::WatchRecordsRequest,
) -> Result<(Filter, Option<i64>), kit::Error> {
    let mut fields = Fields::new();
    let filter = read_filter(&mut fields, request.filter.as_ref());
    if request.after_sequence.is_some_and(|sequence| sequence < 0) {
        fields.reject("after_sequence", "must not be negative");
    }
    fields.finish(Some((filter, request.after_sequence)))
}

fn read_filter(fields: &mut Fields, filter: Option<&pb::RecordFilter>) -> Filter {
    let Some(filter) = filter else {
        return Filter::default();
    };
    let text = |fields: &mut Fields, field: &str, value: &str, max| {
        fields
            .optional_text(field, value, max)
            .filter(|text| !text.is_empty())
    };
    Filter {
        from: fields.optional_instant("filter.from_time", filter.from_time.as_ref()),
        until: fields.optional_instant("filter.until_time", filter.until_time.as_ref()),
        category: category(fields, filter.category),
        min_severity: min_severity(fields, "filter.min_severity", filter.min_severity),
        type_name: text(fields, "filter.type", &filter.r#type, 200),
        actor_id: text(fields, "filter.actor_id", &filter.actor_id, 255),
        resource_kind: text(fields, "filter.resource_kind", &filter.resource_kind, 64),
        resource_id: fields
            .optional_id::<()>("filter.resource_id", &filter.resource_id)
            .map(Id::uuid),
    }
}

fn category(fields: &mut Fields, category: i32) -> Option<Category> {
    match pb::RecordCategory::try_from(category) {
        Ok(pb::RecordCategory::Unspecified) => None,
        Ok(pb::RecordCategory::Domain) => Some(Category::Domain),
        Ok(pb::RecordCategory::Security) => Some(Category::Security),
        Err(_) => {
            fields.reject(
                "filter.category",
                "must be a known category, or none for all",
            );
            None
        }
    }
}

fn min_severity(fields: &mut Fields, field: &str, severity: i32) -> Option<i16> {
    match Severity::try_from(severity) {
        Ok(Severity::Unspecified) => None,
        Ok(severity) => Some(severity_number(severity)),
        Err(_) => {
            fields.reject(field, "must be a known severity, or none for all");
            None
        }
    }
}

/// Which alerts a tenant asks for.
pub(super) fn alerts(request: &pb::ListAlertsRequest) -> Result<alert::Filter, kit::Error> {
    let mut fields = Fields::new();
    let read = alert::Filter {
        acknowledged: acknowledged(&mut fields, request.state),
        rule: rule(&mut fields, &request.rule),
        min_severity: min_severity(&mut fields, "min_severity", request.min_severity),
        from: fields.optional_instant("from_time", request.from_time.as_ref()),
        until: fields.optional_instant("until_time", request.until_time.as_ref()),
    };
    fields.finish(Some(read))
}

/// Which alerts the operator asks for.
pub(super) fn alerts_of_tenants(
    request: &pb::ListTenantAlertsRequest,
) -> Result<alert::Filter, kit::Error> {
    alerts(&pb::ListAlertsRequest {
        state: request.state,
        rule: request.rule.clone(),
        min_severity: request.min_severity,
        from_time: request.from_time,
        until_time: request.until_time,
        ..Default::default()
    })
}

fn rule(fields: &mut Fields, rule: &str) -> Option<String> {
    fields
        .optional_text("rule", rule, 64)
        .filter(|rule| !rule.is_empty())
}

/// Whether acknowledged or open alerts are asked for; none for both.
fn acknowledged(fields: &mut Fields, state: i32) -> Option<bool> {
    match pb::AlertState::try_from(state) {
        Ok(pb::AlertState::Unspecified) => None,
        Ok(pb::AlertState::Open) => Some(false),
        Ok(pb::AlertState::Acknowledged) => Some(true),
        Err(_) => {
            fields.reject("state", "must be a known state, or none for all");
            None
        }
    }
}

pub(super) fn acknowledge(
    request: &pb::AcknowledgeAlertRequest,
) -> Result<(Repeat, Acknowledge), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let read = read_acknowledge(&mut fields, &request.alert_id, &request.note, &request.etag);
    Ok((repeat, fields.finish(read)?))
}

pub(super) fn acknowledge_of_tenant(
    request: &pb::AcknowledgeTenantAlertRequest,
) -> Result<(Repeat, TenantId, Acknowledge), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let tenant = tenant(&request.tenant_id);
    if tenant.is_none() {
        fields.reject("tenant_id", "is required: a lowercase UUID, or `none`");
    }
    let read = read_acknowledge(&mut fields, &request.alert_id, &request.note, &request.etag);
    let (tenant, read) = fields.finish(tenant.zip(read))?;
    Ok((repeat, tenant, read))
}

fn read_acknowledge(
    fields: &mut Fields,
    alert_id: &str,
    note: &str,
    etag: &str,
) -> Option<Acknowledge> {
    let alert_id = fields.id("alert_id", alert_id);
    let note = fields.optional_text("note", note, 2_000);
    let etag = fields.etag(etag);
    Some(Acknowledge {
        alert_id: alert_id?,
        note: note?,
        etag,
    })
}

/// A tenant that an operator names; empty for all.
pub(super) fn optional_tenant(text: &str) -> Result<Option<TenantId>, kit::Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = tenant(text)
        .ok_or_else(|| kit::Error::invalid("tenant_id", "must be a lowercase UUID, or `none`"))?;
    Ok(Some(read))
}

/// The tenant whose records are exported, none for all, and the position to begin after.
pub(super) fn export(
    request: &pb::ExportRecordsRequest,
) -> Result<(Option<TenantId>, OperatorPosition), kit::Error> {
    let only = optional_tenant(&request.tenant_id)?;
    let Some(after) = &request.after else {
        return Ok((only, OperatorPosition::default()));
    };
    let mut fields = Fields::new();
    let tenant = tenant(&after.tenant_id);
    if tenant.is_none() {
        fields.reject("after.tenant_id", "is required: a lowercase UUID");
    }
    if after.sequence < 0 {
        fields.reject("after.sequence", "must not be negative");
    }
    let tenant = fields.finish(tenant)?;
    Ok((only, (tenant.uuid(), after.operator_only, after.sequence)))
}

/// `none` stands for callers that were not verified.
fn tenant(text: &str) -> Option<TenantId> {
    if text == "none" {
        Some(TenantId::NONE)
    } else {
        TenantId::parse_strict(text)
    }
}
