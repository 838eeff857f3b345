//! Dead letters: what a consumer sets aside, with the reason, and what it does not take for an event.
//!
//! Invariant: a message leaves its consumer only once the dead-letter stream has it, and a rejection is on record first.

use async_nats::jetstream::{AckKind, Message};
use opentelemetry::KeyValue;
use proto::common::v1 as security;

use super::Consuming;
use crate::ctx::Actor;
use crate::error::chain;
use crate::events::Distrust;
use crate::ids::TenantId;
use crate::telemetry::METRICS;

/// Characters of a text of the publisher's that are put on record.
const QUOTED: usize = 512;
/// Bytes of a subject under which an event is set aside; the contract's own are shorter than 128.
const LONGEST_SUBJECT: usize = 1_024;

impl Consuming {
    /// A message that is no event, or not the event it claims to be: evidence first, then aside.
    pub(super) async fn reject(&self, message: &Message, distrust: Distrust) {
        let header = |name: &str| {
            message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
                .map(|value| quoted(value.as_str()))
                .unwrap_or_default()
        };
        let (reason, severity) = match distrust {
            Distrust::Tenant => (
                security::EventRejectionReason::TenantDisagrees,
                security::Severity::High,
            ),
            Distrust::Source => (
                security::EventRejectionReason::SourceDisagrees,
                security::Severity::High,
            ),
            Distrust::Type => (
                security::EventRejectionReason::TypeDisagrees,
                security::Severity::High,
            ),
            Distrust::Envelope => (
                security::EventRejectionReason::EnvelopeInvalid,
                security::Severity::Medium,
            ),
            Distrust::Body => (
                security::EventRejectionReason::BodyInvalid,
                security::Severity::Medium,
            ),
        };
        let rejected = security::EventRejected {
            severity: severity.into(),
            reason: reason.into(),
            consumer: self.service.to_owned(),
            subject: quoted(&message.subject),
            event_id: header("ce-id"),
            event_type: header("ce-type"),
            event_source: header("ce-source"),
        };
        tracing::error!(consumer = self.subscription.durable, subject = %message.subject, reason = %distrust, "an event was rejected");
        let actor = Actor::Service(self.service.to_owned());
        if let Err(error) = self.security.record(TenantId::NONE, actor, &rejected).await {
            tracing::warn!(error = %chain(&error), "the rejection could not be recorded; the event comes again");
            return;
        }
        self.set_aside(message, &distrust.to_string()).await;
    }

    /// Moves a message to the dead-letter stream; it leaves this consumer only once it is stored there.
    pub(super) async fn set_aside(&self, message: &Message, reason: &str) {
        let mut headers = async_nats::HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
            let name = name.to_string();
            if name.starts_with("Nats-") {
                continue;
            }
            for value in values {
                headers.append(name.as_str(), value.as_str());
            }
        }
        headers.insert("dead-letter-reason", quoted(reason).as_str());
        headers.insert("dead-letter-consumer", self.subscription.durable);
        let subject = dead_letter_subject(self.service, &message.subject);
        match self
            .bus
            .request(subject, headers, message.payload.clone())
            .await
        {
            Ok(answer) if answer.error.is_none() && answer.stream.is_some() => {
                METRICS
                    .dead_letters
                    .add(1, &[KeyValue::new("consumer", self.subscription.durable)]);
                if let Err(error) = message.ack_with(AckKind::Term).await {
                    tracing::debug!(error = %error, "a dead letter was not taken off its consumer and will be set aside again");
                }
            }
            Ok(_) => tracing::error!(
                consumer = self.subscription.durable,
                "the dead-letter stream refused a message"
            ),
            Err(error) => {
                tracing::warn!(consumer = self.subscription.durable, error = %error, "the dead-letter stream cannot be reached");
            }
        }
    }
}

/// Text of whoever published an event, fit for a record: bounded, and without what ends a line or a text.
fn quoted(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { '_' } else { c });
    visible.take(QUOTED).collect()
}

/// Where a message is set aside. A subject that is as long as a line of the broker's protocol may be does not fit
/// into a longer one: the broker would end the connection.
fn dead_letter_subject(service: &str, subject: &str) -> String {
    if subject.len() <= LONGEST_SUBJECT {
        format!("dead_letter.{service}.{subject}")
    } else {
        format!("dead_letter.{service}.overlong")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_publisher_wrote_is_put_on_record_bounded_and_on_one_line() {
        assert_eq!(quoted("catalyst/\0x\r\n"), "catalyst/_x__");
        assert_eq!(quoted(&"ä".repeat(10_000)).chars().count(), QUOTED);
    }

    #[test]
    fn a_message_is_set_aside_under_its_subject_unless_that_is_overlong() {
        let subject = "catalyst.0190.projects.project_created";
        assert_eq!(
            dead_letter_subject("audit", subject),
            "dead_letter.audit.catalyst.0190.projects.project_created"
        );
        let overlong = format!("catalyst.{}.projects.x", "a".repeat(4_000));
        assert_eq!(
            dead_letter_subject("audit", &overlong),
            "dead_letter.audit.overlong"
        );
    }
}
