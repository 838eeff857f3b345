//! Identifiers with types, so that one kind of id can never stand where another is meant.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A customer firm. Its text is the lowercase hyphenated UUID: the only form that subjects, tokens and metadata carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Uuid);

impl TenantId {
    /// The reserved tenant of platform operators; only control-plane RPCs accept it.
    pub const PLATFORM: Self = Self(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
    /// The subject of security events that no verified tenant stands behind.
    pub const NONE: Self = Self(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0002));

    /// Wraps a UUID that is already known to name a tenant: from a row, an event or a created tenant.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The UUID itself, for storage.
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// Reads the one accepted text form: 36 characters, lowercase, hyphenated, not nil.
    /// Braces, URNs, uppercase and missing hyphens are refused, so that a tenant has exactly one spelling.
    pub fn parse_strict(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        let canonical = id.hyphenated().to_string() == text;
        (canonical && !id.is_nil()).then_some(Self(id))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an [`Id`] identifies. Implemented by empty types, one for each kind of aggregate.
pub trait Kind: 'static {
    /// The singular noun, as it appears in errors and security events: `project`, `time_entry`.
    const NAME: &'static str;
}

/// The id of an aggregate of kind `K`: a UUIDv7 made by the service that owns it.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

impl<K> Id<K> {
    /// Wraps a UUID that a row, an event or the context's id source gave.
    pub const fn new(id: Uuid) -> Self {
        Self(id, PhantomData)
    }

    /// The UUID itself, for storage and messages.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<K> FromStr for Id<K> {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self::new)
    }
}
impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::new)
    }
}
impl<K> sqlx::Type<sqlx::Postgres> for Id<K> {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <Uuid as sqlx::Type<sqlx::Postgres>>::type_info()
    }
}
impl<K> sqlx::postgres::PgHasArrayType for Id<K> {
    fn array_type_info() -> sqlx::postgres::PgTypeInfo {
        <Uuid as sqlx::postgres::PgHasArrayType>::array_type_info()
    }
}
impl<K> sqlx::Encode<'_, sqlx::Postgres> for Id<K> {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        <Uuid as sqlx::Encode<'_, sqlx::Postgres>>::encode_by_ref(&self.0, buffer)
    }
}
impl<'r, K> sqlx::Decode<'r, sqlx::Postgres> for Id<K> {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        <Uuid as sqlx::Decode<'r, sqlx::Postgres>>::decode(value).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_exactly_one_spelling() {
        let id = "0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d";
        assert_eq!(
            TenantId::parse_strict(id).map(|t| t.to_string()),
            Some(id.to_owned())
        );
        for other in [
            "0190B5A4-9C3E-7E51-8F7A-2F4F7A5B6C7D",
            "0190b5a49c3e7e518f7a2f4f7a5b6c7d",
            "{0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d}",
            "urn:uuid:0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d",
            " 0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d",
            "00000000-0000-0000-0000-000000000000",
            "acme.*",
            ">",
            "",
        ] {
            assert_eq!(TenantId::parse_strict(other), None, "{other} was accepted");
        }
    }
}
