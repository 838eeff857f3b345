//! Signed checkpoints: where logs ended at an instant, signed with a key that no database holds. Pure.
//!
//! Invariant: checkpoints are one chain for the whole deployment, by number and by hash, so that none can be left out,
//! replaced or moved without the next one showing it; whoever keeps the last one sees the end cut off as well.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use kit::TenantId;
use kit::fields::timestamp;
use prost::Message;
use proto::audit::v1 as pb;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::chain::Head;
use crate::record::Log;

/// The version of the form.
const FORM: i32 = 1;
/// Separates these signatures from all others of the same key.
const SIGNED: &[u8] = b"catalyst.audit.checkpoint.v1\0";
/// The most heads of one checkpoint: keeps the message well below what the broker takes.
pub const MAX_HEADS: usize = 2_000;
/// What precedes the point of a P-256 key in a `PUBLIC KEY` of PEM.
const SPKI_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// One log of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which of the two.
    pub log: Log,
}

/// The key that signs checkpoints.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    key_id: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The key did not sign; only a system without randomness does that.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the checkpoint could not be signed")]
pub struct SigningFailed;

impl SigningKey {
    /// Reads a P-256 private key in PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let der = pem_body(pem, "PRIVATE KEY")?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()?;
        let key_id = key_id(pair.public_key().as_ref());
        Some(Self { pair, key_id })
    }

    /// The public half.
    pub fn public(&self) -> PublicKeys {
        let point = self.pair.public_key().as_ref().to_vec();
        PublicKeys(HashMap::from([(self.key_id.clone(), point)]))
    }

    /// Signs.
    pub fn sign(&self, checkpoint: &pb::Checkpoint) -> Result<pb::SignedCheckpoint, SigningFailed> {
        let checkpoint = checkpoint.encode_to_vec();
        let signature = self
            .pair
            .sign(&SystemRandom::new(), &signed_bytes(&checkpoint))
            .map_err(|_| SigningFailed)?;
        Ok(pb::SignedCheckpoint {
            checkpoint,
            key_id: self.key_id.clone(),
            signature: signature.as_ref().to_vec(),
        })
    }
}

/// The keys whose signatures count, by their ids.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(HashMap<String, Vec<u8>>);

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

impl PublicKeys {
    /// Reads P-256 public keys: a JWKS, or one `PUBLIC KEY` in PEM. An id is computed from its key, never believed.
    pub fn read(text: &str) -> Option<Self> {
        let points = if let Some(der) = pem_body(text, "PUBLIC KEY") {
            vec![der.strip_prefix(SPKI_PREFIX)?.to_vec()]
        } else {
            let set: Jwks = serde_json::from_str(text).ok()?;
            let points = set.keys.iter().map(|key| {
                let coordinate = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
                let is_p256 = key.kty == "EC" && key.crv == "P-256";
                let (x, y) = (coordinate(&key.x)?, coordinate(&key.y)?);
                is_p256.then(|| [&[4], x.as_slice(), y.as_slice()].concat())
            });
            points.collect::<Option<Vec<_>>>()?
        };
        let are_whole = !points.is_empty() && points.iter().all(|point| point.len() == 65);
        are_whole.then(|| {
            Self(
                points
                    .into_iter()
                    .map(|point| (key_id(&point), point))
                    .collect(),
            )
        })
    }

    fn vouch_for(&self, signed: &pb::SignedCheckpoint) -> bool {
        self.0.get(&signed.key_id).is_some_and(|point| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(&signed_bytes(&signed.checkpoint), &signed.signature)
                .is_ok()
        })
    }
}

fn signed_bytes(checkpoint: &[u8]) -> Vec<u8> {
    [SIGNED, checkpoint].concat()
}

fn key_id(point: &[u8]) -> String {
    let hash = digest(&SHA256, point);
    HEXLOWER.encode(hash.as_ref().get(..16).unwrap_or_default())
}

fn pem_body(pem: &str, label: &str) -> Option<Vec<u8>> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let (_, rest) = pem.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    let body: String = body.split_whitespace().collect();
    BASE64.decode(body.as_bytes()).ok()
}

/// A checkpoint that somebody keeps: what a later verification must find again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its number.
    pub number: i64,
    /// SHA-256 of the encoded checkpoint, in lowercase hexadecimal.
    pub hash: String,
    /// When it was signed.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
}

impl Anchor {
    /// The anchor that a signed checkpoint is; none if it cannot be read.
    pub fn of(signed: &pb::SignedCheckpoint) -> Option<Self> {
        let checkpoint = pb::Checkpoint::decode(signed.checkpoint.as_slice()).ok()?;
        Some(Self {
            number: checkpoint.number,
            hash: HEXLOWER.encode(&hash_of(&signed.checkpoint)),
            time: created(&checkpoint)?,
        })
    }
}

fn created(checkpoint: &pb::Checkpoint) -> Option<OffsetDateTime> {
    let at = checkpoint.create_time?;
    OffsetDateTime::from_unix_timestamp_nanos(
        i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos),
    )
    .ok()
}

fn hash_of(checkpoint: &[u8]) -> Vec<u8> {
    digest(&SHA256, checkpoint).as_ref().to_vec()
}

/// The end of the chain of checkpoints, for whoever makes the next one.
#[derive(Clone, Debug, Default)]
pub struct Tip {
    /// The number of the last one; 0 before the first.
    pub number: i64,
    /// Its hash; empty before the first.
    pub hash: Vec<u8>,
    /// When it was signed.
    pub time: Option<OffsetDateTime>,
    /// From which one on every log's last head is found.
    pub complete_from: i64,
}

impl Tip {
    /// The next checkpoint.
    pub fn next(
        &self,
        now: OffsetDateTime,
        heads: &[(LogKey, Head)],
        complete_from: i64,
    ) -> pb::Checkpoint {
        let heads = heads.iter().map(|(key, head)| pb::LogHead {
            tenant_id: key.tenant.uuid().as_bytes().to_vec(),
            operator_only: key.log.is_operator_only(),
            sequence: head.sequence,
            hash: head.hash.to_vec(),
        });
        pb::Checkpoint {
            format: FORM,
            number: self.number + 1,
            previous_hash: self.hash.clone(),
            create_time: Some(timestamp(now)),
            heads: heads.collect(),
            complete_from,
        }
    }

    /// Moves to what is stored at `number`. What cannot be read is passed over: verifiers judge it, and the chain goes
    /// on from its bytes. Returns its heads.
    pub fn move_to(&mut self, number: i64, signed: &pb::SignedCheckpoint) -> Vec<(LogKey, Head)> {
        self.number = number;
        self.hash = hash_of(&signed.checkpoint);
        let Ok(checkpoint) = pb::Checkpoint::decode(signed.checkpoint.as_slice()) else {
            return Vec::new();
        };
        self.time = created(&checkpoint);
        self.complete_from = checkpoint.complete_from;
        checkpoint.heads.iter().filter_map(read_head).collect()
    }
}

fn read_head(head: &pb::LogHead) -> Option<(LogKey, Head)> {
    let tenant = TenantId::new(Uuid::from_slice(&head.tenant_id).ok()?);
    let log = Log::from_operator_only(head.operator_only);
    let hash = head.hash.as_slice().try_into().ok()?;
    let sequence = head.sequence;
    Some((LogKey { tenant, log }, Head { sequence, hash }))
}

/// What is wrong with the chain of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// There is none with this number.
    #[error("checkpoints {0} to {1} are missing")]
    Missing(i64, i64),
    /// It stands where another number belongs.
    #[error("checkpoint {0} stands in the place of {1}")]
    Misplaced(i64, i64),
    /// What stands there is no checkpoint of this form.
    #[error("checkpoint {0} cannot be read")]
    Unreadable(i64),
    /// No known key signed it.
    #[error("checkpoint {0} is not signed by a known key")]
    Unsigned(i64),
    /// It does not name the hash of the one before.
    #[error("checkpoint {0} does not follow the one before it, which was replaced")]
    Unchained(i64),
    /// It says otherwise of a log than one before.
    #[error("checkpoint {0} contradicts an earlier one")]
    Contradicts(i64),
    /// The one that somebody kept is not there.
    #[error("checkpoint {0}, which was kept, is missing: the checkpoints end at {1}")]
    Cut(i64, i64),
    /// The one that somebody kept is another.
    #[error("checkpoint {0} is not the one that was kept: it was replaced")]
    Replaced(i64),
}

/// A head, and the checkpoint that signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// Where the log ended.
    pub head: Head,
    /// The number of the checkpoint.
    pub checkpoint: i64,
}

/// Checks checkpoints from the first on, in order, and keeps what they say of each log.
#[derive(Debug)]
pub struct Checkpoints<'k> {
    keys: &'k PublicKeys,
    anchor: Option<&'k Anchor>,
    only: Option<TenantId>,
    tip: Tip,
    last: Option<Anchor>,
    heads: HashMap<LogKey, Vec<SignedHead>>,
    faults: Vec<ChainFault>,
    count: u64,
}

impl<'k> Checkpoints<'k> {
    /// Begins before the first. With `only`, the heads of other tenants are not kept.
    pub fn new(keys: &'k PublicKeys, anchor: Option<&'k Anchor>, only: Option<TenantId>) -> Self {
        Self {
            keys,
            anchor,
            only,
            tip: Tip::default(),
            last: None,
            heads: HashMap::new(),
            faults: Vec::new(),
            count: 0,
        }
    }

    /// Checks the next one. The heads of one that is not signed are not believed.
    pub fn check(&mut self, signed: &pb::SignedCheckpoint) {
        self.count += 1;
        let expected = self.tip.number + 1;
        let read = pb::Checkpoint::decode(signed.checkpoint.as_slice());
        let Some(checkpoint) = read.ok().filter(|it| it.format == FORM) else {
            self.faults.push(ChainFault::Unreadable(expected));
            self.tip.move_to(expected, signed);
            return;
        };
        let number = checkpoint.number;
        if number > expected {
            self.faults.push(ChainFault::Missing(expected, number - 1));
        } else if number < expected {
            self.faults.push(ChainFault::Misplaced(number, expected));
            return;
        } else if checkpoint.previous_hash != self.tip.hash {
            self.faults.push(ChainFault::Unchained(number));
        }
        let heads = self.tip.move_to(number, signed);
        if !self.keys.vouch_for(signed) {
            self.faults.push(ChainFault::Unsigned(number));
            return;
        }
        if heads.len() != checkpoint.heads.len() {
            self.faults.push(ChainFault::Unreadable(number));
        }
        self.last = Anchor::of(signed);
        if let (Some(anchor), Some(last)) = (self.anchor, &self.last)
            && anchor.number == number
            && anchor.hash != last.hash
        {
            self.faults.push(ChainFault::Replaced(number));
        }
        self.keep(number, heads);
    }

    fn keep(&mut self, number: i64, heads: Vec<(LogKey, Head)>) {
        let wanted = heads
            .into_iter()
            .filter(|(key, _)| self.only.is_none_or(|only| only == key.tenant));
        for (key, head) in wanted {
            let known = self.heads.entry(key).or_default();
            match known.last().map(|last| last.head) {
                // A complete set repeats what has not moved.
                Some(last) if last == head => {}
                Some(last) if last.sequence >= head.sequence => {
                    self.faults.push(ChainFault::Contradicts(number));
                }
                _ => known.push(SignedHead {
                    head,
                    checkpoint: number,
                }),
            }
        }
    }

    /// Ends: the last one must be `last`, as far as that is known, and not before the anchor.
    pub fn finish(mut self, last: Option<i64>) -> Checked {
        let end = self.tip.number;
        if let Some(last) = last.filter(|last| *last > end) {
            self.faults.push(ChainFault::Missing(end + 1, last));
        }
        if let Some(anchor) = self.anchor.filter(|anchor| anchor.number > end) {
            self.faults.push(ChainFault::Cut(anchor.number, end));
        }
        Checked {
            heads: self.heads,
            faults: self.faults,
            last: self.last,
            count: self.count,
        }
    }
}

/// What checkpoints say, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Checked {
    /// Where each log ended, in the order of its checkpoints.
    pub heads: HashMap<LogKey, Vec<SignedHead>>,
    /// In the order of the checkpoints.
    pub faults: Vec<ChainFault>,
    /// The last good one: what to keep as an anchor.
    pub last: Option<Anchor>,
    /// How many there were.
    pub count: u64,
}

#[cfg(test)]
pub(crate) mod tests;
