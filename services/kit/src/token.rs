//! Verification of tokens against key sets. Nothing that a token names is ever fetched.
//!
//! Invariant: the algorithm is the key's, never the token's, and always asymmetric; every failure looks the same from
//! outside and differs only in what is counted.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use moka::sync::Cache;
use proto::common::v1::AuthenticationFailure as Failure;
use serde::Deserialize;

use crate::ctx::Clock;
use crate::ids::TenantId;
use crate::jwks::{Expected, KeySet, LEEWAY};
use crate::permission::Role;
use crate::settings::SettingsError;
use crate::tasks::Tasks;

/// A longer token is refused before it is looked at.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// No token is accepted for longer than a day, whatever it says: a stolen one must run out.
const MAX_LIFETIME: u64 = 24 * 3_600;
/// A new key is accepted and a removed one refused at most this much later.
const REFRESH: Duration = Duration::from_secs(30);
/// Verified tokens kept; the least used go first.
const CACHED: u64 = 50_000;
/// The `typ` of a workload token's header.
pub(crate) const WORKLOAD_TYPE: &str = "catalyst-workload+jwt";

/// Claims of a user token. Types are strict: an `exp` of text or with a fraction is no token of ours.
#[derive(Debug, Deserialize)]
struct UserClaims {
    sub: String,
    tenant_id: String,
    roles: Vec<Role>,
    exp: u64,
    #[serde(default)]
    iat: Option<u64>,
}

/// Claims of a workload token.
#[derive(Debug, Deserialize)]
struct WorkloadClaims {
    sub: String,
    tenant_id: String,
    exp: u64,
    #[serde(default)]
    iat: Option<u64>,
}

/// The principal of a verified token.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    User {
        tenant: TenantId,
        subject: Arc<str>,
        roles: Arc<[Role]>,
    },
    Service {
        tenant: TenantId,
        service: Arc<str>,
    },
}

impl Principal {
    pub(crate) fn tenant(&self) -> TenantId {
        match self {
            Self::User { tenant, .. } | Self::Service { tenant, .. } => *tenant,
        }
    }
}

/// The `iss` of workload tokens.
pub(crate) const WORKLOAD_ISSUER: &str = "catalyst-workload";
/// A workload token lives at most this long, in seconds: it delegates a tenant.
const WORKLOAD_LIFETIME: u64 = 300;

/// A token that was found good, until when, and under which keys.
#[derive(Clone, Debug)]
struct Verified {
    principal: Principal,
    exp: u64,
    generation: (u64, u64),
}

/// Verifies user and workload tokens for one service, remembering the verified ones until they expire or a key goes.
#[derive(Debug)]
pub(crate) struct Verifier {
    users: KeySet,
    workloads: KeySet,
    user_rules: (String, String),
    service: &'static str,
    clock: Clock,
    verified: Cache<[u8; 32], Verified>,
}

impl Verifier {
    pub(crate) async fn open(
        settings: &crate::settings::IdentitySettings,
        service: &'static str,
        clock: Clock,
    ) -> Result<Arc<Self>, SettingsError> {
        Ok(Arc::new(Self {
            users: KeySet::open("CATALYST_AUTH_JWKS", &settings.auth_jwks).await?,
            workloads: KeySet::open("CATALYST_WORKLOAD_JWKS", &settings.workload_jwks).await?,
            user_rules: (settings.auth_issuer.clone(), settings.auth_audience.clone()),
            service,
            clock,
            verified: Cache::new(CACHED),
        }))
    }

    /// Keeps both key sets fresh. A change makes every remembered token be verified anew.
    pub(crate) async fn refresh(self: Arc<Self>, tasks: Tasks) {
        while tasks.pause(REFRESH).await {
            for set in [&self.users, &self.workloads] {
                if let Err(why) = set.read_again(Duration::ZERO).await {
                    tracing::warn!(error = %why, "a key set could not be refreshed; the last good one stays in force");
                }
            }
        }
    }

    /// The principal of a bearer token.
    pub(crate) async fn verify(&self, token: &str) -> Result<Principal, Failure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Failure::Malformed);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let now = u64::try_from(self.clock.now().unix_timestamp()).unwrap_or_default();
        // Read before anything is verified: a set that changes meanwhile makes the result count no more.
        let generation = (self.users.generation(), self.workloads.generation());
        if let Some(known) = self.verified.get(&hash)
            && known.generation == generation
        {
            return if known.exp + LEEWAY > now {
                Ok(known.principal)
            } else {
                Err(Failure::Expired)
            };
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Failure::Malformed)?;
        // A token that brings or names its own key is an attempt; so is one with extensions that we do not know.
        if header.jwk.is_some()
            || header.jku.is_some()
            || header.x5u.is_some()
            || header.x5c.is_some()
        {
            return Err(Failure::Malformed);
        }
        let kid = header.kid.as_deref().ok_or(Failure::UnknownKey)?;
        let (principal, exp) = if header.typ.as_deref() == Some(WORKLOAD_TYPE) {
            self.verify_workload(kid, token, now).await?
        } else {
            self.verify_user(kid, token, now).await?
        };
        let verified = Verified {
            principal: principal.clone(),
            exp,
            generation,
        };
        self.verified.insert(hash, verified);
        Ok(principal)
    }

    async fn verify_user(
        &self,
        kid: &str,
        token: &str,
        now: u64,
    ) -> Result<(Principal, u64), Failure> {
        let expected = Expected {
            issuer: self.user_rules.0.clone(),
            audience: self.user_rules.1.clone(),
        };
        let claims: UserClaims = self.users.verify(kid, token, &expected).await?;
        check_times(claims.exp, claims.iat, now, MAX_LIFETIME)?;
        let tenant = TenantId::parse_strict(&claims.tenant_id).ok_or(Failure::ClaimsInvalid)?;
        let unusable = claims.sub.is_empty()
            || claims.sub.len() > 255
            || claims.sub.chars().any(char::is_control);
        if unusable || tenant == TenantId::NONE {
            return Err(Failure::ClaimsInvalid);
        }
        let principal = Principal::User {
            tenant,
            subject: claims.sub.into(),
            roles: claims.roles.into(),
        };
        Ok((principal, claims.exp))
    }

    async fn verify_workload(
        &self,
        kid: &str,
        token: &str,
        now: u64,
    ) -> Result<(Principal, u64), Failure> {
        let expected = Expected {
            issuer: WORKLOAD_ISSUER.to_owned(),
            audience: self.service.to_owned(),
        };
        let claims: WorkloadClaims = self.workloads.verify(kid, token, &expected).await?;
        check_times(claims.exp, claims.iat, now, WORKLOAD_LIFETIME)?;
        // A service signs for itself alone: its key carries its name.
        if claims.sub != kid {
            return Err(Failure::ClaimsInvalid);
        }
        let tenant = TenantId::parse_strict(&claims.tenant_id).ok_or(Failure::ClaimsInvalid)?;
        Ok((
            Principal::Service {
                tenant,
                service: claims.sub.into(),
            },
            claims.exp,
        ))
    }
}

fn check_times(exp: u64, iat: Option<u64>, now: u64, lifetime: u64) -> Result<(), Failure> {
    if exp > now.saturating_add(lifetime + LEEWAY) {
        return Err(Failure::ClaimsInvalid);
    }
    if iat.is_some_and(|iat| iat > now.saturating_add(LEEWAY)) {
        return Err(Failure::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use jsonwebtoken::jwk::{Jwk, JwkSet};
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    use super::*;

    fn new_key() -> EncodingKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
    }

    fn publish(path: &Path, keys: &[(&str, &EncodingKey)]) {
        let keys = keys.iter().map(|(id, key)| {
            let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).unwrap();
            jwk.common.key_id = Some((*id).to_owned());
            jwk
        });
        let set = JwkSet {
            keys: keys.collect(),
        };
        std::fs::write(path, serde_json::to_vec(&set).unwrap()).unwrap();
    }

    fn token(kid: &str, key: &EncodingKey) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        let now = Clock::system().now().unix_timestamp();
        let claims = serde_json::json!({
            "iss": "issuer", "aud": "catalyst", "sub": "kim", "roles": ["admin"], "iat": now, "exp": now + 600,
            "tenant_id": TenantId::PLATFORM.to_string(),
        });
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    }

    #[tokio::test]
    async fn a_removed_key_counts_no_more_for_a_remembered_token_however_the_change_was_noticed() {
        let name = format!("catalyst-jwks-{}.json", Clock::system().new_uuid().simple());
        let path = std::env::temp_dir().join(name);
        let (old, new) = (new_key(), new_key());
        publish(&path, &[("old", &old)]);
        let source = path.to_string_lossy().into_owned();
        let verifier = Verifier {
            users: KeySet::open("USERS", &source).await.unwrap(),
            workloads: KeySet::open("WORKLOADS", &source).await.unwrap(),
            user_rules: ("issuer".to_owned(), "catalyst".to_owned()),
            service: "projects",
            clock: Clock::system(),
            verified: Cache::new(10),
        };
        let stolen = token("old", &old);
        assert!(verifier.verify(&stolen).await.is_ok());
        publish(&path, &[("new", &new)]);
        assert!(
            verifier.verify(&stolen).await.is_ok(),
            "nobody has looked yet"
        );
        // What a token with an unknown key id sets off; the refresh that follows sees nothing new.
        verifier.users.read_again(Duration::ZERO).await.unwrap();
        assert_eq!(
            verifier.verify(&stolen).await.err(),
            Some(Failure::UnknownKey)
        );
        assert!(verifier.verify(&token("new", &new)).await.is_ok());
        std::fs::remove_file(path).unwrap();
    }
}
