//! Records and checkpoints as lines of an export: everything that a verifier needs besides the public key. Pure.
//!
//! Invariant: a line keeps each field as it is stored, so that what cannot be a record is seen as a changed one and not
//! mended on the way.

use std::borrow::Cow;

use kit::TenantId;
use kit::ctx::Actor;
use proto::audit::v1 as pb;
use proto::common::v1::Severity;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::chain;
use crate::checkpoint::LogKey;
use crate::record::{Category, Entry, Log, Record, Resource};

/// The version of the lines.
pub const FORM: i32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line<'a> {
    /// The first line.
    Export(Header),
    /// A checkpoint; all come before the records, in their order.
    Checkpoint(SignedLine),
    /// A record, by tenant, log and sequence.
    #[serde(borrow)]
    Record(Box<Exported<'a>>),
}

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The version of the lines.
    pub form: i32,
    /// When it was begun.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The tenant whose records are in it; none for all.
    pub tenant_id: Option<Uuid>,
    /// The number of the last checkpoint that the broker had.
    pub last_checkpoint: i64,
}

/// A signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedLine {
    /// The encoded `catalyst.audit.v1.Checkpoint`, as it was signed.
    #[serde(with = "base64_text")]
    payload: Vec<u8>,
    key_id: String,
    #[serde(with = "base64_text")]
    signature: Vec<u8>,
}

impl From<pb::SignedCheckpoint> for SignedLine {
    fn from(signed: pb::SignedCheckpoint) -> Self {
        Self {
            payload: signed.checkpoint,
            key_id: signed.key_id,
            signature: signed.signature,
        }
    }
}

impl From<SignedLine> for pb::SignedCheckpoint {
    fn from(line: SignedLine) -> Self {
        Self {
            checkpoint: line.payload,
            key_id: line.key_id,
            signature: line.signature,
        }
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported<'a> {
    tenant_id: Uuid,
    operator_only: bool,
    sequence: i64,
    #[serde(with = "time::serde::rfc3339")]
    record_time: OffsetDateTime,
    id: Uuid,
    event_id: Uuid,
    #[serde(borrow, rename = "type")]
    type_name: Cow<'a, str>,
    #[serde(borrow)]
    category: Cow<'a, str>,
    severity: i32,
    #[serde(borrow)]
    actor_type: Cow<'a, str>,
    #[serde(borrow)]
    actor_id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    aggregate_id: Uuid,
    version: i64,
    #[serde(borrow)]
    resource_kind: Cow<'a, str>,
    resource_id: Option<Uuid>,
    #[serde(with = "time::serde::rfc3339")]
    occur_time: OffsetDateTime,
    traceparent: Option<Cow<'a, str>>,
    #[serde(with = "base64_text")]
    body: Vec<u8>,
    #[serde(with = "base64_text")]
    hash: Vec<u8>,
}

/// The place of a record and what the next one is chained to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its log.
    pub key: LogKey,
    /// Its sequence.
    pub sequence: i64,
    /// Its hash, as stored.
    pub hash: [u8; 32],
}

/// What is left of a record when it has been hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub place: Place,
    /// When it was appended.
    pub recorded_at: OffsetDateTime,
    /// Whether its hash is the one of its fields and of the hash before.
    pub follows: bool,
}

impl<'a> Exported<'a> {
    /// As the service sends it; none when it is not even in the form of a record.
    pub fn of(message: &'a pb::ExportedRecord) -> Option<Self> {
        let uuid = |text: &str| Uuid::try_parse(text).ok();
        Some(Self {
            tenant_id: uuid(&message.tenant_id)?,
            operator_only: message.operator_only,
            sequence: message.sequence,
            record_time: instant(message.record_time.as_ref()?)?,
            id: uuid(&message.id)?,
            event_id: uuid(&message.event_id)?,
            type_name: message.r#type.as_str().into(),
            category: message.category.as_str().into(),
            severity: message.severity,
            actor_type: message.actor_type.as_str().into(),
            actor_id: message.actor_id.as_str().into(),
            source: message.source.as_str().into(),
            aggregate_id: uuid(&message.aggregate_id)?,
            version: message.version,
            resource_kind: message.resource_kind.as_str().into(),
            resource_id: match message.resource_id.as_str() {
                "" => None,
                id => Some(uuid(id)?),
            },
            occur_time: instant(message.occur_time.as_ref()?)?,
            traceparent: message.traceparent.as_deref().map(Cow::from),
            body: message.body.clone(),
            hash: message.hash.clone(),
        })
    }

    /// Its place.
    pub fn place(&self) -> Place {
        let key = LogKey {
            tenant: TenantId::new(self.tenant_id),
            log: Log::from_operator_only(self.operator_only),
        };
        Place {
            key,
            sequence: self.sequence,
            // No hash is all zeros: what has another length follows nothing, and nothing follows it.
            hash: self.hash.as_slice().try_into().unwrap_or_default(),
        }
    }

    /// Hashes it after the record before, if that is of the same log.
    pub fn link(self, before: Option<&Place>) -> Link {
        let place = self.place();
        let recorded_at = self.record_time;
        let before = match before {
            Some(before) if before.key == place.key => before.hash,
            _ => [0; 32],
        };
        let follows = self
            .record(place)
            .is_some_and(|record| chain::follows(&before, &record));
        Link {
            place,
            recorded_at,
            follows,
        }
    }

    /// The record; none when a field has a value that no record has.
    fn record(self, place: Place) -> Option<Record> {
        let category = match &*self.category {
            "domain" => Category::Domain,
            "security" => Category::Security,
            _ => return None,
        };
        let actor_id = self.actor_id.into_owned();
        let actor = match &*self.actor_type {
            "user" => Actor::User(actor_id),
            "service" => Actor::Service(actor_id),
            _ => return None,
        };
        let resource = Resource {
            kind: self.resource_kind.into_owned(),
            id: self.resource_id,
        };
        Some(Record {
            tenant: place.key.tenant,
            log: place.key.log,
            sequence: place.sequence,
            recorded_at: self.record_time,
            hash: place.hash,
            entry: Entry {
                id: self.id,
                event_id: self.event_id,
                type_name: self.type_name.into_owned(),
                category,
                severity: Severity::try_from(self.severity).ok()?,
                actor,
                source: self.source.into_owned(),
                aggregate_id: self.aggregate_id,
                version: self.version,
                resource: Some(resource),
                occurred_at: self.occur_time,
                traceparent: self.traceparent.map(Cow::into_owned),
                body: self.body.into(),
            },
        })
    }
}

fn instant(at: &prost_types::Timestamp) -> Option<OffsetDateTime> {
    let whole = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?;
    whole.replace_nanosecond(u32::try_from(at.nanos).ok()?).ok()
}

/// Bytes as base64.
mod base64_text {
    use std::borrow::Cow;

    use data_encoding::BASE64;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
