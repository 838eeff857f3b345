//! Tokens that nobody should take: one of each way to forge, age or misdirect one.

use data_encoding::BASE64URL_NOPAD as BASE64;
use harness::world;
use kit::TenantId;
use kit::ctx::Clock;
use serde_json::{Value, json};

/// A token, and what is on record of its refusal.
#[derive(Clone)]
pub(super) struct Forgery {
    /// What is wrong with it.
    pub(super) note: &'static str,
    pub(super) token: String,
    /// The value of `AuthenticationFailure` without its prefix.
    pub(super) failure: &'static str,
    /// Whether the token was made by someone without a key, as against a right one in the wrong place or time.
    pub(super) is_forged: bool,
}

impl Forgery {
    /// How much the refusal asks for attention.
    pub(super) fn severity(&self) -> &'static str {
        match self.failure {
            "BAD_SIGNATURE" | "UNKNOWN_KEY" => "MEDIUM",
            _ => "LOW",
        }
    }
}

/// Tokens in the name of an admin of `tenant`.
pub(super) fn forgeries(tenant: TenantId) -> Vec<Forgery> {
    let now = Clock::system().now().unix_timestamp();
    let claims = json!({"iss": "catalyst-development", "aud": "catalyst", "sub": "admin",
        "tenant_id": tenant.to_string(), "roles": ["admin"], "iat": now, "exp": now + 3_600});
    let sign = |claims: &Value| world().issuer.sign(claims).expect("signed");
    let right = sign(&claims);
    let (_, after_header) = right.split_once('.').expect("a JWT");
    let headed = |header: Value| {
        format!(
            "{}.{after_header}",
            BASE64.encode(header.to_string().as_bytes())
        )
    };
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        sign(&changed)
    };
    let mut parts = right.split('.');
    let (header, signature) = (parts.next().expect("a header"), parts.next_back());
    let platform = with("tenant_id", json!(TenantId::PLATFORM.to_string()));
    let body = platform.split('.').nth(1).expect("a body");
    let spliced = format!("{header}.{body}.{}", signature.expect("a signature"));

    let forged = |note, token, failure| Forgery {
        note,
        token,
        failure,
        is_forged: true,
    };
    let misplaced = |note, token, failure| Forgery {
        note,
        token,
        failure,
        is_forged: false,
    };
    vec![
        forged("the signature of another body", spliced, "BAD_SIGNATURE"),
        forged(
            "signed with the public key as a secret",
            shared_secret(&claims),
            "BAD_SIGNATURE",
        ),
        forged(
            "algorithm none",
            headed(json!({"alg": "none", "kid": "development"})),
            "BAD_SIGNATURE",
        ),
        forged(
            "an unknown key",
            headed(json!({"alg": "ES256", "kid": "other"})),
            "UNKNOWN_KEY",
        ),
        forged(
            "a key by path",
            headed(json!({"alg": "ES256", "kid": "../../etc/passwd"})),
            "UNKNOWN_KEY",
        ),
        forged(
            "a key by statement",
            headed(json!({"alg": "ES256", "kid": "'; drop table x; --"})),
            "UNKNOWN_KEY",
        ),
        forged(
            "a key by address",
            headed(json!({"alg": "ES256", "kid": "development", "jku": "http://127.0.0.1:1/keys"})),
            "MALFORMED",
        ),
        misplaced("expired", with("exp", json!(now - 3_600)), "EXPIRED"),
        misplaced("not yet good", with("nbf", json!(now + 3_600)), "EXPIRED"),
        misplaced(
            "for another audience",
            with("aud", json!("other")),
            "WRONG_ISSUER_OR_AUDIENCE",
        ),
        misplaced(
            "of another issuer",
            with("iss", json!("other")),
            "WRONG_ISSUER_OR_AUDIENCE",
        ),
        misplaced("of nobody", with("sub", json!("")), "CLAIMS_INVALID"),
        misplaced(
            "of no tenant",
            with("tenant_id", json!("acme")),
            "CLAIMS_INVALID",
        ),
    ]
}

fn shared_secret(claims: &Value) -> String {
    let public = std::fs::read(&world().issuer_jwks).expect("the public keys");
    let key = jsonwebtoken::EncodingKey::from_secret(&public);
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("development".to_owned());
    jsonwebtoken::encode(&header, claims, &key).expect("signed")
}
