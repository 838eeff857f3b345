//! The header of a token.

use data_encoding::BASE64URL_NOPAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// What of a token's header is looked at. A word that stands there twice is no header of ours.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    pub(super) typ: Option<String>,
    // A token that brings or names its own key is an attempt; so is one with extensions that change what is signed.
    #[serde(default)]
    jwk: Present,
    #[serde(default)]
    jku: Present,
    #[serde(default)]
    x5u: Present,
    #[serde(default)]
    x5c: Present,
    #[serde(default)]
    crit: Present,
    #[serde(default)]
    b64: Present,
    #[serde(default)]
    zip: Present,
    #[serde(default)]
    enc: Present,
}

impl Head {
    pub(super) fn of(token: &str) -> Option<Self> {
        // Three parts and one spelling of each: no padding, no white space, no stray bits.
        let mut parts = token
            .split('.')
            .map(|part| BASE64URL_NOPAD.decode(part.as_bytes()));
        let head = parts.next()?.ok()?;
        let (Some(Ok(_)), Some(Ok(_)), None) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let head: Self = serde_json::from_slice(&head).ok()?;
        let forbidden = [
            &head.jwk, &head.jku, &head.x5u, &head.x5c, &head.crit, &head.b64, &head.zip, &head.enc,
        ];
        let sound = forbidden.iter().all(|word| !word.0);
        sound.then_some(head)
    }
}

/// Whether a word is there, whatever it says.
#[derive(Debug, Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}
