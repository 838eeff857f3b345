//! Tokens that are not what they claim: each is refused with the same bytes as no token at all.

use data_encoding::BASE64URL_NOPAD as BASE64;
use harness::{probe, world};
use kit::TenantId;
use kit::ctx::Clock;
use serde_json::{Value, json};
use tonic::Code;

use super::cases::{CASES, Case, Fixture};

/// Claims that would be right.
fn claims(tenant: TenantId) -> Value {
    let now = Clock::system().now().unix_timestamp();
    json!({"iss": "catalyst-development", "aud": "catalyst", "sub": "admin", "tenant_id": tenant.to_string(),
           "roles": ["admin"], "iat": now, "exp": now + 600})
}

fn get_project() -> &'static Case {
    CASES
        .iter()
        .find(|case| case.method.ends_with("/GetProject"))
        .expect("a case")
}

/// What the server answers to a token, beside what it answers to none.
async fn is_refused_like_none(own: &Fixture, attack: &str, token: &str) {
    let case = get_project();
    let caller = own.firm.user("x", &["admin"]);
    let none = caller.clone().without("authorization");
    let constant = probe(&none, case.method, own.request(case, None)).await;
    assert_eq!(constant.code, Code::Unauthenticated);
    let answer = probe(
        &caller.with_token(token),
        case.method,
        own.request(case, None),
    )
    .await;
    assert_eq!(answer, constant, "{attack}");
}

#[tokio::test]
async fn the_unchanged_token_is_good() {
    let own = Fixture::new("Own").await;
    let token = world().issuer.sign(&claims(own.firm.id)).expect("signed");
    let caller = own.firm.user("x", &["admin"]).with_token(&token);
    let case = get_project();
    let answer = probe(&caller, case.method, own.request(case, None)).await;
    assert_eq!(answer.code, Code::Ok, "{}", answer.message);
}

#[tokio::test]
async fn a_token_with_a_claim_that_is_wrong_missing_or_of_another_type_is_refused() {
    let own = Fixture::new("Own").await;
    let tenant = own.firm.id.to_string();
    let now = Clock::system().now().unix_timestamp();
    let wrong = [
        ("exp", json!(now - 60)),
        ("exp", json!("9999999999")),
        ("exp", json!(9_999_999_999.5)),
        ("exp", json!(1_u64 << 63)),
        ("exp", json!(-1)),
        ("nbf", json!(now + 3_600)),
        ("iat", json!(now + 3_600)),
        ("aud", json!("other")),
        ("aud", json!(["other", "third"])),
        ("iss", json!("other")),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("tenant_id", json!("acme")),
        ("tenant_id", json!(format!("{{{tenant}}}"))),
        ("roles", json!(["god"])),
        ("roles", json!("admin")),
        ("padding", json!("x".repeat(9_000))),
    ];
    for (name, value) in wrong {
        let mut claims = claims(own.firm.id);
        claims[name] = value.clone();
        let token = world().issuer.sign(&claims).expect("signed");
        is_refused_like_none(&own, &format!("{name} is {value}"), &token).await;
    }
    for name in ["exp", "iss", "aud", "sub", "tenant_id", "roles"] {
        let mut claims = claims(own.firm.id);
        claims.as_object_mut().expect("an object").remove(name);
        let token = world().issuer.sign(&claims).expect("signed");
        is_refused_like_none(&own, &format!("no {name}"), &token).await;
    }
}

#[tokio::test]
async fn a_token_whose_header_chooses_another_key_or_algorithm_is_refused() {
    let own = Fixture::new("Own").await;
    let right = world().issuer.sign(&claims(own.firm.id)).expect("signed");
    let (_, body_and_signature) = right.split_once('.').expect("a JWT");
    let headers = [
        json!({"alg": "none", "kid": "development"}),
        json!({"alg": "HS256", "kid": "development"}),
        json!({"alg": "ES384", "kid": "development"}),
        json!({"alg": "ES256"}),
        json!({"alg": "ES256", "kid": "other"}),
        json!({"alg": "ES256", "kid": "../../etc/passwd"}),
        json!({"alg": "ES256", "kid": "'; drop table x; --"}),
        json!({"alg": "ES256", "kid": "http://127.0.0.1:1/key"}),
        json!({"alg": "ES256", "kid": "development", "jku": "http://127.0.0.1:1/keys"}),
        json!({"alg": "ES256", "kid": "development", "x5u": "http://127.0.0.1:1/chain"}),
    ];
    for header in headers {
        let token = format!(
            "{}.{body_and_signature}",
            BASE64.encode(header.to_string().as_bytes())
        );
        is_refused_like_none(&own, &header.to_string(), &token).await;
    }
}

#[tokio::test]
async fn a_token_signed_with_the_public_key_as_a_shared_secret_is_refused() {
    let own = Fixture::new("Own").await;
    let public = std::fs::read(&world().issuer_jwks).expect("the public keys");
    let key = jsonwebtoken::EncodingKey::from_secret(&public);
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("development".to_owned());
    let token = jsonwebtoken::encode(&header, &claims(own.firm.id), &key).expect("signed");
    is_refused_like_none(&own, "HS256 with the public key", &token).await;
}

#[tokio::test]
async fn a_token_that_was_changed_or_cut_is_refused() {
    let own = Fixture::new("Own").await;
    let right = world().issuer.sign(&claims(own.firm.id)).expect("signed");
    let mut parts = right.split('.');
    let (header, _, signature) = (parts.next(), parts.next(), parts.next());
    let (header, signature) = (header.expect("a header"), signature.expect("a signature"));
    let other_body = BASE64.encode(claims(TenantId::PLATFORM).to_string().as_bytes());
    for (attack, token) in [
        ("another body", format!("{header}.{other_body}.{signature}")),
        ("a cut signature", right[..right.len() - 4].to_owned()),
        (
            "no signature",
            right[..right.len() - signature.len()].to_owned(),
        ),
        ("no JWT", "nonsense".to_owned()),
        ("nothing", String::new()),
        ("longer than 8 KiB", "x".repeat(12_000)),
    ] {
        is_refused_like_none(&own, attack, &token).await;
    }
}
