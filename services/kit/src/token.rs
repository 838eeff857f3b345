//! Verification of tokens against key sets. Nothing that a token names is ever fetched.
//!
//! Invariant: the algorithm is the key's, never the token's, and always asymmetric; every failure looks the same from
//! outside and differs only in what is counted.

mod head;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use moka::sync::Cache;
use proto::common::v1::AuthenticationFailure as Failure;
use serde::{Deserialize, Deserializer};

use crate::ctx::Clock;
use crate::ids::TenantId;
use crate::jwks::{Expected, KeySet, LEEWAY};
use crate::permission::Role;
use crate::settings::SettingsError;
use crate::tasks::Tasks;
use head::Head;

/// A longer token is refused before it is looked at.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// No token is accepted for longer than a day, whatever it says: a stolen one must run out.
const MAX_LIFETIME: u64 = 24 * 3_600;
/// Verified tokens kept; the least used go first.
const CACHED: u64 = 50_000;
/// The `typ` of a workload token's header.
pub(crate) const WORKLOAD_TYPE: &str = "catalyst-workload+jwt";

/// Claims of a user token. Types are strict: an `exp` of text or with a fraction is no token of ours.
#[derive(Debug, Deserialize)]
struct UserClaims {
    iss: String,
    sub: String,
    tenant_id: String,
    roles: Vec<Role>,
    exp: u64,
    #[serde(default, deserialize_with = "seconds")]
    iat: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    nbf: Option<u64>,
}

/// Claims of a workload token: the service that calls, and the one tenant that it may act for. The user behind the
/// call is no part of it; the calling service has let that user in and answers for it.
#[derive(Debug, Deserialize)]
struct WorkloadClaims {
    iss: String,
    sub: String,
    tenant_id: String,
    exp: u64,
    iat: u64,
    #[serde(default, deserialize_with = "seconds")]
    nbf: Option<u64>,
}

/// A claim that may be missing, but not be null or anything else than whole seconds.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
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

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
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
    user_rules: Expected,
    workload_rules: Expected,
    refresh: Duration,
    clock: Clock,
    verified: Cache<[u8; 32], Verified>,
}

impl Verifier {
    pub(crate) async fn open(
        settings: &crate::settings::IdentitySettings,
        service: &'static str,
        clock: Clock,
    ) -> Result<Arc<Self>, SettingsError> {
        let refetch = Duration::from_secs(settings.jwks_refetch_seconds);
        let open = |variable, source| KeySet::open(variable, source, refetch);
        Ok(Arc::new(Self {
            users: open("CATALYST_AUTH_JWKS", &settings.auth_jwks).await?,
            workloads: open("CATALYST_WORKLOAD_JWKS", &settings.workload_jwks).await?,
            user_rules: Expected {
                issuer: settings.auth_issuer.clone(),
                audience: settings.auth_audience.clone(),
            },
            workload_rules: Expected {
                issuer: WORKLOAD_ISSUER.to_owned(),
                audience: service.to_owned(),
            },
            refresh: Duration::from_secs(settings.jwks_refresh_seconds),
            clock,
            verified: Cache::new(CACHED),
        }))
    }

    /// Keeps both key sets fresh. A change makes every remembered token be verified anew.
    pub(crate) async fn refresh(self: Arc<Self>, tasks: Tasks) {
        while tasks.pause(self.refresh).await {
            for set in [&self.users, &self.workloads] {
                if let Err(why) = set.refresh().await {
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
        let hash = hash(token);
        let now = self.now();
        // Read before anything is verified: a set that changes meanwhile makes the result count no more.
        let generation = self.generation();
        if let Some(known) = self.verified.get(&hash)
            && known.generation == generation
        {
            return if known.exp + LEEWAY > now {
                Ok(known.principal)
            } else {
                Err(Failure::Expired)
            };
        }
        let head = Head::of(token).ok_or(Failure::Malformed)?;
        let kid = head.kid.as_deref().ok_or(Failure::UnknownKey)?;
        let (principal, exp) = if head.typ.as_deref() == Some(WORKLOAD_TYPE) {
            self.verify_workload(kid, &head.alg, token, now).await?
        } else {
            self.verify_user(kid, &head.alg, token, now).await?
        };
        let verified = Verified {
            principal: principal.clone(),
            exp,
            generation,
        };
        self.verified.insert(hash, verified);
        Ok(principal)
    }

    /// The principal of a token that was found good before and still is. Nothing is verified for it.
    pub(crate) fn remembers(&self, token: &str) -> Option<Principal> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let known = self.verified.get(&hash(token))?;
        let is_good = known.generation == self.generation() && known.exp + LEEWAY > self.now();
        is_good.then_some(known.principal)
    }

    /// Of both key sets.
    fn generation(&self) -> (u64, u64) {
        (self.users.generation(), self.workloads.generation())
    }

    /// In seconds since 1970.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().unix_timestamp()).unwrap_or_default()
    }

    async fn verify_user(
        &self,
        kid: &str,
        algorithm: &str,
        token: &str,
        now: u64,
    ) -> Result<(Principal, u64), Failure> {
        let rules = &self.user_rules;
        let verified = self.users.verify(kid, algorithm, token, rules);
        let claims: UserClaims = verified.await?;
        check_issuer(&claims.iss, rules)?;
        let begun = [claims.iat, claims.nbf];
        check_times(claims.exp, begun, now, MAX_LIFETIME)?;
        let tenant = tenant_of(&claims.tenant_id)?;
        let unusable = claims.sub.is_empty()
            || claims.sub.len() > 255
            || claims.sub.chars().any(char::is_control);
        if unusable {
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
        algorithm: &str,
        token: &str,
        now: u64,
    ) -> Result<(Principal, u64), Failure> {
        let rules = &self.workload_rules;
        let verified = self.workloads.verify(kid, algorithm, token, rules);
        let claims: WorkloadClaims = verified.await?;
        check_issuer(&claims.iss, rules)?;
        let begun = [Some(claims.iat), claims.nbf];
        check_times(claims.exp, begun, now, WORKLOAD_LIFETIME)?;
        // A service signs for itself alone: its key carries its name.
        if claims.sub != kid {
            return Err(Failure::ClaimsInvalid);
        }
        let principal = Principal::Service {
            tenant: tenant_of(&claims.tenant_id)?,
            service: claims.sub.into(),
        };
        Ok((principal, claims.exp))
    }
}

/// One issuer as text: a list of issuers is nobody's word.
fn check_issuer(issuer: &str, rules: &Expected) -> Result<(), Failure> {
    if issuer == rules.issuer {
        Ok(())
    } else {
        Err(Failure::WrongIssuerOrAudience)
    }
}

fn tenant_of(text: &str) -> Result<TenantId, Failure> {
    TenantId::parse_strict(text)
        .filter(|tenant| *tenant != TenantId::NONE)
        .ok_or(Failure::ClaimsInvalid)
}

/// Refuses a token that ends too late, was made for too long, or has not begun.
fn check_times(exp: u64, begun: [Option<u64>; 2], now: u64, lifetime: u64) -> Result<(), Failure> {
    let soon = now.saturating_add(LEEWAY);
    if begun.into_iter().flatten().any(|begin| begin > soon) {
        return Err(Failure::Expired);
    }
    let [made, _] = begun;
    let made = made.unwrap_or(now).min(now);
    if exp > made.saturating_add(lifetime).saturating_add(LEEWAY) {
        return Err(Failure::ClaimsInvalid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;

    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use data_encoding::BASE64URL_NOPAD;
    use jsonwebtoken::jwk::{Jwk, JwkSet};
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use proptest::prelude::*;

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

    fn fresh_path() -> PathBuf {
        let name = format!("catalyst-jwks-{}.json", Clock::system().new_uuid().simple());
        std::env::temp_dir().join(name)
    }

    async fn verifier(path: &Path) -> Verifier {
        let source = path.to_string_lossy();
        let open = async |variable| {
            let set = KeySet::open(variable, &source, Duration::from_secs(10));
            set.await.unwrap()
        };
        let rules = |issuer: &str, audience: &str| Expected {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
        };
        Verifier {
            users: open("USERS").await,
            workloads: open("WORKLOADS").await,
            user_rules: rules("issuer", "catalyst"),
            workload_rules: rules(WORKLOAD_ISSUER, "projects"),
            refresh: Duration::from_secs(30),
            clock: Clock::system(),
            verified: Cache::new(10),
        }
    }

    #[tokio::test]
    async fn a_removed_key_counts_no_more_for_a_remembered_token_however_the_change_was_noticed() {
        let path = fresh_path();
        let (old, new) = (new_key(), new_key());
        publish(&path, &[("old", &old)]);
        let verifier = verifier(&path).await;
        let stolen = token("old", &old);
        assert!(verifier.verify(&stolen).await.is_ok());
        publish(&path, &[("new", &new)]);
        let remembered = verifier.verify(&stolen).await;
        assert!(remembered.is_ok(), "nobody has looked yet");
        // What a token with an unknown key id sets off; the refresh that follows sees nothing new.
        verifier.users.refresh().await.unwrap();
        assert_eq!(
            verifier.verify(&stolen).await.err(),
            Some(Failure::UnknownKey)
        );
        assert!(verifier.verify(&token("new", &new)).await.is_ok());
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn two_keys_under_one_id_both_count_while_they_are_published() {
        let path = fresh_path();
        let (old, new, other) = (new_key(), new_key(), new_key());
        publish(&path, &[("key", &old), ("key", &new)]);
        let verifier = verifier(&path).await;
        for key in [&old, &new] {
            assert!(verifier.verify(&token("key", key)).await.is_ok());
        }
        let foreign = verifier.verify(&token("key", &other)).await;
        assert_eq!(foreign.err(), Some(Failure::BadSignature));
        std::fs::remove_file(path).unwrap();
    }

    /// A verifier, and a token that it accepts.
    static SCENE: LazyLock<(Verifier, String)> = LazyLock::new(|| {
        let path = fresh_path();
        let key = new_key();
        publish(&path, &[("key", &key)]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let verifier = runtime.block_on(verifier(&path));
        std::fs::remove_file(path).unwrap();
        let good = token("key", &key);
        assert!(runtime.block_on(verifier.verify(&good)).is_ok());
        (verifier, good)
    });

    fn accepts(token: &str) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(SCENE.0.verify(token)).is_ok()
    }

    proptest! {
        #[test]
        fn no_text_is_a_token(text in ".{0,300}", head in "[A-Za-z0-9_-]{0,80}", body in "[A-Za-z0-9_-]{0,80}") {
            prop_assert!(!accepts(&text));
            let token = format!("{head}.{body}.{head}");
            prop_assert!(!accepts(&token));
        }

        #[test]
        fn no_header_makes_other_claims_a_token(alg in "(ES256|HS256|none|None|es256|RS256|)", kid in "(key|KEY|)", claims in "\\{[ -~]{0,60}\\}") {
            let head = serde_json::json!({"alg": alg, "kid": kid}).to_string();
            let signature = SCENE.1.rsplit('.').next().unwrap();
            let [head, body] = [head, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
            let token = format!("{head}.{body}.{signature}");
            prop_assert!(!accepts(&token));
        }

        #[test]
        fn a_token_with_any_character_changed_dropped_or_added_is_refused(at in any::<prop::sample::Index>(), to in any::<char>(), kind in 0..3) {
            let mut letters: Vec<char> = SCENE.1.chars().collect();
            let at = at.index(letters.len());
            match kind {
                0 => letters[at] = to,
                1 => drop(letters.remove(at)),
                _ => letters.insert(at, to),
            }
            let mutant: String = letters.into_iter().collect();
            prop_assert!(mutant == SCENE.1 || !accepts(&mutant), "{}", mutant);
        }

        #[test]
        fn a_token_with_any_bit_of_its_signature_flipped_is_refused(bit in 0..512_usize) {
            let (signed, signature) = SCENE.1.rsplit_once('.').unwrap();
            let mut signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
            signature[bit / 8] ^= 1 << (bit % 8);
            let mutant = format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature));
            prop_assert!(!accepts(&mutant));
        }
    }

    #[tokio::test]
    async fn a_remembered_token_expires() {
        let path = fresh_path();
        let key = new_key();
        publish(&path, &[("key", &key)]);
        let clock = Clock::fixed(Clock::system().now());
        let mut verifier = verifier(&path).await;
        verifier.clock = clock.clone();
        let token = token("key", &key);
        assert!(verifier.verify(&token).await.is_ok());
        clock.advance(time::Duration::minutes(11));
        assert_eq!(verifier.verify(&token).await.err(), Some(Failure::Expired));
        std::fs::remove_file(path).unwrap();
    }
}
