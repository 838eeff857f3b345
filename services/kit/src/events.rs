//! Events on their way out and in: the envelope, and the one function that builds subjects.
//!
//! The envelope is CloudEvents 1.0 in binary mode of the NATS binding: attributes in `ce-` headers, the protobuf
//! message as body. Invariant: a subject is made from a [`TenantId`] and the name of an event type, never from text
//! that a caller wrote.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use prost::{Message, Name};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::ctx::{Actor, Ctx};
use crate::ids::TenantId;
use crate::telemetry;

/// A stream of the deployment and the words that its subjects begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Domain events: published to `ingest.…`, stored and heard as `catalyst.…`.
    Domain,
    /// Security events: published to `ingest_security.…`, stored and heard as `security.…`.
    Security,
}

impl Stream {
    /// The stream's name on the broker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Domain => "CATALYST",
            Self::Security => "SECURITY",
        }
    }

    /// The first word of the subjects that services publish to.
    pub const fn ingest(self) -> &'static str {
        match self {
            Self::Domain => "ingest",
            Self::Security => "ingest_security",
        }
    }

    /// The first word of the subjects that subscribers hear.
    pub const fn heard(self) -> &'static str {
        match self {
            Self::Domain => "catalyst",
            Self::Security => "security",
        }
    }
}

/// The subject of an event: `<root>.<tenant>.<noun>.<event>` for domain events, `<root>.<tenant>.<event>` for
/// security events. `none` stands for the tenant of an event that no verified tenant is behind.
/// None for a type name that is no event of the contract.
pub fn subject(stream: Stream, root: &str, tenant: TenantId, type_name: &str) -> Option<String> {
    let (noun, event) = tokens(type_name)?;
    let tenant = tenant_token(tenant);
    Some(match stream {
        Stream::Domain => format!("{root}.{tenant}.{noun}.{event}"),
        Stream::Security => format!("{root}.{tenant}.{event}"),
    })
}

/// A tenant as subjects name it.
pub fn tenant_token(tenant: TenantId) -> String {
    if tenant == TenantId::NONE {
        "none".to_owned()
    } else {
        tenant.to_string()
    }
}

/// `catalyst.projects.v1.ProjectCreated` gives `projects` and `project_created`.
pub fn tokens(type_name: &str) -> Option<(&str, String)> {
    let mut parts = type_name.split('.');
    let (Some("catalyst"), Some(noun), Some(_version), Some(message), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return None;
    };
    // A subject has no wildcard, no space and no further level, whatever the name says.
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !is_word(noun) || !is_word(message) {
        return None;
    }
    let mut event = String::with_capacity(message.len() + 4);
    for (i, c) in message.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            event.push('_');
        }
        event.push(c.to_ascii_lowercase());
    }
    Some((noun, event))
}

/// An event that a transaction will emit.
#[derive(Clone, Debug)]
pub struct Emitted {
    pub(crate) event_id: Uuid,
    pub(crate) type_name: String,
    pub(crate) aggregate_id: Uuid,
    pub(crate) version: i64,
    pub(crate) occurred_at: OffsetDateTime,
    pub(crate) actor: Actor,
    pub(crate) traceparent: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Emitted {
    /// The event `body` of the aggregate `aggregate_id` at `version`, by the context's actor, now.
    /// Versions of one aggregate rise by one with each of its events.
    pub fn new<M: Message + Name>(ctx: &Ctx, aggregate_id: Uuid, version: i64, body: &M) -> Self {
        Self {
            event_id: ctx.clock().new_uuid(),
            type_name: M::full_name(),
            aggregate_id,
            version,
            occurred_at: ctx.now(),
            actor: ctx.actor().clone(),
            traceparent: telemetry::current_traceparent(),
            body: body.encode_to_vec(),
        }
    }
}

/// The `ce-source` of a service's events: `catalyst/projects`.
pub fn source(noun: &str) -> String {
    format!("catalyst/{noun}")
}

/// The headers of an event as CloudEvents attributes, with `Nats-Msg-Id` equal to `ce-id`.
pub(crate) fn headers(tenant: TenantId, noun: &str, event: &Emitted) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let id = event.event_id.to_string();
    let time = event.occurred_at.format(&Rfc3339).unwrap_or_default();
    put(&mut headers, "Nats-Msg-Id", id.as_str());
    put(&mut headers, "ce-specversion", "1.0");
    put(&mut headers, "ce-id", id);
    put(&mut headers, "ce-type", event.type_name.as_str());
    put(&mut headers, "ce-source", source(noun));
    put(&mut headers, "ce-subject", event.aggregate_id.to_string());
    put(&mut headers, "ce-time", time);
    put(&mut headers, "ce-tenantid", tenant.to_string());
    put(&mut headers, "ce-sequence", event.version);
    put(&mut headers, "ce-authtype", event.actor.kind());
    put(&mut headers, "ce-authid", header_safe(event.actor.id()));
    if let Some(traceparent) = &event.traceparent {
        put(&mut headers, "ce-traceparent", traceparent.as_str());
    }
    put(&mut headers, "Content-Type", "application/protobuf");
    headers
}

/// Sets a header whose name is a constant, which is then neither checked nor copied.
pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: impl Into<HeaderValue>) {
    headers.insert(HeaderName::from_static(name), value.into());
}

/// A subject claim is the issuer's text: a line break in it must not end the header.
fn header_safe(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '_' } else { c })
        .collect()
}

/// Why a message is not taken for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// A header that the envelope needs is missing or malformed.
    #[error("a header of the envelope is missing or malformed")]
    Envelope,
    /// The subject's tenant is not the envelope's.
    #[error("the subject's tenant is not the envelope's")]
    Tenant,
    /// The subject's noun does not belong to the envelope's source.
    #[error("the subject's noun is not the envelope's source")]
    Source,
    /// The subject's event is not the envelope's type.
    #[error("the subject's event is not the envelope's type")]
    Type,
    /// The body is not a message of the type.
    #[error("the body is not a message of the type")]
    Body,
}

/// An event as a consumer received it, its envelope verified against its subject.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ce-id`: the key of its effect.
    pub id: Uuid,
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// The full protobuf name of the body, `catalyst.projects.v1.ProjectCreated`.
    pub type_name: String,
    /// The noun of the service that emitted it, `projects`.
    pub noun: String,
    /// The aggregate that it tells of.
    pub aggregate_id: Uuid,
    /// The aggregate's version after the change.
    pub version: i64,
    /// When the change was made, by the emitting service's clock.
    pub occurred_at: OffsetDateTime,
    /// Who made the change.
    pub actor: Actor,
    /// The W3C trace context of the change.
    pub traceparent: Option<String>,
    /// The subject that it was stored under.
    pub subject: String,
    /// The protobuf message.
    pub body: Bytes,
}

impl Event {
    /// Reads and verifies a message of `stream`.
    pub fn read(
        stream: Stream,
        subject: &str,
        headers: Option<&HeaderMap>,
        body: Bytes,
    ) -> Result<Self, Distrust> {
        let headers = headers.ok_or(Distrust::Envelope)?;
        if !is_unambiguous(headers) {
            return Err(Distrust::Envelope);
        }
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let required = |name: &str| text(name).ok_or(Distrust::Envelope);
        let uuid = |name: &str| {
            required(name)?
                .parse::<Uuid>()
                .map_err(|_| Distrust::Envelope)
        };

        let tenant = TenantId::parse_strict(&required("ce-tenantid")?).ok_or(Distrust::Envelope)?;
        if required("ce-specversion")? != "1.0" {
            return Err(Distrust::Envelope);
        }
        // A replayed event has none.
        if text("Nats-Msg-Id").is_some_and(|id| Some(id) != text("ce-id")) {
            return Err(Distrust::Envelope);
        }
        let type_name = required("ce-type")?;
        let source_name = required("ce-source")?;
        let noun = source_name
            .strip_prefix("catalyst/")
            .ok_or(Distrust::Source)?
            .to_owned();
        let expected =
            self::subject(stream, stream.heard(), tenant, &type_name).ok_or(Distrust::Type)?;
        if expected != subject {
            return Err(disagreement(&expected, subject));
        }
        // Security events carry the noun of any service; domain events only of their own package.
        if stream == Stream::Domain
            && tokens(&type_name).map(|(package, _)| package) != Some(noun.as_str())
        {
            return Err(Distrust::Source);
        }
        Ok(Self {
            id: uuid("ce-id")?,
            tenant,
            noun,
            aggregate_id: uuid("ce-subject")?,
            version: required("ce-sequence")?
                .parse()
                .map_err(|_| Distrust::Envelope)?,
            occurred_at: OffsetDateTime::parse(&required("ce-time")?, &Rfc3339)
                .map_err(|_| Distrust::Envelope)?,
            actor: Actor::from_parts(&required("ce-authtype")?, &required("ce-authid")?),
            traceparent: text("ce-traceparent"),
            subject: subject.to_owned(),
            type_name,
            body,
        })
    }

    /// The body as `M`, if the event is of that type.
    pub fn decode<M: Message + Name + Default>(&self) -> Option<Result<M, Distrust>> {
        (self.type_name == M::full_name())
            .then(|| M::decode(self.body.clone()).map_err(|_| Distrust::Body))
    }
}

/// Whether every reader takes the same envelope from these headers: each attribute is there once, in the one spelling,
/// and says nothing that ends a line or a text.
fn is_unambiguous(headers: &HeaderMap) -> bool {
    headers.iter().all(|(name, values)| {
        let name: &[u8] = name.as_ref();
        let is_attribute = name
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"ce-"));
        let is_sound = || {
            !name.iter().any(u8::is_ascii_uppercase)
                && matches!(values.as_slice(), [value] if !value.as_str().contains(char::is_control))
        };
        !is_attribute || is_sound()
    })
}

/// Which token of a subject is not the expected one.
fn disagreement(expected: &str, found: &str) -> Distrust {
    let mut pairs = expected.split('.').zip(found.split('.')).skip(1);
    match pairs.position(|(expected, found)| expected != found) {
        Some(0) => Distrust::Tenant,
        Some(1) if expected.split('.').count() == 4 => Distrust::Source,
        _ => Distrust::Type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Clock;

    const CREATED: &str = "catalyst.projects.v1.ProjectCreated";

    fn tenant() -> TenantId {
        TenantId::new(Uuid::from_u128(0x0190_b5a4_9c3e_7e51_8f7a_2f4f_7a5b_6c7d))
    }

    fn emitted() -> Emitted {
        let clock = Clock::system();
        Emitted {
            event_id: clock.new_uuid(),
            type_name: CREATED.to_owned(),
            aggregate_id: clock.new_uuid(),
            version: 3,
            occurred_at: clock.now(),
            actor: Actor::User("kim\r\nce-tenantid: other".to_owned()),
            traceparent: None,
            body: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_subject_is_made_of_tenant_noun_and_event() {
        let expected = format!("ingest.{}.projects.project_created", tenant());
        assert_eq!(
            subject(Stream::Domain, "ingest", tenant(), CREATED),
            Some(expected)
        );
        let none = subject(
            Stream::Security,
            "security",
            TenantId::NONE,
            "catalyst.common.v1.AuthenticationFailed",
        );
        assert_eq!(none.as_deref(), Some("security.none.authentication_failed"));
        assert_eq!(
            subject(Stream::Domain, "ingest", tenant(), "google.protobuf.Any"),
            None
        );
    }

    proptest::proptest! {
        #[test]
        fn a_subject_has_its_levels_and_nothing_else_whatever_tenant_and_type_are(
            tenant: u128, noun in ".*", message in ".*", text in "[a-z0-9.*> \\r\\n-]{0,40}",
        ) {
            let tenant = TenantId::new(Uuid::from_u128(tenant));
            for type_name in [CREATED.to_owned(), format!("catalyst.{noun}.v1.{message}")] {
                let Some(made) = subject(Stream::Domain, "ingest", tenant, &type_name) else { continue };
                let mut levels = made.split('.');
                proptest::prop_assert_eq!(levels.clone().count(), 4);
                proptest::prop_assert!(levels.all(|level| {
                    !level.is_empty() && level.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                }), "{}", made);
            }
            // What is not the one spelling of an id is no tenant, so it never comes to a subject.
            if let Some(read) = TenantId::parse_strict(&text) {
                proptest::prop_assert_eq!(read.to_string(), text);
            }
        }
    }

    #[test]
    fn an_envelope_reads_back_as_it_was_written() {
        let event = emitted();
        let headers = headers(tenant(), "projects", &event);
        let heard = format!("catalyst.{}.projects.project_created", tenant());
        let read = Event::read(
            Stream::Domain,
            &heard,
            Some(&headers),
            Bytes::from(event.body.clone()),
        );
        let read = read.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(
            (read.id, read.version, read.occurred_at),
            (event.event_id, 3, event.occurred_at)
        );
        assert_eq!(
            read.actor,
            Actor::User("kim__ce-tenantid: other".to_owned())
        );
    }

    #[test]
    fn an_envelope_that_two_readers_could_take_differently_is_not_trusted() {
        let heard = format!("catalyst.{}.projects.project_created", tenant());
        let other = TenantId::PLATFORM.to_string();
        let changed = |change: &dyn Fn(&mut HeaderMap)| {
            let mut headers = headers(tenant(), "projects", &emitted());
            change(&mut headers);
            Event::read(Stream::Domain, &heard, Some(&headers), Bytes::new()).err()
        };
        assert_eq!(changed(&|_| {}), None);
        let changes: [&dyn Fn(&mut HeaderMap); 7] = [
            &|headers| headers.append("ce-tenantid", other.as_str()),
            &|headers| headers.append("ce-tenantid", tenant().to_string().as_str()),
            &|headers| headers.append("Ce-Tenantid", other.as_str()),
            &|headers| headers.append("CE-extension", "x"),
            &|headers| headers.insert("ce-authid", "kim\0"),
            &|headers| headers.insert("ce-specversion", "0.3"),
            &|headers| headers.insert("Nats-Msg-Id", other.as_str()),
        ];
        for change in changes {
            assert_eq!(changed(change), Some(Distrust::Envelope));
        }
    }

    #[test]
    fn an_event_whose_subject_and_envelope_disagree_is_not_trusted() {
        let headers = headers(tenant(), "projects", &emitted());
        let read = |subject: String| {
            Event::read(Stream::Domain, &subject, Some(&headers), Bytes::new()).err()
        };
        let other = Uuid::from_u128(7);
        assert_eq!(
            read(format!("catalyst.{other}.projects.project_created")),
            Some(Distrust::Tenant)
        );
        assert_eq!(
            read(format!("catalyst.{}.consultants.project_created", tenant())),
            Some(Distrust::Source)
        );
        assert_eq!(
            read(format!("catalyst.{}.projects.project_archived", tenant())),
            Some(Distrust::Type)
        );
        let foreign_source = super::headers(tenant(), "consultants", &emitted());
        let heard = format!("catalyst.{}.projects.project_created", tenant());
        let read = Event::read(Stream::Domain, &heard, Some(&foreign_source), Bytes::new());
        assert_eq!(read.err(), Some(Distrust::Source));
    }
}
