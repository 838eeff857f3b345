//! Who may sign what: a token is good by the key that it names, and a service signs in its own name alone.

use harness::{Caller, probe, world};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kit::TenantId;
use kit::ctx::Clock;
use serde_json::json;
use tonic::Code;

use super::cases::{CASES, Fixture};

/// The development issuer's own key.
fn issuers_key() -> EncodingKey {
    let pem = world().issuer_jwks.with_file_name("key.pem");
    EncodingKey::from_ec_pem(&std::fs::read(pem).expect("the issuer has a key"))
        .expect("a P-256 key")
}

/// A token of a user who may, with this header.
fn user_token(tenant: TenantId, header: &Header) -> String {
    let now = Clock::system().now().unix_timestamp();
    let claims = json!({
        "iss": "catalyst-development", "aud": "catalyst", "sub": "admin", "tenant_id": tenant.to_string(),
        "roles": ["admin"], "iat": now, "exp": now + 600,
    });
    jsonwebtoken::encode(header, &claims, &issuers_key()).expect("signed")
}

fn of_key(id: &str) -> Header {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(id.to_owned());
    header
}

/// What a call of this method with this token is answered.
async fn answer(own: &Fixture, method: &str, token: &str) -> Code {
    let case = CASES
        .iter()
        .find(|case| case.method.ends_with(method))
        .expect("a case");
    let caller = Caller::bare(own.firm.id)
        .with_token(token)
        .with("x-tenant-id", &own.firm.id.to_string());
    probe(&caller, case.method, own.request(case, None))
        .await
        .code
}

#[tokio::test]
async fn a_token_of_an_unknown_key_is_refused_although_another_key_signed_it() {
    let own = Fixture::new("Own").await;
    let known = user_token(own.firm.id, &of_key("development"));
    assert_eq!(answer(&own, "/GetProject", &known).await, Code::Ok);
    for header in [of_key("other"), of_key(""), Header::new(Algorithm::ES256)] {
        let token = user_token(own.firm.id, &header);
        let code = answer(&own, "/GetProject", &token).await;
        assert_eq!(code, Code::Unauthenticated, "{header:?}");
    }
}

#[tokio::test]
async fn a_signed_token_that_names_a_key_elsewhere_is_refused() {
    let own = Fixture::new("Own").await;
    let elsewhere = || Some("http://127.0.0.1:1/keys".to_owned());
    let right = || of_key("development");
    for header in [
        Header {
            jku: elsewhere(),
            ..right()
        },
        Header {
            x5u: elsewhere(),
            ..right()
        },
        Header {
            x5c: Some(vec!["AAAA".to_owned()]),
            ..right()
        },
    ] {
        let token = user_token(own.firm.id, &header);
        let code = answer(&own, "/GetProject", &token).await;
        assert_eq!(code, Code::Unauthenticated, "{header:?}");
    }
}

#[tokio::test]
async fn a_service_cannot_sign_in_the_name_of_another() {
    let own = Fixture::new("Own").await;
    let now = Clock::system().now().unix_timestamp();
    let signed_by = |signer: &str| {
        let pem = std::fs::read(world().workload_dir.join(format!("{signer}.pem")));
        let key =
            EncodingKey::from_ec_pem(&pem.expect("the service has a key")).expect("a P-256 key");
        let mut header = of_key(signer);
        header.typ = Some("catalyst-workload+jwt".to_owned());
        // LookupProject is for time-entries.
        let claims = json!({
            "iss": "catalyst-workload", "sub": "time-entries", "aud": "projects",
            "tenant_id": own.firm.id.to_string(), "iat": now, "exp": now + 60,
        });
        jsonwebtoken::encode(&header, &claims, &key).expect("signed")
    };
    let code = answer(&own, "/LookupProject", &signed_by("time-entries")).await;
    assert_eq!(code, Code::Ok);
    let code = answer(&own, "/LookupProject", &signed_by("audit")).await;
    assert_eq!(code, Code::Unauthenticated);
}
