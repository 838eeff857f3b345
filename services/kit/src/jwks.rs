//! Sets of public keys, read from a file or a URL of the settings and kept fresh.
//!
//! Invariant: a key is used with one algorithm, its own, and never with a symmetric one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto::common::v1::AuthenticationFailure as Failure;
use serde::de::DeserializeOwned;

use crate::settings::SettingsError;

/// Clock skew between issuer and service, in seconds.
pub(crate) const LEEWAY: u64 = 30;
/// Unknown key ids make the set be read again at most this often.
const REFETCH: Duration = Duration::from_secs(10);

/// Where a key set comes from.
#[derive(Clone, Debug)]
enum Source {
    File(std::path::PathBuf),
    Url(String),
}

/// The ids of the usable keys of a set, read as a service reads it at start.
pub async fn key_ids(variable: &'static str, source: &str) -> Result<Vec<String>, SettingsError> {
    let set = KeySet::open(variable, source).await?;
    Ok(set.current().keys().cloned().collect())
}

/// A set of public keys, kept fresh.
#[derive(Debug)]
pub(crate) struct KeySet {
    source: Source,
    http: reqwest::Client,
    keys: RwLock<Arc<HashMap<String, Key>>>,
    last_read: tokio::sync::Mutex<Option<Instant>>,
    /// The bytes of the last good set, to see whether a refresh changed anything.
    raw: RwLock<Vec<u8>>,
    /// Rises with each change of the keys. What was verified under an older one counts no more.
    generation: AtomicU64,
}

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
    pub(crate) async fn open(variable: &'static str, source: &str) -> Result<Self, SettingsError> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SettingsError::new(variable, error.to_string()))?;
        let source = if source.starts_with("https://") || source.starts_with("http://") {
            Source::Url(source.to_owned())
        } else {
            Source::File(source.into())
        };
        let set = Self {
            source,
            http,
            keys: RwLock::default(),
            last_read: tokio::sync::Mutex::new(None),
            raw: RwLock::default(),
            generation: AtomicU64::new(0),
        };
        set.read_again(Duration::ZERO)
            .await
            .map_err(|why| SettingsError::new(variable, why))?;
        Ok(set)
    }

    /// Reads the set again unless that was done within `at_most_every`.
    pub(crate) async fn read_again(&self, at_most_every: Duration) -> Result<(), String> {
        let mut last = self.last_read.lock().await;
        if last.is_some_and(|at| at.elapsed() < at_most_every) {
            return Ok(());
        }
        *last = Some(Instant::now());
        let raw = match &self.source {
            Source::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            Source::Url(url) => {
                let get = async {
                    self.http
                        .get(url)
                        .send()
                        .await?
                        .error_for_status()?
                        .bytes()
                        .await
                };
                get.await
                    .map_err(|error| format!("cannot read {url}: {error}"))?
                    .to_vec()
            }
        };
        if *self.raw.read().unwrap_or_else(PoisonError::into_inner) == raw {
            return Ok(());
        }
        let set: JwkSet =
            serde_json::from_slice(&raw).map_err(|error| format!("is no JWKS: {error}"))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let Some(id) = jwk.common.key_id.clone() else {
                continue;
            };
            let Some(algorithm) = algorithm_of(&jwk.algorithm, jwk.common.key_algorithm) else {
                continue;
            };
            if let Ok(decoding) = DecodingKey::from_jwk(jwk) {
                keys.insert(
                    id,
                    Key {
                        decoding,
                        algorithm,
                    },
                );
            }
        }
        if keys.is_empty() {
            return Err("has no key with a kid and an asymmetric algorithm".to_owned());
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

    fn current(&self) -> Arc<HashMap<String, Key>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Verifies signature, algorithm and the claims of `validation`, which gets the key's algorithm.
    pub(crate) async fn verify<C: DeserializeOwned>(
        &self,
        kid: &str,
        token: &str,
        validation: &Expected,
    ) -> Result<C, Failure> {
        let mut keys = self.current();
        if !keys.contains_key(kid) {
            if let Err(why) = self.read_again(REFETCH).await {
                tracing::warn!(error = %why, "a key set could not be read again; the last good one stays in force");
            }
            keys = self.current();
        }
        let key = keys.get(kid).ok_or(Failure::UnknownKey)?;
        let mut rules = Validation::new(key.algorithm);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        rules.set_issuer(&[&validation.issuer]);
        rules.set_audience(&[&validation.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        jsonwebtoken::decode::<C>(token, &key.decoding, &rules)
            .map(|verified| verified.claims)
            .map_err(|error| {
                use jsonwebtoken::errors::ErrorKind;
                match error.kind() {
                    ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => {
                        Failure::BadSignature
                    }
                    ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Failure::Expired,
                    ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                        Failure::WrongIssuerOrAudience
                    }
                    ErrorKind::MissingRequiredClaim(_)
                    | ErrorKind::Json(_)
                    | ErrorKind::InvalidSubject => Failure::ClaimsInvalid,
                    _ => Failure::Malformed,
                }
            })
    }
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
pub(crate) struct Expected {
    pub(crate) issuer: String,
    pub(crate) audience: String,
}
