//! The receiver of alerts: a webhook of the deployment's operator, signed as Standard Webhooks says.

use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use kit::settings::{SettingsError, read_secret};
use kit::telemetry;
use secrecy::ExposeSecret;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::alert::Rule;
use crate::store::alerts::Due;

/// How long the receiver may take. Shorter than the lease of an alert under delivery.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where alerts are sent.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// URL that alerts of all tenants are sent to. None: alerts are stored and counted only.
    #[arg(long, env = "CATALYST_ALERT_WEBHOOK_URL")]
    pub alert_webhook_url: Option<String>,
    /// File with the secret of the signatures, `whsec_` and 24 to 64 bytes in base64. Required with a URL.
    #[arg(long, env = "CATALYST_ALERT_WEBHOOK_SECRET_FILE")]
    pub alert_webhook_secret_file: Option<PathBuf>,
}

/// A configured receiver.
pub(crate) struct Webhook {
    http: reqwest::Client,
    url: reqwest::Url,
    key: hmac::Key,
}

/// Why an alert was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the receiver answered {0}")]
    Status(reqwest::StatusCode),
    #[error("the receiver cannot be reached")]
    Transport(#[source] reqwest::Error),
}

impl Webhook {
    /// The receiver of the settings, if there is one.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let Some(url) = settings
            .alert_webhook_url
            .as_deref()
            .filter(|url| !url.is_empty())
        else {
            return Ok(None);
        };
        let not_usable = || {
            SettingsError::new(
                "CATALYST_ALERT_WEBHOOK_URL",
                "is no URL: use https://HOST/PATH",
            )
        };
        let url = reqwest::Url::parse(url).map_err(|_| not_usable())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(not_usable());
        }
        let variable = "CATALYST_ALERT_WEBHOOK_SECRET_FILE";
        let path = settings.alert_webhook_secret_file.as_ref().ok_or_else(|| {
            SettingsError::new(
                variable,
                "is required with CATALYST_ALERT_WEBHOOK_URL: alerts are signed",
            )
        })?;
        let secret = read_secret(variable, path)?;
        let key = signing_key(secret.expose_secret()).ok_or_else(|| {
            SettingsError::new(
                variable,
                "holds no secret: put `whsec_` and 24 to 64 random bytes in base64 into it",
            )
        })?;
        // A redirect is no acceptance, and the environment does not say where alerts go.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| SettingsError::new("CATALYST_ALERT_WEBHOOK_URL", error.to_string()))?;
        Ok(Some(Self { http, url, key }))
    }

    /// Sends an alert once. The id is the alert's, so that the receiver knows a repeat.
    pub(crate) async fn send(&self, due: &Due, now: OffsetDateTime) -> Result<(), Refusal> {
        let id = due.id.to_string();
        let timestamp = now.unix_timestamp();
        let body = body(due);
        let mut request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header(
                "webhook-signature",
                signature(&self.key, &id, timestamp, &body),
            );
        if let Some(traceparent) = telemetry::current_traceparent() {
            request = request.header("traceparent", traceparent);
        }
        let response = request
            .body(body)
            .send()
            .await
            .map_err(|error| Refusal::Transport(error.without_url()))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(Refusal::Status(response.status()))
        }
    }
}

/// The key in a secret `whsec_<base64>`.
fn signing_key(secret: &str) -> Option<hmac::Key> {
    let bytes = BASE64
        .decode(secret.trim().strip_prefix("whsec_")?.as_bytes())
        .ok()?;
    (24..=64)
        .contains(&bytes.len())
        .then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// `v1,` and the base64 of the HMAC of id, timestamp and body, joined by dots.
fn signature(key: &hmac::Key, id: &str, timestamp: i64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(tag.as_ref()))
}

/// Everything that the operator may know, both sides of an attempt across tenants included.
fn body(due: &Due) -> String {
    let rule = Rule::named(&due.rule);
    let instant = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let offender = due.offender_tenant_id.map(|tenant_id| {
        json!({
            "tenant_id": tenant_id,
            "actor": { "type": due.offender_kind, "id": due.offender_id },
        })
    });
    let severity = match due.severity {
        1 => "INFO",
        2 => "LOW",
        3 => "MEDIUM",
        _ => "HIGH",
    };
    json!({
        "type": "alert.raised",
        "timestamp": instant(due.created_at),
        "data": {
            "alert_id": due.id,
            "tenant_id": due.tenant_id,
            "rule": due.rule,
            "severity": severity,
            "title": rule.title,
            "description": rule.description,
            "occurrences": due.occurrences,
            "first_occur_time": instant(due.first_at),
            "last_occur_time": instant(due.last_at),
            "offender": offender,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        // The example of the Standard Webhooks reference implementations.
        let key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_short_or_without_its_prefix_is_refused() {
        for secret in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_not base64 at all!",
        ] {
            assert!(signing_key(secret).is_none(), "{secret}");
        }
    }

    #[test]
    fn a_url_without_a_secret_is_refused_and_no_url_is_no_receiver() {
        assert!(Webhook::open(&Settings::default()).unwrap().is_none());
        let url = Some("https://alerts.example/catalyst".to_owned());
        let settings = Settings {
            alert_webhook_url: url,
            alert_webhook_secret_file: None,
        };
        let refused = Webhook::open(&settings).err().unwrap();
        assert_eq!(refused.variable, "CATALYST_ALERT_WEBHOOK_SECRET_FILE");
    }
}
