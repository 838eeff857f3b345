//! What happened, in one sentence for people, without personal data. Pure.
//!
//! Made when a record is read and not stored: the sentence may become better, the record never changes.

use prost::bytes::Bytes;
use prost::{Message, Name};
use proto::common::v1 as security;

use crate::record::{Category, Entry};

/// The sentence of an entry. A body that does not decode, or a type that is not known, still has one.
pub fn summary(entry: &Entry) -> String {
    match entry.category {
        Category::Domain => domain(&entry.type_name),
        Category::Security => refusal(&entry.type_name, &entry.body).unwrap_or_else(|| {
            format!(
                "A security event was recorded: {}.",
                words(&entry.type_name).join(" ")
            )
        }),
    }
}

/// `catalyst.time_entries.v1.TimeEntryCreated` was: a time entry was created.
fn domain(type_name: &str) -> String {
    let words = words(type_name);
    let Some((what_was_done, noun)) = words.split_last().filter(|(_, noun)| !noun.is_empty())
    else {
        return format!("An event was recorded: {}.", words.join(" "));
    };
    let noun = noun.join(" ");
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "An"
    } else {
        "A"
    };
    format!("{article} {noun} was {what_was_done}.")
}

/// The words of a message's name, in lower case.
fn words(type_name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in type_name.rsplit('.').next().unwrap_or_default().chars() {
        match words.last_mut() {
            Some(word) if !c.is_ascii_uppercase() => word.push(c),
            _ => words.push(c.to_ascii_lowercase().to_string()),
        }
    }
    words
}

fn refusal(type_name: &str, body: &Bytes) -> Option<String> {
    let message = type_name.strip_prefix("catalyst.common.v1.")?;
    Some(match message {
        security::TenantMismatchDetected::NAME => {
            let event: security::TenantMismatchDetected = decode(body)?;
            format!(
                "A call of {} named a tenant other than the one of its token.",
                event.method
            )
        }
        security::TenantMetadataTampered::NAME => {
            let event: security::TenantMetadataTampered = decode(body)?;
            let problem = word(event.problem().as_str_name(), "TENANT_METADATA_PROBLEM_");
            format!("A call of {} had {problem} tenant metadata.", event.method)
        }
        security::PermissionDenied::NAME => {
            let event: security::PermissionDenied = decode(body)?;
            format!(
                "A call of {} was refused for want of the permission {}.",
                event.method, event.permission
            )
        }
        security::ResourceNotFound::NAME => {
            let event: security::ResourceNotFound = decode(body)?;
            format!(
                "A call of {} named a {} that does not exist.",
                event.method,
                event.kind.replace('_', " ")
            )
        }
        security::PageTokenTampered::NAME => {
            let event: security::PageTokenTampered = decode(body)?;
            format!(
                "A call of {} had a page token that was not made for it.",
                event.method
            )
        }
        security::InputRejected::NAME => {
            let event: security::InputRejected = decode(body)?;
            format!(
                "A call of {} had a filter that is none: {}.",
                event.method,
                event.fields.join(", ")
            )
        }
        security::RateLimited::NAME => {
            let event: security::RateLimited = decode(body)?;
            format!(
                "{} of {} for their number.",
                calls(event.count),
                event.method
            )
        }
        security::ServiceIdentityMisused::NAME => {
            let event: security::ServiceIdentityMisused = decode(body)?;
            let problem = word(event.problem().as_str_name(), "SERVICE_IDENTITY_PROBLEM_");
            format!(
                "A call of {} came from an identity that may not make it: {problem}.",
                event.method
            )
        }
        security::SuspendedTenantRefused::NAME => {
            let event: security::SuspendedTenantRefused = decode(body)?;
            format!(
                "A call of {} was refused because the tenant is not active.",
                event.method
            )
        }
        security::EventRejected::NAME => {
            let event: security::EventRejected = decode(body)?;
            let reason = word(event.reason().as_str_name(), "EVENT_REJECTION_REASON_");
            format!(
                "The consumer of {} rejected an event: {reason}.",
                event.consumer
            )
        }
        security::AuditLogDiverged::NAME => {
            let event: security::AuditLogDiverged = decode(body)?;
            format!(
                "A log of {} ends at {} and does not go on from record {}, which was signed.",
                event.log_tenant_id, event.found_sequence, event.signed_sequence
            )
        }
        _ => return of_audit(message, body),
    })
}

/// What audit itself writes into a log.
fn of_audit(message: &str, body: &Bytes) -> Option<String> {
    Some(match message {
        security::SecurityEventsAggregated::NAME => {
            let event: security::SecurityEventsAggregated = decode(body)?;
            let words = words(&event.r#type).join(" ");
            format!(
                "{} more events of one kind in one window: {words}.",
                event.count
            )
        }
        security::CrossTenantAccessAttempted::NAME => {
            let event: security::CrossTenantAccessAttempted = decode(body)?;
            let kind = event.kind.replace('_', " ");
            match event.perspective() {
                security::CrossTenantPerspective::Offender => {
                    format!(
                        "A call of {} named a {kind} by the id of another tenant's resource.",
                        event.method
                    )
                }
                _ => format!(
                    "A caller of another tenant named this {kind} and was told that it does not exist."
                ),
            }
        }
        _ => return refusal_of_a_source(message, body),
    })
}

/// What was refused before anyone was verified: only an address stands behind it.
fn refusal_of_a_source(message: &str, body: &Bytes) -> Option<String> {
    Some(match message {
        security::AuthenticationFailed::NAME => {
            let event: security::AuthenticationFailed = decode(body)?;
            let failure = word(event.failure().as_str_name(), "AUTHENTICATION_FAILURE_");
            format!(
                "{} from one address, for their token: {failure}.",
                calls(event.count)
            )
        }
        security::ProtocolAbused::NAME => {
            let event: security::ProtocolAbused = decode(body)?;
            let abuse = word(event.abuse().as_str_name(), "PROTOCOL_ABUSE_");
            let times = if event.count == 1 { "time" } else { "times" };
            format!(
                "One address broke the rules of the transport, {} {times}: {abuse}.",
                event.count
            )
        }
        security::UnknownMethodCalled::NAME => {
            let event: security::UnknownMethodCalled = decode(body)?;
            format!(
                "{} from one address, for a method that is not served.",
                calls(event.count)
            )
        }
        _ => return None,
    })
}

fn decode<M: Message + Default>(body: &Bytes) -> Option<M> {
    M::decode(body.clone()).ok()
}

/// `AUTHENTICATION_FAILURE_BAD_SIGNATURE` without its prefix, as words.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix)
        .to_lowercase()
        .replace('_', " ")
}

fn calls(count: i64) -> String {
    if count == 1 {
        "1 call was refused".to_owned()
    } else {
        format!("{count} calls were refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_event_reads_as_a_sentence() {
        assert_eq!(
            domain("catalyst.time_entries.v1.TimeEntryCreated"),
            "A time entry was created."
        );
        assert_eq!(
            domain("catalyst.audit.v1.AlertRaised"),
            "An alert was raised."
        );
        assert_eq!(
            domain("catalyst.projects.v1.Archived"),
            "An event was recorded: archived."
        );
        assert_eq!(domain(""), "An event was recorded: .");
    }

    #[test]
    fn a_refusal_says_what_was_refused_and_no_address() {
        let failed = security::AuthenticationFailed {
            severity: security::Severity::Medium.into(),
            failure: security::AuthenticationFailure::BadSignature.into(),
            source_address: "192.0.2.7".to_owned(),
            count: 12,
            window_start: None,
        };
        let text = refusal(
            &security::AuthenticationFailed::full_name(),
            &failed.encode_to_vec().into(),
        );
        assert_eq!(
            text.as_deref(),
            Some("12 calls were refused from one address, for their token: bad signature.")
        );
    }

    #[test]
    fn every_security_event_of_the_contract_has_a_sentence_of_its_own() {
        let pool = prost_reflect::DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        let file = pool
            .get_file_by_name("catalyst/common/v1/security_events.proto")
            .unwrap();
        for message in file.messages().filter(|message| message.name() != "Actor") {
            assert!(
                refusal(message.full_name(), &Bytes::new()).is_some(),
                "{}",
                message.full_name()
            );
        }
    }

    #[test]
    fn a_body_that_does_not_decode_has_a_sentence_as_well() {
        let broken = refusal(
            &security::PermissionDenied::full_name(),
            &vec![0xff; 9].into(),
        );
        assert_eq!(broken, None);
    }
}
