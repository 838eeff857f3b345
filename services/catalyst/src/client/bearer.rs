//! Tokens on the client's side: carried, never shown by accident, never verified.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use data_encoding::BASE64URL_NOPAD;
use kit::TenantId;
use serde::Deserialize;

use super::output::Output;
use super::{ClientOptions, OPERATOR};

/// A bearer token.
#[derive(Clone)]
pub(super) struct Bearer(String);

#[derive(Deserialize)]
struct Claims {
    tenant_id: String,
}

impl Bearer {
    pub(super) fn new(token: String) -> Self {
        Self(token)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The tenant that it says it is for. Only the server can tell whether that is true.
    pub(super) fn tenant(&self) -> anyhow::Result<TenantId> {
        let claims = || {
            let payload = self.0.split('.').nth(1)?;
            let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
            let claims: Claims = serde_json::from_slice(&payload).ok()?;
            TenantId::parse_strict(&claims.tenant_id)
        };
        claims().context("the token names no tenant: give one whose claim `tenant_id` is a UUID")
    }
}

impl FromStr for Bearer {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// How long the token of `catalyst token` is good; `--tenant`, `--role` and `--subject` say for whom.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenOptions {
    /// Seconds until it expires, at most a day.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(i64).range(1..=86_400))]
    ttl: i64,
}

impl TokenOptions {
    /// Prints a token of the development issuer.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let roles = client.roles();
        let tenant = if client.tenant.is_none() && roles == [OPERATOR] {
            TenantId::PLATFORM
        } else {
            client.tenant().await?
        };
        let token = client.mint(tenant, &roles, self.ttl)?;
        if out.is_json() {
            out.json(&serde_json::json!({
                "token": token.text(),
                "tenantId": tenant.to_string(),
                "roles": roles,
                "seconds": self.ttl,
            }))
        } else {
            out.line(token.text())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> Bearer {
        Bearer::new(format!(
            "e30.{}.c2ln",
            BASE64URL_NOPAD.encode(payload.as_bytes())
        ))
    }

    #[test]
    fn the_tenant_of_a_token_is_read_from_its_claims() {
        let id = "0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d";
        let read = token(&format!("{{\"sub\":\"kim\",\"tenant_id\":\"{id}\"}}")).tenant();
        assert_eq!(read.unwrap().to_string(), id);
    }

    #[test]
    fn a_token_without_a_tenant_is_refused_with_what_to_do() {
        for bearer in [token("{}"), token("{"), Bearer::new("no token".to_owned())] {
            assert!(
                bearer
                    .tenant()
                    .unwrap_err()
                    .to_string()
                    .contains("tenant_id")
            );
        }
    }

    #[test]
    fn a_token_is_never_printed_by_debug() {
        assert!(!format!("{:?}", Bearer::new("secret".to_owned())).contains("secret"));
    }
}
