//! The model: an entry made of an event, and the record that it becomes by its place in a log. Pure.
//!
//! Invariant: a record keeps its event whole, so that the event can be published again as it was.

use kit::TenantId;
use kit::ctx::Actor;
use kit::events::{self, Event, Stream};
use prost::Message;
use prost::bytes::Bytes;
use proto::common::v1::{ResourceNotFound, Severity};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Which of a tenant's two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Log {
    /// What the people of the tenant read.
    Tenant,
    /// What concerns the tenant and only the operator of the deployment may know.
    Operator,
}

impl Log {
    /// As the column `operator_only` has it.
    pub fn is_operator_only(self) -> bool {
        self == Self::Operator
    }

    /// Reads the column back.
    pub fn from_operator_only(operator_only: bool) -> Self {
        if operator_only {
            Self::Operator
        } else {
            Self::Tenant
        }
    }
}

/// Which stream an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Category {
    /// A change of the firm's own resources.
    Domain,
    /// A refusal or another security event.
    Security,
}

impl Category {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Security => "security",
        }
    }

    /// Reads the column back.
    pub fn from_text(text: &str) -> Self {
        if text == "domain" {
            Self::Domain
        } else {
            Self::Security
        }
    }
}

/// What an event happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The singular noun: `project`.
    pub kind: String,
    /// None when the kind alone is known.
    pub id: Option<Uuid>,
}

/// An event before it has its place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id of the record to be.
    pub id: Uuid,
    /// `ce-id`.
    pub event_id: Uuid,
    /// `ce-type`.
    pub type_name: String,
    /// Which stream it came from.
    pub category: Category,
    /// How much it asks for attention.
    pub severity: Severity,
    /// Who acted; a user without an id is nobody that was verified.
    pub actor: Actor,
    /// The noun of the service that emitted it.
    pub source: String,
    /// `ce-subject`.
    pub aggregate_id: Uuid,
    /// `ce-sequence`.
    pub version: i64,
    /// What it happened to.
    pub resource: Option<Resource>,
    /// `ce-time`.
    pub occurred_at: OffsetDateTime,
    /// `ce-traceparent`.
    pub traceparent: Option<String>,
    /// The encoded message.
    pub body: Bytes,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose log.
    pub tenant: TenantId,
    /// Which of its logs.
    pub log: Log,
    /// 1, 2, 3, without gaps.
    pub sequence: i64,
    /// When it was appended.
    pub recorded_at: OffsetDateTime,
    /// Chains it to the record before it.
    pub hash: [u8; 32],
    /// The event.
    pub entry: Entry,
}

/// Which records a reader asks for. What is none does not choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Of events at this instant or later.
    pub from: Option<OffsetDateTime>,
    /// Of events before this instant.
    pub until: Option<OffsetDateTime>,
    /// Of this category.
    pub category: Option<Category>,
    /// Of this severity or a worse one, as stored.
    pub min_severity: Option<i16>,
    /// Of this type.
    pub type_name: Option<String>,
    /// Of this actor.
    pub actor_id: Option<String>,
    /// Of this kind of resource.
    pub resource_kind: Option<String>,
    /// Of this resource.
    pub resource_id: Option<Uuid>,
}

/// Every security event has its severity here, whatever else is in it.
#[derive(Clone, PartialEq, Message)]
struct SecurityEvent {
    #[prost(enumeration = "Severity", tag = "1")]
    severity: i32,
}

impl Entry {
    /// The entry of an event of `stream`. An event whose body does not decode is recorded as it came, for someone to
    /// look at.
    pub fn of(id: Uuid, stream: Stream, event: &Event) -> Self {
        let (category, severity, resource) = match stream {
            Stream::Domain => {
                let kind = kind_of(&event.type_name).unwrap_or(&event.noun).to_owned();
                (
                    Category::Domain,
                    Severity::Info,
                    Some(Resource {
                        kind,
                        id: Some(event.aggregate_id),
                    }),
                )
            }
            Stream::Security => (Category::Security, severity_of(&event.body), missed(event)),
        };
        Self {
            id,
            event_id: event.id,
            type_name: event.type_name.clone(),
            category,
            severity,
            actor: event.actor.clone(),
            source: event.noun.clone(),
            aggregate_id: event.aggregate_id,
            version: event.version,
            resource,
            occurred_at: event.occurred_at,
            traceparent: event.traceparent.clone(),
            body: event.body.clone(),
        }
    }

    /// The headers of the event in `tenant`, as they were.
    pub fn headers(&self, tenant: TenantId) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", self.event_id.to_string()),
            ("ce-type", self.type_name.clone()),
            ("ce-source", events::source(&self.source)),
            ("ce-subject", self.aggregate_id.to_string()),
            (
                "ce-time",
                self.occurred_at.format(&Rfc3339).unwrap_or_default(),
            ),
            ("ce-tenantid", tenant.to_string()),
            ("ce-sequence", self.version.to_string()),
            ("ce-authtype", self.actor.kind().to_owned()),
            ("ce-authid", self.actor.id().to_owned()),
            ("Content-Type", "application/protobuf".to_owned()),
        ];
        if let Some(traceparent) = &self.traceparent {
            headers.push(("ce-traceparent", traceparent.clone()));
        }
        headers
    }
}

/// The kind of aggregate that a domain event of the contract tells of; none for a type that is not known yet.
pub fn kind_of(type_name: &str) -> Option<&'static str> {
    let (package, message) = type_name.rsplit_once('.')?;
    Some(match (package, message) {
        ("catalyst.tenants.v1", _) => "tenant",
        ("catalyst.consultants.v1", _) => "consultant",
        ("catalyst.projects.v1", "ConsultantAssigned" | "ConsultantUnassigned") => "assignment",
        ("catalyst.projects.v1", _) if message.starts_with("Client") => "client",
        ("catalyst.projects.v1", _) if message.starts_with("Project") => "project",
        ("catalyst.time_entries.v1", _) => "time_entry",
        ("catalyst.audit.v1", _) => "alert",
        _ => return None,
    })
}

/// What cannot be read, or says nothing, asks for a look in working hours.
fn severity_of(body: &Bytes) -> Severity {
    let read = SecurityEvent::decode(body.clone()).ok();
    read.and_then(|event| Severity::try_from(event.severity).ok())
        .filter(|severity| *severity != Severity::Unspecified)
        .unwrap_or(Severity::Medium)
}

/// Of all security events, a miss alone names a resource.
fn missed(event: &Event) -> Option<Resource> {
    let miss = event.decode::<ResourceNotFound>()?.ok()?;
    Some(Resource {
        id: Uuid::try_parse(&miss.resource_id).ok(),
        kind: miss.kind,
    })
}

#[cfg(test)]
mod tests {
    use prost::Name;
    use proto::common::v1::PermissionDenied;

    use super::*;

    fn event(type_name: &str, noun: &str, body: Vec<u8>) -> Event {
        Event {
            id: Uuid::from_u128(1),
            tenant: TenantId::new(Uuid::from_u128(2)),
            type_name: type_name.to_owned(),
            noun: noun.to_owned(),
            aggregate_id: Uuid::from_u128(3),
            version: 4,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            actor: Actor::User("kim".to_owned()),
            traceparent: None,
            subject: String::new(),
            body: body.into(),
        }
    }

    fn entry(stream: Stream, event: &Event) -> Entry {
        Entry::of(Uuid::from_u128(9), stream, event)
    }

    #[test]
    fn a_domain_event_is_of_its_aggregate_and_asks_for_no_attention() {
        let event = event(
            "catalyst.projects.v1.ConsultantAssigned",
            "projects",
            Vec::new(),
        );
        let entry = entry(Stream::Domain, &event);
        let assignment = Resource {
            kind: "assignment".to_owned(),
            id: Some(event.aggregate_id),
        };
        assert_eq!(
            (entry.severity, entry.resource),
            (Severity::Info, Some(assignment))
        );
    }

    #[test]
    fn a_security_event_says_itself_how_severe_it_is() {
        let denied = PermissionDenied {
            severity: Severity::Low.into(),
            permission: "p".to_owned(),
            method: "m".to_owned(),
        };
        let event = event(
            &PermissionDenied::full_name(),
            "projects",
            denied.encode_to_vec(),
        );
        let entry = entry(Stream::Security, &event);
        assert_eq!((entry.severity, entry.resource), (Severity::Low, None));
    }

    #[test]
    fn a_miss_is_about_the_resource_that_was_named() {
        let named = Uuid::from_u128(77);
        let miss = ResourceNotFound {
            severity: Severity::Low.into(),
            kind: "project".to_owned(),
            resource_id: named.to_string(),
            method: "m".to_owned(),
        };
        let event = event(
            &ResourceNotFound::full_name(),
            "projects",
            miss.encode_to_vec(),
        );
        let resource = entry(Stream::Security, &event).resource;
        assert_eq!(
            resource,
            Some(Resource {
                kind: "project".to_owned(),
                id: Some(named)
            })
        );
    }

    #[test]
    fn a_security_event_that_cannot_be_read_is_kept_and_asks_for_a_look() {
        for body in [vec![0xff; 9], Vec::new(), vec![8, 99]] {
            let event = event(&ResourceNotFound::full_name(), "projects", body.clone());
            let entry = entry(Stream::Security, &event);
            assert_eq!(
                (entry.severity, &entry.body[..]),
                (Severity::Medium, &body[..])
            );
        }
    }

    #[test]
    fn every_domain_event_of_the_contract_has_a_kind() {
        let pool = prost_reflect::DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        let events = pool
            .all_messages()
            .filter(|message| message.parent_file().name().ends_with("/events.proto"))
            .map(|message| message.full_name().to_owned());
        let unknown: Vec<String> = events.filter(|name| kind_of(name).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
