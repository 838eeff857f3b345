//! Tokens that are not what they claim: each is refused with the same bytes as no token at all, and is on record under
//! its reason. Unless an attack is on the signature itself, the issuer's true key has signed it.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use harness::{Firm, world};
use kit::TenantId;
use kit::ctx::Clock;
use proto::common::v1::AuthenticationFailure as Failure;
use serde_json::{Value, json};
use tonic::Code;

use super::forge::{Attacker, Key, changed, unsigned, with_signature, without};

use Failure::{
    BadSignature, ClaimsInvalid, Expired, Malformed, Missing, UnknownKey, WrongIssuerOrAudience,
};

const HEADER: &str = r#"{"alg":"ES256","kid":"development","typ":"JWT"}"#;

fn now() -> i64 {
    Clock::system().now().unix_timestamp()
}

/// Claims that would be right.
fn claims(tenant: TenantId) -> Value {
    let now = now();
    json!({"iss": "catalyst-development", "aud": "catalyst", "sub": "admin", "tenant_id": tenant.to_string(),
           "roles": ["admin"], "iat": now, "exp": now + 600})
}

#[tokio::test]
async fn a_token_in_order_is_good_in_each_of_its_forms() {
    let attacker = Attacker::on("/GetProject").await;
    let key = Key::of_issuer();
    let right = claims(attacker.tenant());
    let now = now();
    for (form, header, body) in [
        ("the usual one", HEADER, right.to_string()),
        (
            "without typ",
            r#"{"alg":"ES256","kid":"development"}"#,
            right.to_string(),
        ),
        (
            "for several audiences",
            HEADER,
            changed(&right, "aud", json!(["other", "catalyst"])),
        ),
        (
            "a role twice",
            HEADER,
            changed(&right, "roles", json!(["admin", "admin"])),
        ),
        (
            "from a while ago",
            HEADER,
            changed(&right, "nbf", json!(now - 60)),
        ),
        ("without iat", HEADER, without(&right, "iat")),
    ] {
        let caller = attacker.caller().with_token(&key.token(header, &body));
        assert_eq!(attacker.answer(&caller).await.code, Code::Ok, "{form}");
    }
    // The scheme's name has no case.
    let token = key.token(HEADER, &right.to_string());
    let lower = attacker
        .caller()
        .with("authorization", &format!("bearer {token}"));
    assert_eq!(attacker.answer(&lower).await.code, Code::Ok);
}

#[tokio::test]
async fn a_claim_that_is_wrong_missing_or_of_another_type_spoils_a_token() {
    let mut attacker = Attacker::on("/GetProject").await;
    let key = Key::of_issuer();
    let tenant = attacker.tenant().to_string();
    let right = claims(attacker.tenant());
    let now = now();
    let huge = json!(1_u64 << 63);
    let wrong = [
        ("exp", json!(now - 60), Expired),
        ("exp", json!(0), Expired),
        ("exp", json!(now + 25 * 3_600), ClaimsInvalid),
        ("exp", json!("9999999999"), ClaimsInvalid),
        ("exp", json!((now + 600).to_string()), ClaimsInvalid),
        ("exp", json!(9_999_999_999.5), ClaimsInvalid),
        ("exp", huge.clone(), ClaimsInvalid),
        ("exp", json!(-1), ClaimsInvalid),
        ("exp", json!(null), ClaimsInvalid),
        ("exp", json!([now + 600]), ClaimsInvalid),
        ("nbf", json!(now + 3_600), Expired),
        ("nbf", huge.clone(), Expired),
        ("nbf", json!("0"), ClaimsInvalid),
        ("nbf", json!(0.5), ClaimsInvalid),
        ("nbf", json!(-1), ClaimsInvalid),
        ("nbf", json!(null), ClaimsInvalid),
        ("nbf", json!([0]), ClaimsInvalid),
        ("iat", json!(now + 3_600), Expired),
        ("iat", huge, Expired),
        ("iat", json!(now - 25 * 3_600), ClaimsInvalid),
        ("iat", json!("0"), ClaimsInvalid),
        ("iat", json!(-1), ClaimsInvalid),
        ("iat", json!(null), ClaimsInvalid),
        ("aud", json!("other"), WrongIssuerOrAudience),
        ("aud", json!("Catalyst"), WrongIssuerOrAudience),
        ("aud", json!(["other", "third"]), WrongIssuerOrAudience),
        ("aud", json!([]), WrongIssuerOrAudience),
        ("aud", json!(7), ClaimsInvalid),
        ("aud", json!(null), ClaimsInvalid),
        ("iss", json!("other"), WrongIssuerOrAudience),
        ("iss", json!("catalyst-workload"), WrongIssuerOrAudience),
        ("iss", json!(["catalyst-development"]), ClaimsInvalid),
        ("iss", json!(null), ClaimsInvalid),
        ("sub", json!(""), ClaimsInvalid),
        ("sub", json!(7), ClaimsInvalid),
        ("sub", json!(null), ClaimsInvalid),
        ("sub", json!("a\u{0}b"), ClaimsInvalid),
        ("sub", json!("x".repeat(256)), ClaimsInvalid),
        ("tenant_id", json!("acme"), ClaimsInvalid),
        ("tenant_id", json!(""), ClaimsInvalid),
        ("tenant_id", json!(null), ClaimsInvalid),
        ("tenant_id", json!([tenant]), ClaimsInvalid),
        ("tenant_id", json!(format!("{{{tenant}}}")), ClaimsInvalid),
        ("tenant_id", json!(tenant.replace('-', "")), ClaimsInvalid),
        ("tenant_id", json!(format!(" {tenant}")), ClaimsInvalid),
        (
            "tenant_id",
            json!("0190ABCD-0000-7000-8000-00000000ABCD"),
            ClaimsInvalid,
        ),
        (
            "tenant_id",
            json!("00000000-0000-0000-0000-000000000000"),
            ClaimsInvalid,
        ),
        (
            "tenant_id",
            json!(TenantId::NONE.to_string()),
            ClaimsInvalid,
        ),
        ("roles", json!(["god"]), ClaimsInvalid),
        ("roles", json!(["admin", "god"]), ClaimsInvalid),
        ("roles", json!("admin"), ClaimsInvalid),
        ("roles", json!([["admin"]]), ClaimsInvalid),
        ("roles", json!({"admin": true}), ClaimsInvalid),
        ("roles", json!(null), ClaimsInvalid),
        ("roles", json!(vec!["admin"; 1_000]), Malformed),
        ("padding", json!("x".repeat(6_000)), Malformed),
    ];
    for (name, value, reason) in wrong {
        let token = key.token(HEADER, &changed(&right, name, value.clone()));
        let attack = format!("{name} is {value:.60}");
        attacker.fails(&attack, reason, &token).await;
    }
    for name in ["exp", "iss", "aud", "sub", "tenant_id", "roles"] {
        let token = key.token(HEADER, &without(&right, name));
        let attack = format!("no {name}");
        attacker.fails(&attack, ClaimsInvalid, &token).await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn a_body_that_can_be_read_in_two_ways_or_is_none_spoils_a_token() {
    let mut attacker = Attacker::on("/GetProject").await;
    let key = Key::of_issuer();
    let other = Firm::new("Other").await;
    let right = claims(attacker.tenant());
    let text = right.to_string();
    let open = text.strip_suffix('}').expect("an object");
    for (name, second) in [
        ("tenant_id", json!(other.id.to_string())),
        ("tenant_id", right["tenant_id"].clone()),
        ("exp", json!(now() + 900)),
        ("roles", json!(["platform_operator"])),
        ("sub", json!("other")),
        ("iss", right["iss"].clone()),
        ("aud", right["aud"].clone()),
        ("iat", right["iat"].clone()),
    ] {
        let token = key.token(HEADER, &format!("{open},\"{name}\":{second}}}"));
        let attack = format!("{name} twice, the second time {second}");
        attacker.fails(&attack, ClaimsInvalid, &token).await;
    }
    let inner = key.token(HEADER, &text);
    for (attack, body) in [
        ("more after the end", format!("{text}{text}")),
        ("a list", format!("[{text}]")),
        ("a text", format!("{text:?}")),
        ("cut", open.to_owned()),
        ("empty", String::new()),
        ("null", "null".to_owned()),
        ("a token within the token", inner),
        ("very deep", "[".repeat(4_000)),
    ] {
        let token = key.token(HEADER, &body);
        attacker.fails(attack, ClaimsInvalid, &token).await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn a_header_that_chooses_another_key_or_algorithm_spoils_a_token() {
    let mut attacker = Attacker::on("/GetProject").await;
    let key = Key::of_issuer();
    let body = claims(attacker.tenant()).to_string();
    let public = std::fs::read_to_string(&world().issuer_jwks).expect("the public keys");
    let public: Value = serde_json::from_str(&public).expect("JSON");
    let address = "http://127.0.0.1:1/keys";
    let with_kid = |kid: Value| json!({"alg": "ES256", "kid": kid}).to_string();
    let also = |name: &str, value: Value| {
        let mut header = json!({"alg": "ES256", "kid": "development"});
        header[name] = value;
        header.to_string()
    };
    let with_alg = |alg: Value| json!({"alg": alg, "kid": "development"}).to_string();
    let mut headers = vec![
        (with_kid(json!("other")), UnknownKey),
        (with_kid(json!("Development")), UnknownKey),
        (with_kid(json!("development\u{0}")), UnknownKey),
        (with_kid(json!("../../x")), UnknownKey),
        (with_kid(json!("'; drop table x; --")), UnknownKey),
        (with_kid(json!(address)), UnknownKey),
        (with_kid(json!("")), UnknownKey),
        // The key of a service is none of the issuer's.
        (with_kid(json!("projects")), UnknownKey),
        (with_kid(json!(null)), UnknownKey),
        (r#"{"alg":"ES256"}"#.to_owned(), UnknownKey),
        (with_kid(json!(7)), Malformed),
        (with_kid(json!(["development"])), Malformed),
        (with_kid(json!("x".repeat(8_000))), Malformed),
        (r#"{"kid":"development"}"#.to_owned(), Malformed),
        (with_alg(json!(null)), Malformed),
        (with_alg(json!(["ES256"])), Malformed),
        (
            r#"{"alg":"ES256","kid":"other","kid":"development"}"#.to_owned(),
            Malformed,
        ),
        (
            r#"{"alg":"none","alg":"ES256","kid":"development"}"#.to_owned(),
            Malformed,
        ),
        (format!("{HEADER} {{}}"), Malformed),
        (format!("[{HEADER}]"), Malformed),
        (String::new(), Malformed),
        (also("jwk", public["keys"][0].clone()), Malformed),
        (also("jku", json!(address)), Malformed),
        (also("x5u", json!(address)), Malformed),
        (also("x5c", json!(["MIIB"])), Malformed),
        (also("crit", json!(["exp"])), Malformed),
        (also("crit", json!(null)), Malformed),
        (also("b64", json!(false)), Malformed),
        (also("zip", json!("DEF")), Malformed),
        (also("enc", json!("A128GCM")), Malformed),
        (also("typ", json!("catalyst-workload+jwt")), UnknownKey),
    ];
    for alg in [
        "none", "None", "NONE", "es256", "Es256", "", "HS256", "RS256", "PS256", "ES384", "ES512",
        "EdDSA", "ES256K",
    ] {
        headers.push((with_alg(json!(alg)), BadSignature));
    }
    for (header, reason) in headers {
        let token = key.token(&header, &body);
        attacker
            .fails(&format!("{header:.100}"), reason, &token)
            .await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn a_signature_by_anything_but_the_issuers_private_key_spoils_a_token() {
    let mut attacker = Attacker::on("/GetProject").await;
    let key = Key::of_issuer();
    let body = claims(attacker.tenant()).to_string();
    let set = std::fs::read(&world().issuer_jwks).expect("the public keys");
    let jwk: Value = serde_json::from_slice(&set).expect("JSON");
    let point = key.public_point();
    // What a public P-256 key is wrapped in: SubjectPublicKeyInfo.
    let mut der = BASE64
        .decode(b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE")
        .expect("base64");
    der.extend(&point[1..]);
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n",
        &BASE64.encode(&der)[..64],
        &BASE64.encode(&der)[64..]
    );
    let secrets = [
        ("the set", set),
        ("the JWK", jwk["keys"][0].to_string().into_bytes()),
        ("PEM", pem.clone().into_bytes()),
        ("PEM, trimmed", pem.trim().as_bytes().to_vec()),
        ("DER", der),
        ("the point", point),
        ("nothing", Vec::new()),
    ];
    for (form, secret) in secrets {
        for alg in ["HS256", "ES256"] {
            let header = json!({"alg": alg, "kid": "development"}).to_string();
            let signed = unsigned(&header, &body);
            let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let mac = aws_lc_rs::hmac::sign(&mac, signed.as_bytes());
            let attack = format!("{alg} with {form} as a shared secret");
            let token = with_signature(&signed, mac.as_ref());
            attacker.fails(&attack, BadSignature, &token).await;
        }
    }

    let signed = unsigned(HEADER, &body);
    let mut one = [0_u8; 64];
    one[63] = 1;
    let order: Vec<u8> = data_encoding::HEXUPPER
        .decode(b"FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551")
        .expect("the order of the curve");
    let other = key.token(
        HEADER,
        &changed(&claims(attacker.tenant()), "sub", json!("x")),
    );
    let other = other.rsplit('.').next().expect("a signature");
    let right = key.token(HEADER, &body);
    let signature = right.rsplit('.').next().expect("a signature");
    let whole = BASE64URL_NOPAD
        .decode(signature.as_bytes())
        .expect("base64");
    for (attack, token) in [
        ("no signature", format!("{signed}.")),
        ("zeros", with_signature(&signed, &[0; 64])),
        ("zero and one", with_signature(&signed, &one)),
        ("the order twice", with_signature(&signed, &order.repeat(2))),
        ("zeros, too short", with_signature(&signed, &[0; 63])),
        (
            "zeros, in DER",
            with_signature(&signed, &[0x30, 6, 2, 1, 0, 2, 1, 0]),
        ),
        ("in DER", key.token_in_der(HEADER, &body)),
        ("another token's", format!("{signed}.{other}")),
        (
            "a service's",
            Key::of_service("projects").token(HEADER, &body),
        ),
        ("cut", with_signature(&signed, &whole[..60])),
        (
            "of alg none",
            format!(
                "{}.",
                unsigned(r#"{"alg":"none","kid":"development"}"#, &body)
            ),
        ),
    ] {
        attacker.fails(attack, BadSignature, &token).await;
    }
    let platform = unsigned(HEADER, &claims(TenantId::PLATFORM).to_string());
    let swapped = format!("{platform}.{signature}");
    attacker.fails("another body", BadSignature, &swapped).await;
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn a_token_in_another_spelling_is_none() {
    let mut attacker = Attacker::on("/GetProject").await;
    let key = Key::of_issuer();
    let body = claims(attacker.tenant()).to_string();
    let right = key.token(HEADER, &body);
    let parts: Vec<&str> = right.split('.').collect();
    let [header, body, signature] = parts[..] else {
        panic!("three parts");
    };
    let stray = {
        // The last letter of 64 bytes carries four bits that mean nothing.
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = letters.find(&signature[85..]).expect("a letter");
        format!("{}{}", &signature[..85], &letters[at + 1..at + 2])
    };
    let jwe = BASE64URL_NOPAD.encode(br#"{"alg":"dir","enc":"A128GCM","kid":"development"}"#);
    for (attack, token) in [
        ("two parts", format!("{header}.{body}")),
        ("four parts", format!("{right}.{signature}")),
        ("four parts, one empty", format!("{right}.")),
        ("five parts", format!("{jwe}..{header}.{body}.{signature}")),
        ("a part before", format!(".{right}")),
        ("padding", format!("{right}==")),
        ("padding within", format!("{header}=.{body}.{signature}")),
        ("a space within", format!("{header} .{body}.{signature}")),
        ("a space after", format!("{right} x")),
        ("two spaces before", format!(" {right}")),
        ("a tab before", format!("\t{right}")),
        ("stray bits", format!("{header}.{body}.{stray}")),
        (
            "standard base64",
            format!("{header}.{body}.+/{}", &signature[2..]),
        ),
        ("twice", format!("{right},{right}")),
        (
            "JSON",
            json!({"protected": header, "payload": body, "signature": signature}).to_string(),
        ),
        ("dots", "..".to_owned()),
        ("nonsense", "nonsense".to_owned()),
        ("nothing", String::new()),
        ("a byte too long", "x".repeat(8 * 1024 + 1)),
    ] {
        attacker.fails(attack, Malformed, &token).await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn a_token_anywhere_but_alone_in_its_place_is_none() {
    let mut attacker = Attacker::on("/GetProject").await;
    let body = claims(attacker.tenant()).to_string();
    let token = Key::of_issuer().token(HEADER, &body);
    let bearer = format!("Bearer {token}");
    let bare = attacker.caller();
    for (attack, reason, caller) in [
        (
            "twice the same",
            Missing,
            bare.clone()
                .with("authorization", &bearer)
                .with("authorization", &bearer),
        ),
        (
            "beside nonsense",
            Missing,
            bare.clone()
                .with("authorization", "Bearer x")
                .with("authorization", &bearer),
        ),
        (
            "under another name",
            Missing,
            bare.clone()
                .with("proxy-authorization", &bearer)
                .with("x-authorization", &bearer)
                .with("cookie", &format!("authorization={token}")),
        ),
        (
            "in binary metadata",
            Missing,
            bare.clone()
                .with_bin("authorization-bin", bearer.as_bytes()),
        ),
        (
            "as a password",
            Malformed,
            bare.clone()
                .with("authorization", &format!("Basic {token}")),
        ),
        (
            "without a scheme",
            Malformed,
            bare.clone().with("authorization", &token),
        ),
        (
            "a scheme alone",
            Malformed,
            bare.clone().with("authorization", "Bearer"),
        ),
        (
            "two in one",
            Malformed,
            bare.clone()
                .with("authorization", &format!("{bearer}, {bearer}")),
        ),
    ] {
        attacker.fails_as(attack, reason, &caller).await;
    }
    attacker.finds_all_on_record().await;
}

#[tokio::test]
async fn more_than_any_header_may_hold_is_refused_by_the_transport() {
    let attacker = Attacker::on("/GetProject").await;
    let roles = json!(vec!["admin"; 100_000]);
    let body = changed(&claims(attacker.tenant()), "roles", roles);
    let token = Key::of_issuer().token(HEADER, &body);
    let answer = attacker.answer(&attacker.caller().with_token(&token)).await;
    assert_ne!(answer.code, Code::Ok);
    assert_eq!(answer.body, None);
}

#[tokio::test]
async fn a_token_of_the_platform_opens_no_tenant() {
    let attacker = Attacker::on("/GetProject").await;
    let mut claims = claims(TenantId::PLATFORM);
    claims["roles"] = json!(["admin", "platform_operator"]);
    let token = Key::of_issuer().token(HEADER, &claims.to_string());
    let caller = attacker.caller().with_token(&token);
    let answer = attacker.answer(&caller).await;
    assert_eq!(answer.code, Code::PermissionDenied);
    let caller = caller
        .without("x-tenant-id")
        .with("x-tenant-id", &TenantId::PLATFORM.to_string());
    let answer = attacker.answer(&caller).await;
    assert_eq!(answer.code, Code::PermissionDenied);
}
