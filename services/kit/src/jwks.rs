//! Sets of public keys, read from a file or a URL of the settings and kept fresh.
//!
//! Invariant: a key is used with one algorithm, its own, and never with a symmetric one; what cannot be read or
//! understood leaves the last good set in force.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto::common::v1::AuthenticationFailure as Failure;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

use crate::settings::SettingsError;
use crate::wire::is_this_machine;

/// Clock skew between issuer and service, in seconds.
pub(crate) const LEEWAY: u64 = 30;
/// A source that has not answered by then is away.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a token with an unknown key waits for a read that another one has set off. A flood of such tokens holds
/// its calls no longer than this while the source is slow.
const COURTESY: Duration = Duration::from_millis(250);
/// A longer answer is no key set.
const MAX_SET_BYTES: usize = 256 * 1024;

/// Where a key set comes from.
#[derive(Clone, Debug)]
enum Source {
    File(std::path::PathBuf),
    Url(String, reqwest::Client),
}

fn client(source: &str) -> Result<reqwest::Client, reqwest::Error> {
    // Redirects would lead to a place that nobody has set.
    let mut http = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none());
    if source.starts_with("http://") {
        // The authorities of this machine take milliseconds and megabytes to read.
        http = http.tls_certs_only([]);
    }
    let url = reqwest::Url::parse(source).ok();
    if url
        .as_ref()
        .and_then(reqwest::Url::host_str)
        .is_some_and(is_this_machine)
    {
        http = http.no_proxy();
    }
    http.build()
}

/// The answer of the source, of which no more is read than is needed to see that it is too long.
async fn fetch(http: &reqwest::Client, url: &str) -> Result<Vec<u8>, reqwest::Error> {
    let mut answer = http.get(url).send().await?.error_for_status()?;
    let mut raw = Vec::new();
    // A redirect is no error to the client, and its body no key set.
    if !answer.status().is_success() {
        return Ok(raw);
    }
    while raw.len() <= MAX_SET_BYTES
        && let Some(chunk) = answer.chunk().await?
    {
        raw.extend_from_slice(&chunk);
    }
    Ok(raw)
}

/// The ids of the usable keys of a set, read as a service reads it at start.
pub async fn key_ids(variable: &'static str, source: &str) -> Result<Vec<String>, SettingsError> {
    // Read once, so nothing is read again.
    let set = KeySet::open(variable, source, Duration::MAX).await?;
    Ok(set.current().keys().cloned().collect())
}

/// A set of public keys, kept fresh.
#[derive(Debug)]
pub(crate) struct KeySet {
    source: Source,
    /// Unknown key ids make the set be read again at most this often.
    refetch: Duration,
    keys: RwLock<Arc<HashMap<String, Vec<Key>>>>,
    last_read: tokio::sync::Mutex<Option<Instant>>,
    /// The bytes of the last good set, to see whether a refresh changed anything.
    raw: RwLock<Vec<u8>>,
    /// Rises with each change of the keys. What was verified under an older one counts no more.
    generation: AtomicU64,
}

/// By key id. An id that has several keys is one in rotation: each of them counts.
type Keys = HashMap<String, Vec<Key>>;

struct Key {
    decoding: DecodingKey,
    algorithm: Algorithm,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Reads the set for the first time; a set that cannot be read or has no usable key is a bad setting.
    pub(crate) async fn open(
        variable: &'static str,
        source: &str,
        refetch: Duration,
    ) -> Result<Self, SettingsError> {
        let source = if source.starts_with("https://") || source.starts_with("http://") {
            let http = client(source);
            let http = http.map_err(|error| SettingsError::new(variable, error.to_string()))?;
            Source::Url(source.to_owned(), http)
        } else {
            Source::File(source.into())
        };
        let set = Self {
            source,
            refetch,
            keys: RwLock::default(),
            last_read: tokio::sync::Mutex::new(None),
            raw: RwLock::default(),
            generation: AtomicU64::new(0),
        };
        set.refresh()
            .await
            .map_err(|why| SettingsError::new(variable, why))?;
        if set.current().is_empty() {
            let why = "has no key with a kid and an asymmetric algorithm";
            return Err(SettingsError::new(variable, why));
        }
        Ok(set)
    }

    /// Reads the set again now.
    pub(crate) async fn refresh(&self) -> Result<(), String> {
        let mut last = self.last_read.lock().await;
        *last = Some(Instant::now());
        self.read().await
    }

    /// Reads the set again for a key that is not in it, unless that was done a short while ago.
    async fn read_for_unknown(&self) -> Result<(), String> {
        let Ok(mut last) = tokio::time::timeout(COURTESY, self.last_read.lock()).await else {
            return Ok(());
        };
        if last.is_some_and(|at| at.elapsed() < self.refetch) {
            return Ok(());
        }
        *last = Some(Instant::now());
        self.read().await
    }

    async fn read(&self) -> Result<(), String> {
        let raw = match &self.source {
            Source::File(path) => read_file(path)
                .await
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            Source::Url(url, http) => fetch(http, url)
                .await
                .map_err(|error| format!("cannot read {url}: {error}"))?,
        };
        if raw.len() > MAX_SET_BYTES {
            return Err(format!("is longer than {MAX_SET_BYTES} bytes"));
        }
        if *self.raw.read().unwrap_or_else(PoisonError::into_inner) == raw {
            return Ok(());
        }
        let keys = keys_of(&raw)?;
        if keys.is_empty() {
            tracing::error!("a key set is empty: every token is refused from now on");
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        *self.raw.write().unwrap_or_else(PoisonError::into_inner) = raw;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Rises with each change of the keys.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Verifies algorithm, signature and the claims of `expected`.
    pub(crate) async fn verify<C: DeserializeOwned>(
        &self,
        kid: &str,
        algorithm: &str,
        token: &str,
        expected: &Expected,
    ) -> Result<C, Failure> {
        let mut keys = self.current();
        if !keys.contains_key(kid) {
            if let Err(why) = self.read_for_unknown().await {
                tracing::warn!(error = %why, "a key set could not be read again; the last good one stays in force");
            }
            keys = self.current();
        }
        let candidates = keys.get(kid).ok_or(Failure::UnknownKey)?;
        let mut outcome = Err(Failure::BadSignature);
        for key in candidates {
            if algorithm != format!("{:?}", key.algorithm) {
                continue;
            }
            outcome = verify_by(key, token, expected);
            if !matches!(outcome, Err(Failure::BadSignature)) {
                break;
            }
        }
        outcome
    }
}

fn verify_by<C: DeserializeOwned>(
    key: &Key,
    token: &str,
    expected: &Expected,
) -> Result<C, Failure> {
    let mut rules = Validation::new(key.algorithm);
    rules.leeway = LEEWAY;
    rules.validate_nbf = true;
    rules.set_issuer(&[&expected.issuer]);
    rules.set_audience(&[&expected.audience]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    jsonwebtoken::decode::<C>(token, &key.decoding, &rules)
        .map(|verified| verified.claims)
        .map_err(|error| {
            use jsonwebtoken::errors::ErrorKind;
            match error.kind() {
                ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Failure::BadSignature,
                ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Failure::Expired,
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                    Failure::WrongIssuerOrAudience
                }
                ErrorKind::MissingRequiredClaim(_)
                | ErrorKind::InvalidClaimFormat(_)
                | ErrorKind::Json(_)
                | ErrorKind::InvalidSubject => Failure::ClaimsInvalid,
                _ => Failure::Malformed,
            }
        })
}

/// The file, of which no more is read than is needed to see that it is too long.
async fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    let most = u64::try_from(MAX_SET_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(most).read_to_end(&mut raw).await?;
    Ok(raw)
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// The usable keys of a set by their ids. Keys of kinds that are not known here are passed over, as they may be meant
/// for others; a set without any key is one that has withdrawn them all.
fn keys_of(raw: &[u8]) -> Result<Keys, String> {
    let set: JwkSet =
        serde_json::from_slice(raw).map_err(|error| format!("is no JWKS: {error}"))?;
    let is_empty = set.keys.is_empty();
    let mut keys = Keys::new();
    for jwk in set.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else {
            continue;
        };
        let encrypts = matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
        let Some(id) = jwk.common.key_id.clone().filter(|_| !encrypts) else {
            continue;
        };
        let Some(algorithm) = algorithm_of(&jwk.algorithm, jwk.common.key_algorithm) else {
            continue;
        };
        if let Ok(decoding) = DecodingKey::from_jwk(&jwk) {
            let key = Key {
                decoding,
                algorithm,
            };
            keys.entry(id).or_default().push(key);
        }
    }
    if keys.is_empty() && !is_empty {
        return Err("has no key with a kid and an asymmetric algorithm".to_owned());
    }
    Ok(keys)
}

/// The one algorithm that a key is used with: as the set says, else the usual one of its kind; never a symmetric one.
fn algorithm_of(
    parameters: &AlgorithmParameters,
    stated: Option<jsonwebtoken::jwk::KeyAlgorithm>,
) -> Option<Algorithm> {
    let stated = stated.map(|algorithm| algorithm.to_string());
    let chosen = match (parameters, stated.as_deref()) {
        (AlgorithmParameters::EllipticCurve(ec), stated) => match (&ec.curve, stated) {
            (EllipticCurve::P256, None | Some("ES256")) => Algorithm::ES256,
            (EllipticCurve::P384, None | Some("ES384")) => Algorithm::ES384,
            _ => return None,
        },
        (AlgorithmParameters::OctetKeyPair(_), None | Some("EdDSA")) => Algorithm::EdDSA,
        (AlgorithmParameters::RSA(_), None | Some("RS256")) => Algorithm::RS256,
        (AlgorithmParameters::RSA(_), Some("RS384")) => Algorithm::RS384,
        (AlgorithmParameters::RSA(_), Some("RS512")) => Algorithm::RS512,
        (AlgorithmParameters::RSA(_), Some("PS256")) => Algorithm::PS256,
        (AlgorithmParameters::RSA(_), Some("PS384")) => Algorithm::PS384,
        (AlgorithmParameters::RSA(_), Some("PS512")) => Algorithm::PS512,
        _ => return None,
    };
    Some(chosen)
}

/// What a token must carry.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) issuer: String,
    pub(crate) audience: String,
}
