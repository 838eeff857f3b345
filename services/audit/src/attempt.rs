//! A miss that turned out to be another tenant's id: what either side's log says of it. Pure.
//!
//! Invariants: neither entry names the other tenant or its people, and the offender's is for the operator alone, since
//! to its own tenant it would say that the id exists. Both have the same event id, made from the miss's, so that to
//! judge a miss again changes nothing.

use kit::TenantId;
use kit::ctx::Actor;
use prost::{Message, Name};
use proto::common::v1::{CrossTenantAccessAttempted, CrossTenantPerspective, Severity};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::record::{Category, Entry, Resource};

/// The name of this service in what it writes itself.
pub const SERVICE: &str = "audit";

/// The space of ids that are made from others.
const NAMES: Uuid = Uuid::from_u128(0x5d0c_6d5e_0f6b_5c51_9a3e_7b1f_2c84_a6e0);

/// An id that is always the same for the same name. The name cannot be read from it.
pub fn derived_id(purpose: &str, name: &[u8]) -> Uuid {
    Uuid::new_v5(&Uuid::new_v5(&NAMES, purpose.as_bytes()), name)
}

/// A caller of one tenant who named another tenant's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The tenant of the caller.
    pub offender: TenantId,
    /// The tenant that has the resource.
    pub victim: TenantId,
    /// The caller.
    pub actor: Actor,
    /// `ce-id` of the `ResourceNotFound`.
    pub miss_id: Uuid,
    /// What the caller took it for.
    pub named_kind: String,
    /// What it is.
    pub kind: String,
    /// Its id.
    pub resource_id: Uuid,
    /// The RPC that was called.
    pub method: String,
    /// When.
    pub occurred_at: OffsetDateTime,
    /// The trace of the call.
    pub traceparent: Option<String>,
}

impl Attempt {
    /// The event id of both entries.
    pub fn event_id(&self) -> Uuid {
        derived_id("attempt", self.miss_id.as_bytes())
    }

    /// For the operator's log of the offender's tenant.
    pub fn offenders_entry(&self, record_id: Uuid) -> Entry {
        let body = CrossTenantAccessAttempted {
            severity: Severity::High.into(),
            perspective: CrossTenantPerspective::Offender.into(),
            kind: self.named_kind.clone(),
            resource_id: self.resource_id.to_string(),
            method: self.method.clone(),
            miss_event_id: self.miss_id.to_string(),
        };
        let traceparent = self.traceparent.clone();
        self.entry(
            record_id,
            self.actor.clone(),
            &self.named_kind,
            traceparent,
            &body,
        )
    }

    /// For the log of the tenant that has the resource. Even the trace of the call stays out of it.
    pub fn victims_entry(&self, record_id: Uuid) -> Entry {
        let body = CrossTenantAccessAttempted {
            severity: Severity::High.into(),
            perspective: CrossTenantPerspective::Victim.into(),
            kind: self.kind.clone(),
            resource_id: self.resource_id.to_string(),
            method: String::new(),
            miss_event_id: String::new(),
        };
        self.entry(
            record_id,
            Actor::Service(SERVICE.to_owned()),
            &self.kind,
            None,
            &body,
        )
    }

    fn entry(
        &self,
        id: Uuid,
        actor: Actor,
        kind: &str,
        traceparent: Option<String>,
        body: &CrossTenantAccessAttempted,
    ) -> Entry {
        Entry {
            id,
            event_id: self.event_id(),
            type_name: CrossTenantAccessAttempted::full_name(),
            category: Category::Security,
            severity: Severity::High,
            actor,
            source: SERVICE.to_owned(),
            aggregate_id: self.event_id(),
            version: 1,
            resource: Some(Resource {
                kind: kind.to_owned(),
                id: Some(self.resource_id),
            }),
            occurred_at: self.occurred_at,
            traceparent,
            body: body.encode_to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        Attempt {
            offender: TenantId::new(Uuid::from_u128(0xacce)),
            victim: TenantId::new(Uuid::from_u128(0x0b17)),
            actor: Actor::User("mallory".to_owned()),
            miss_id: Uuid::from_u128(0x3155),
            named_kind: "client".to_owned(),
            kind: "project".to_owned(),
            resource_id: Uuid::from_u128(0x1d),
            method: "catalyst.projects.v1.ProjectService/GetProject".to_owned(),
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        }
    }

    #[test]
    fn neither_side_learns_who_the_other_is() {
        let attempt = attempt();
        let victims = format!("{:?}", attempt.victims_entry(Uuid::nil()));
        let offender = attempt.offender.to_string();
        for secret in [
            "mallory",
            &offender,
            "GetProject",
            "4bf92f",
            &attempt.miss_id.to_string(),
        ] {
            assert!(!victims.contains(secret), "{secret} in {victims}");
        }
        let offenders = format!("{:?}", attempt.offenders_entry(Uuid::nil()));
        assert!(!offenders.contains(&attempt.victim.to_string()));
        // Not even what the resource really is.
        assert!(!offenders.contains("kind: \"project\""));
    }

    #[test]
    fn judging_a_miss_again_gives_the_same_event() {
        let (first, again) = (attempt(), attempt());
        assert_eq!(
            first.offenders_entry(Uuid::nil()),
            again.offenders_entry(Uuid::nil())
        );
        assert_eq!(
            first.offenders_entry(Uuid::nil()).event_id,
            again.victims_entry(Uuid::nil()).event_id
        );
        let other = Attempt {
            miss_id: Uuid::from_u128(0x3156),
            ..attempt()
        };
        assert_ne!(first.event_id(), other.event_id());
    }
}
