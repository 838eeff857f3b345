//! NATS tokens (JWT, version 2): claims in JSON, signed with an Ed25519 key of NATS's own encoding.

use anyhow::Context as _;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512_256};
use time::OffsetDateTime;

/// Signs the claims that `issuer` makes about `subject`, a public key, as of now.
pub(super) fn sign(
    issuer: &KeyPair,
    subject: &str,
    name: &str,
    nats: &Value,
) -> anyhow::Result<String> {
    sign_as_of(now(), issuer, subject, name, nats)
}

/// The second that a token was issued in; none if it is no token.
pub(super) fn issued_at(jwt: &str) -> Option<i64> {
    let body = BASE64URL_NOPAD.decode(jwt.split('.').nth(1)?.as_bytes());
    let claims: Value = serde_json::from_slice(&body.ok()?).ok()?;
    claims.get("iat")?.as_i64()
}

/// Signs claims as of the second `issued_at`.
pub(super) fn sign_as_of(
    issued_at: i64,
    issuer: &KeyPair,
    subject: &str,
    name: &str,
    nats: &Value,
) -> anyhow::Result<String> {
    let mut claims = Map::from_iter([
        ("iat".to_owned(), json!(issued_at)),
        ("iss".to_owned(), json!(issuer.public_key())),
        ("name".to_owned(), json!(name)),
        ("nats".to_owned(), nats.clone()),
        ("sub".to_owned(), json!(subject)),
    ]);
    let id = BASE32_NOPAD.encode(&Sha512_256::digest(serde_json::to_vec(&claims)?));
    claims.insert("jti".to_owned(), json!(id));
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(&serde_json::to_vec(&header)?),
        BASE64URL_NOPAD.encode(&serde_json::to_vec(&claims)?)
    );
    let signature = issuer
        .sign(signed.as_bytes())
        .context("cannot sign a NATS token")?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Seconds since 1970, the time of all NATS claims.
#[expect(
    clippy::disallowed_methods,
    reason = "the server judges a token by the clock of the machine; there is no `Ctx` here"
)]
pub(super) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// The text of a `.creds` file.
pub(super) fn credentials(jwt: &str, user: &KeyPair) -> anyhow::Result<String> {
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         The seed below proves who its holder is: keep it secret.\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n",
        user.seed().context("the user's key has no seed")?
    ))
}
