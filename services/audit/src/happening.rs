//! What alert rules and the sieve of floods look at in an event, whatever log it is for. Pure.
//!
//! Invariant: for an attempt across tenants it is the offender who acted, whichever side's entry is written; only keys
//! made from it by a hash come near the victim's rows.

use kit::TenantId;
use kit::ctx::Actor;
use prost::bytes::Bytes;
use prost::{Message, Name};
use proto::common::v1 as security;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::record::{Category, Entry};

/// One event, by what can be told apart in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// The full name of its message.
    pub type_name: String,
    /// Which stream it came from.
    pub category: Category,
    /// How much it asks for attention.
    pub severity: security::Severity,
    /// The tenant of whoever acted.
    pub tenant: TenantId,
    /// Whoever acted; a user without an id is nobody that was verified.
    pub actor: Actor,
    /// The kind of resource; empty for none.
    pub kind: String,
    /// Why it was refused, without the prefix of its enum: `BAD_SIGNATURE`; empty when the event gives no reason.
    pub reason: String,
    /// The peer of callers that were not verified; empty for others.
    pub source_address: String,
    /// The RPC; empty when the event names none.
    pub method: String,
    /// The calls that it stands for, 1 or more.
    pub calls: i64,
    /// `ce-id`.
    pub event_id: Uuid,
    /// The trace that led to it.
    pub traceparent: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}

/// What the body of a security event says beside its severity.
#[derive(Default)]
struct Details {
    reason: String,
    source_address: String,
    method: String,
    calls: i64,
}

impl Happening {
    /// An entry of a tenant whose own principal acted.
    pub fn of_entry(tenant: TenantId, entry: &Entry) -> Self {
        let details = match entry.category {
            Category::Domain => Details::default(),
            Category::Security => details(&entry.type_name, &entry.body),
        };
        Self {
            type_name: entry.type_name.clone(),
            category: entry.category,
            severity: entry.severity,
            tenant,
            actor: entry.actor.clone(),
            kind: entry
                .resource
                .as_ref()
                .map(|it| it.kind.clone())
                .unwrap_or_default(),
            reason: details.reason,
            source_address: details.source_address,
            method: details.method,
            calls: details.calls.max(1),
            event_id: entry.event_id,
            traceparent: entry.traceparent.clone(),
            at: entry.occurred_at,
        }
    }

    /// An attempt across tenants, as its victim has it.
    pub fn of_attempt(attempt: &Attempt) -> Self {
        Self {
            type_name: security::CrossTenantAccessAttempted::full_name(),
            category: Category::Security,
            severity: security::Severity::High,
            tenant: attempt.offender,
            actor: attempt.actor.clone(),
            kind: attempt.kind.clone(),
            reason: String::new(),
            source_address: String::new(),
            method: attempt.method.clone(),
            calls: 1,
            event_id: attempt.event_id(),
            traceparent: attempt.traceparent.clone(),
            at: attempt.occurred_at,
        }
    }

    /// Names whoever acted, for hashing.
    pub fn principal(&self) -> String {
        format!("{}/{}/{}", self.tenant, self.actor.kind(), self.actor.id())
    }
}

fn details(type_name: &str, body: &Bytes) -> Details {
    let Some(message) = type_name.strip_prefix("catalyst.common.v1.") else {
        return Details::default();
    };
    match message {
        security::AuthenticationFailed::NAME => {
            let event: security::AuthenticationFailed = read(body);
            Details {
                reason: word(event.failure().as_str_name(), "AUTHENTICATION_FAILURE_"),
                source_address: event.source_address,
                calls: event.count,
                ..Details::default()
            }
        }
        security::ProtocolAbused::NAME => {
            let event: security::ProtocolAbused = read(body);
            Details {
                reason: word(event.abuse().as_str_name(), "PROTOCOL_ABUSE_"),
                source_address: event.source_address,
                calls: event.count,
                ..Details::default()
            }
        }
        security::UnknownMethodCalled::NAME => {
            let event: security::UnknownMethodCalled = read(body);
            Details {
                source_address: event.source_address,
                calls: event.count,
                ..Details::default()
            }
        }
        security::RateLimited::NAME => {
            let event: security::RateLimited = read(body);
            Details {
                method: event.method,
                calls: event.count,
                ..Details::default()
            }
        }
        security::TenantMetadataTampered::NAME => {
            let event: security::TenantMetadataTampered = read(body);
            let reason = word(event.problem().as_str_name(), "TENANT_METADATA_PROBLEM_");
            of_method(event.method, reason)
        }
        security::ServiceIdentityMisused::NAME => {
            let event: security::ServiceIdentityMisused = read(body);
            let reason = word(event.problem().as_str_name(), "SERVICE_IDENTITY_PROBLEM_");
            of_method(event.method, reason)
        }
        security::EventRejected::NAME => {
            let event: security::EventRejected = read(body);
            let reason = word(event.reason().as_str_name(), "EVENT_REJECTION_REASON_");
            of_method(String::new(), reason)
        }
        security::TenantMismatchDetected::NAME => {
            let event: security::TenantMismatchDetected = read(body);
            of_method(event.method, String::new())
        }
        security::PermissionDenied::NAME => {
            let event: security::PermissionDenied = read(body);
            of_method(event.method, String::new())
        }
        security::ResourceNotFound::NAME => {
            let event: security::ResourceNotFound = read(body);
            of_method(event.method, String::new())
        }
        security::PageTokenTampered::NAME => {
            let event: security::PageTokenTampered = read(body);
            of_method(event.method, String::new())
        }
        security::InputRejected::NAME => {
            let event: security::InputRejected = read(body);
            of_method(event.method, String::new())
        }
        security::SuspendedTenantRefused::NAME => {
            let event: security::SuspendedTenantRefused = read(body);
            of_method(event.method, String::new())
        }
        _ => Details::default(),
    }
}

/// A body that does not decode says nothing; its event counts all the same.
fn read<M: Message + Default>(body: &Bytes) -> M {
    M::decode(body.clone()).unwrap_or_default()
}

fn of_method(method: String, reason: String) -> Details {
    Details {
        reason,
        method,
        ..Details::default()
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_owned()
}
