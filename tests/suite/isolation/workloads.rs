//! Tokens of services: for one service, one tenant and minutes, and signed by the service that they name.

use harness::Caller;
use kit::TenantId;
use kit::ctx::Clock;
use proto::common::v1::AuthenticationFailure as Failure;
use serde_json::{Value, json};
use tonic::Code;

use super::forge::{Attacker, Key, changed, without};

use Failure::{BadSignature, ClaimsInvalid, Expired, UnknownKey, WrongIssuerOrAudience};

const HEADER: &str = r#"{"alg":"ES256","kid":"time-entries","typ":"catalyst-workload+jwt"}"#;

fn now() -> i64 {
    Clock::system().now().unix_timestamp()
}

/// What time-entries says when it looks a project up.
fn claims(tenant: TenantId) -> Value {
    let now = now();
    json!({"iss": "catalyst-workload", "sub": "time-entries", "aud": "projects", "tenant_id": tenant.to_string(),
           "iat": now, "exp": now + 60})
}

#[tokio::test]
async fn a_service_that_may_look_up_is_let_in_for_at_most_five_minutes() {
    let attacker = Attacker::on("/LookupProject").await;
    let right = claims(attacker.tenant());
    for lifetime in [1, 60, 300] {
        let body = changed(&right, "exp", json!(now() + lifetime));
        let token = Key::of_service("time-entries").token(HEADER, &body);
        let answer = attacker.answer(&attacker.caller().with_token(&token)).await;
        assert_eq!(answer.code, Code::Ok, "{lifetime} s: {}", answer.message);
    }
}

#[tokio::test]
async fn a_workload_token_that_lives_too_long_or_delegates_no_tenant_is_refused() {
    let mut attacker = Attacker::on("/LookupProject").await;
    let key = Key::of_service("time-entries");
    let right = claims(attacker.tenant());
    let now = now();
    let aged = |age: i64, left: i64| {
        let mut claims = right.clone();
        claims["iat"] = json!(now - age);
        claims["exp"] = json!(now + left);
        claims.to_string()
    };
    for (attack, reason, body) in [
        ("expired", Expired, aged(120, -60)),
        ("ten minutes to live", ClaimsInvalid, aged(0, 600)),
        (
            "made for an hour, a minute of it left",
            ClaimsInvalid,
            aged(3_540, 60),
        ),
        (
            "not begun",
            Expired,
            changed(&right, "nbf", json!(now + 600)),
        ),
        ("from the future", Expired, aged(-600, 60)),
        ("without iat", ClaimsInvalid, without(&right, "iat")),
        ("without exp", ClaimsInvalid, without(&right, "exp")),
        (
            "without a tenant",
            ClaimsInvalid,
            without(&right, "tenant_id"),
        ),
        (
            "every tenant",
            ClaimsInvalid,
            changed(&right, "tenant_id", json!("*")),
        ),
        (
            "two tenants",
            ClaimsInvalid,
            changed(
                &right,
                "tenant_id",
                json!([right["tenant_id"], right["tenant_id"]]),
            ),
        ),
        (
            "the nil tenant",
            ClaimsInvalid,
            changed(
                &right,
                "tenant_id",
                json!("00000000-0000-0000-0000-000000000000"),
            ),
        ),
        (
            "nobody's tenant",
            ClaimsInvalid,
            changed(&right, "tenant_id", json!(TenantId::NONE.to_string())),
        ),
        (
            "for another service",
            WrongIssuerOrAudience,
            changed(&right, "aud", json!("consultants")),
        ),
        (
            "of the users' issuer",
            WrongIssuerOrAudience,
            changed(&right, "iss", json!("catalyst-development")),
        ),
        (
            "in another service's name",
            ClaimsInvalid,
            changed(&right, "sub", json!("consultants")),
        ),
    ] {
        attacker
            .fails(attack, reason, &key.token(HEADER, &body))
            .await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn no_key_signs_for_another_service_or_for_a_user() {
    let mut attacker = Attacker::on("/LookupProject").await;
    let right = claims(attacker.tenant());
    let body = right.to_string();
    let (own, other) = (Key::of_service("time-entries"), Key::of_service("audit"));
    let header = |kid: &str, typ: &str| json!({"alg": "ES256", "kid": kid, "typ": typ}).to_string();
    let workload = "catalyst-workload+jwt";
    let mut user = right.clone();
    user["iss"] = json!("catalyst-development");
    user["aud"] = json!("catalyst");
    user["roles"] = json!(["admin"]);
    for (attack, reason, token) in [
        (
            "another service's key under this one's id",
            BadSignature,
            other.token(HEADER, &body),
        ),
        (
            "another service's key in this one's name",
            ClaimsInvalid,
            other.token(&header("audit", workload), &body),
        ),
        (
            "the issuer's key for a service",
            UnknownKey,
            Key::of_issuer().token(&header("development", workload), &body),
        ),
        (
            "the issuer's key under a service's id",
            BadSignature,
            Key::of_issuer().token(HEADER, &body),
        ),
        (
            "a service's key for a user",
            UnknownKey,
            own.token(&header("time-entries", "JWT"), &user.to_string()),
        ),
        (
            "a service's key under the issuer's id",
            BadSignature,
            own.token(&header("development", "JWT"), &user.to_string()),
        ),
        (
            "a service's token as a user's",
            UnknownKey,
            own.token(&header("time-entries", "JWT"), &body),
        ),
        (
            "the type in other letters",
            UnknownKey,
            own.token(&header("time-entries", "Catalyst-Workload+JWT"), &body),
        ),
        (
            "a service that does not exist",
            UnknownKey,
            own.token(&header("payroll", workload), &body),
        ),
    ] {
        attacker.fails(attack, reason, &token).await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn a_user_is_not_let_in_where_services_call_nor_a_service_that_may_not() {
    let attacker = Attacker::on("/LookupProject").await;
    let tenant = attacker.tenant();
    let user = Caller::user(tenant, "admin", &["admin"]);
    let stranger = Caller::service("audit", "projects", tenant);
    for caller in [user, stranger] {
        let answer = attacker.answer(&caller).await;
        assert_eq!(answer.code, Code::PermissionDenied);
    }
}
