//! A webhook of the deployment's operator, signed as Standard Webhooks says.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use kit::telemetry;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use time::OffsetDateTime;

use crate::sinks::{Refusal, instant, severity_word};
use crate::store::alerts::told;
use crate::store::deliveries::Due;

/// A configured receiver.
#[derive(Debug)]
pub(crate) struct Webhook {
    url: reqwest::Url,
    key: hmac::Key,
    names_offender: bool,
}

impl Webhook {
    /// A receiver with its secret; none when the secret is not one.
    pub(crate) fn new(
        url: reqwest::Url,
        secret: &SecretString,
        names_offender: bool,
    ) -> Option<Self> {
        Some(Self {
            url,
            key: signing_key(secret.expose_secret())?,
            names_offender,
        })
    }

    /// Sends an alert once. The id is the alert's, so that the receiver knows a repeat.
    pub(crate) async fn send(
        &self,
        http: &reqwest::Client,
        due: &Due,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let id = due.id.to_string();
        let timestamp = now.unix_timestamp();
        let body = body(due, self.names_offender);
        let mut request = http
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
        Refusal::of(request.body(body).send().await)
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

/// The alert, and who caused it if the receiver may know: of an attempt across tenants, someone of another firm.
fn body(due: &Due, names_offender: bool) -> String {
    let (title, description) = told(&due.rule, due.title.clone(), due.description.clone());
    let known = due.offender_tenant_id.filter(|_| names_offender);
    let offender = known.map(|tenant_id| {
        json!({
            "tenant_id": tenant_id,
            "actor": { "type": due.offender_kind, "id": due.offender_id },
        })
    });
    json!({
        "type": "alert.raised",
        "timestamp": instant(due.created_at),
        "data": {
            "alert_id": due.id,
            "tenant_id": due.tenant_id,
            "rule": due.rule,
            "severity": severity_word(due.severity),
            "title": title,
            "description": description,
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
}
