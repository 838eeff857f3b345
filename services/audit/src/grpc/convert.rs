//! From the model to messages. What a tenant may not read of its own records is left out here.

use kit::TenantId;
use kit::change;
use kit::ctx::Actor;
use kit::fields::timestamp;
use prost::Name;
use proto::audit::v1 as pb;
use proto::common::v1 as common;

use crate::alert::{Alert, DeliveryState};
use crate::record::{Category, Record};
use crate::store::alerts::OperatorAlert;
use crate::store::records::{OperatorRecord, Parties};
use crate::summary::summary;

/// The headers that a victim's record would have in common with the offender's, and the actor that is nobody's.
const OF_THE_ATTEMPT: [&str; 4] = ["ce-id", "ce-subject", "ce-authtype", "ce-authid"];

/// A record as the people of its tenant may read it.
pub(super) fn record_for_tenant(record: Record) -> pb::AuditRecord {
    let is_attempt = record.entry.type_name == common::CrossTenantAccessAttempted::full_name();
    let mut message = pb::AuditRecord::from(record);
    if is_attempt {
        message.event_id.clear();
        message.actor = None;
        message
            .headers
            .retain(|name, _| !OF_THE_ATTEMPT.contains(&name.as_str()));
    }
    message
}

impl From<Record> for pb::AuditRecord {
    fn from(record: Record) -> Self {
        let entry = record.entry;
        let category = match entry.category {
            Category::Domain => pb::RecordCategory::Domain,
            Category::Security => pb::RecordCategory::Security,
        };
        let headers = entry
            .headers(record.tenant)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let summary = summary(&entry);
        let (resource_kind, resource_id) = entry
            .resource
            .map(|it| (it.kind, it.id))
            .unwrap_or_default();
        Self {
            id: entry.id.to_string(),
            sequence: record.sequence,
            event_id: entry.event_id.to_string(),
            r#type: entry.type_name,
            category: category.into(),
            severity: entry.severity.into(),
            actor: actor(&entry.actor),
            resource_kind,
            resource_id: resource_id.map(|id| id.to_string()).unwrap_or_default(),
            occur_time: Some(timestamp(entry.occurred_at)),
            record_time: Some(timestamp(record.recorded_at)),
            summary,
            headers,
            payload: entry.body.into(),
            hash: record.hash.to_vec(),
        }
    }
}

/// Nobody, when no one was verified.
fn actor(actor: &Actor) -> Option<common::Actor> {
    let r#type = match actor {
        Actor::User(_) => common::ActorType::User,
        Actor::Service(_) => common::ActorType::Service,
    };
    let id = actor.id();
    (!id.is_empty()).then(|| common::Actor {
        r#type: r#type.into(),
        id: id.to_owned(),
    })
}

/// A tenant's id, or `none`.
pub(super) fn tenant_text(tenant: TenantId) -> String {
    if tenant == TenantId::NONE {
        "none".to_owned()
    } else {
        tenant.to_string()
    }
}

impl From<Parties> for pb::CrossTenantParties {
    fn from(parties: Parties) -> Self {
        Self {
            offender_tenant_id: tenant_text(parties.offender_tenant),
            offender: actor(&parties.offender),
            victim_tenant_id: parties.victim_tenant.map(tenant_text).unwrap_or_default(),
        }
    }
}

impl From<OperatorRecord> for pb::TenantRecord {
    fn from(listed: OperatorRecord) -> Self {
        Self {
            tenant_id: tenant_text(listed.record.tenant),
            operator_only: listed.record.log.is_operator_only(),
            record: Some(listed.record.into()),
            parties: listed.parties.map(Into::into),
        }
    }
}

impl From<OperatorAlert> for pb::TenantAlert {
    fn from(listed: OperatorAlert) -> Self {
        Self {
            tenant_id: tenant_text(listed.tenant),
            alert: Some(listed.alert.into()),
            parties: listed.parties.map(Into::into),
        }
    }
}

impl From<Alert> for pb::Alert {
    fn from(alert: Alert) -> Self {
        let state = if alert.acknowledged.is_some() {
            pb::AlertState::Acknowledged
        } else {
            pb::AlertState::Open
        };
        let delivery_state = match alert.delivery {
            DeliveryState::Pending => pb::AlertDeliveryState::Pending,
            DeliveryState::Delivered => pb::AlertDeliveryState::Delivered,
            DeliveryState::NotConfigured => pb::AlertDeliveryState::NotConfigured,
        };
        let by = alert.acknowledged.as_ref();
        Self {
            id: alert.id.to_string(),
            rule: alert.rule.clone(),
            severity: i32::from(alert.severity),
            state: state.into(),
            title: alert.title.clone(),
            description: alert.description.clone(),
            occurrences: alert.occurrences,
            first_occur_time: Some(timestamp(alert.first_at)),
            last_occur_time: Some(timestamp(alert.last_at)),
            acknowledged_by: by
                .and_then(|by| actor(&Actor::from_parts(&by.actor_kind, &by.actor_id))),
            acknowledge_time: by.map(|by| timestamp(by.at)),
            acknowledge_note: by.map(|by| by.note.clone()).unwrap_or_default(),
            delivery_state: delivery_state.into(),
            etag: change::etag(alert.revision),
            create_time: Some(timestamp(alert.created_at)),
            update_time: Some(timestamp(alert.updated_at)),
        }
    }
}
