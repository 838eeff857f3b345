//! Who is told of alerts: sinks that settings and the file of rules name, opened with their secrets.

use std::path::Path;
use std::time::Duration;

use kit::settings::{SettingsError, read_secret};
use kit::wire::Plaintext;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::alertmanager::{self, Alertmanager};
use crate::rules::{SinkKind, SinkSpec};
use crate::settings::Settings;
use crate::store::deliveries::Due;
use crate::webhook::Webhook;

/// How long a sink may take. Shorter than the lease of an alert under delivery.
const PATIENCE: Duration = Duration::from_secs(10);
/// The sinks that settings make.
const WEBHOOK: &str = "webhook";
const ALERTMANAGER: &str = "alertmanager";

/// A sink that can be sent to.
#[derive(Debug)]
pub(crate) struct Sink {
    /// What rules route to.
    pub(crate) name: String,
    http: reqwest::Client,
    receiver: Receiver,
}

#[derive(Debug)]
enum Receiver {
    Webhook(Box<Webhook>),
    Alertmanager(Alertmanager),
}

/// Why an alert was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the receiver answered {0}")]
    Status(reqwest::StatusCode),
    #[error("the receiver cannot be reached")]
    Transport(#[source] reqwest::Error),
}

impl Refusal {
    /// Only a success is an acceptance. The URL may hold a secret and is not told.
    pub(crate) fn of(answer: Result<reqwest::Response, reqwest::Error>) -> Result<(), Self> {
        let response = answer.map_err(|error| Self::Transport(error.without_url()))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(Self::Status(response.status()))
        }
    }
}

/// The sinks that settings name.
pub(crate) fn of_settings(settings: &Settings) -> Result<Vec<SinkSpec>, SettingsError> {
    let given = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
    let mut sinks = Vec::new();
    if let Some(url) = given(&settings.alert_webhook_url) {
        let secret_file = settings.alert_webhook_secret_file.clone().ok_or_else(|| {
            SettingsError::new(
                "CATALYST_ALERT_WEBHOOK_SECRET_FILE",
                "is required with CATALYST_ALERT_WEBHOOK_URL: alerts are signed",
            )
        })?;
        sinks.push(SinkSpec {
            name: WEBHOOK.to_owned(),
            url,
            kind: SinkKind::Webhook { secret_file },
            names_offender: true,
        });
    }
    if let Some(url) = given(&settings.alertmanager_url) {
        sinks.push(SinkSpec {
            name: ALERTMANAGER.to_owned(),
            url,
            kind: SinkKind::Alertmanager { token_file: None },
            names_offender: false,
        });
    }
    Ok(sinks)
}

impl Sink {
    /// Reads the secret and checks the URL. The variable of an error is the one that names the sink.
    pub(crate) fn open(
        spec: &SinkSpec,
        from_file: bool,
        plaintext: Plaintext,
    ) -> Result<Self, SettingsError> {
        let variable = |of_setting| {
            if from_file {
                "CATALYST_ALERT_RULES"
            } else {
                of_setting
            }
        };
        let url_variable = variable(match spec.kind {
            SinkKind::Webhook { .. } => "CATALYST_ALERT_WEBHOOK_URL",
            SinkKind::Alertmanager { .. } => "CATALYST_ALERTMANAGER_URL",
        });
        let place = if from_file {
            format!("sink `{}`: ", spec.name)
        } else {
            String::new()
        };
        let not_usable = || {
            SettingsError::new(
                url_variable,
                format!("{place}is no URL: use https://HOST/PATH"),
            )
        };
        let url = reqwest::Url::parse(&spec.url).map_err(|_| not_usable())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(not_usable());
        }
        // The path may hold a secret and is not told.
        let origin = url.origin().ascii_serialization();
        let placed = |error: SettingsError| {
            SettingsError::new(error.variable, format!("{place}{}", error.problem))
        };
        plaintext.check_url(url_variable, &origin).map_err(placed)?;
        // A redirect is no acceptance, and the environment does not say where alerts go.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| SettingsError::new(url_variable, error.to_string()))?;
        let secret = |file: &Path| {
            read_secret(variable("CATALYST_ALERT_WEBHOOK_SECRET_FILE"), file).map_err(placed)
        };
        let receiver = match &spec.kind {
            SinkKind::Webhook { secret_file } => {
                let webhook = Webhook::new(url, &secret(secret_file)?, spec.names_offender);
                Receiver::Webhook(Box::new(
                    webhook.ok_or_else(|| no_secret(variable, &place, secret_file))?,
                ))
            }
            SinkKind::Alertmanager { token_file } => {
                let token = token_file.as_deref().map(secret).transpose()?;
                let manager = Alertmanager::new(url, token, spec.names_offender);
                Receiver::Alertmanager(manager.ok_or_else(not_usable)?)
            }
        };
        Ok(Self {
            name: spec.name.clone(),
            http,
            receiver,
        })
    }

    /// Sends an alert once. A repeat is known by the receiver: by the id, or by the labels.
    pub(crate) async fn send(&self, due: &Due, now: OffsetDateTime) -> Result<(), Refusal> {
        match &self.receiver {
            Receiver::Webhook(webhook) => webhook.send(&self.http, due, now).await,
            Receiver::Alertmanager(manager) => manager.send(&self.http, due, now).await,
        }
    }

    /// When an alert that was accepted is sent again; none for no more.
    pub(crate) fn again_at(&self, due: &Due, now: OffsetDateTime) -> Option<OffsetDateTime> {
        match &self.receiver {
            Receiver::Webhook(_) => None,
            Receiver::Alertmanager(_) => due
                .resolves
                .then(|| alertmanager::again_at(due, now))
                .flatten(),
        }
    }

    /// Whether it takes over what an older version had for the only receiver of then.
    pub(crate) fn is_of_old(&self) -> bool {
        self.name == WEBHOOK
    }
}

fn no_secret(
    variable: impl Fn(&'static str) -> &'static str,
    place: &str,
    file: &Path,
) -> SettingsError {
    SettingsError::new(
        variable("CATALYST_ALERT_WEBHOOK_SECRET_FILE"),
        format!(
            "{place}{} holds no secret: put `whsec_` and 24 to 64 random bytes in base64 into it",
            file.display()
        ),
    )
}

/// An instant as receivers read it.
pub(crate) fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// A stored severity in the words of the contract.
pub(crate) fn severity_word(severity: i16) -> &'static str {
    match severity {
        1 => "INFO",
        2 => "LOW",
        3 => "MEDIUM",
        _ => "HIGH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_secret_is_refused_and_no_url_is_no_sink() {
        assert!(of_settings(&Settings::default()).unwrap().is_empty());
        let settings = Settings {
            alert_webhook_url: Some("https://alerts.example/catalyst".to_owned()),
            ..Settings::default()
        };
        let refused = of_settings(&settings).unwrap_err();
        assert_eq!(refused.variable, "CATALYST_ALERT_WEBHOOK_SECRET_FILE");
    }

    #[test]
    fn a_sink_that_cannot_be_opened_names_where_it_stands() {
        let spec = SinkSpec {
            name: "oncall".to_owned(),
            url: "https://x".to_owned(),
            kind: SinkKind::Webhook {
                secret_file: "/nowhere".into(),
            },
            names_offender: false,
        };
        let error = Sink::open(&spec, true, Plaintext::default()).unwrap_err();
        assert_eq!(error.variable, "CATALYST_ALERT_RULES");
        assert!(
            error
                .problem
                .contains("sink `oncall`: cannot read /nowhere"),
            "{}",
            error.problem
        );
        let error = Sink::open(&spec, false, Plaintext::default()).unwrap_err();
        assert_eq!(error.variable, "CATALYST_ALERT_WEBHOOK_SECRET_FILE");
    }

    #[test]
    fn a_sink_beyond_this_machine_is_not_told_in_plaintext_wherever_it_is_named() {
        let spec = |url: &str| SinkSpec {
            name: "oncall".to_owned(),
            url: url.to_owned(),
            kind: SinkKind::Alertmanager { token_file: None },
            names_offender: false,
        };
        let far = spec("http://alerts.example:9093/secret");
        for (from_file, variable) in [
            (true, "CATALYST_ALERT_RULES"),
            (false, "CATALYST_ALERTMANAGER_URL"),
        ] {
            let error = Sink::open(&far, from_file, Plaintext::default()).unwrap_err();
            assert_eq!(error.variable, variable);
            assert!(error.problem.contains("write https://"), "{error}");
            assert!(!error.problem.contains("secret"), "{error}");
        }
        let allowed = Plaintext {
            allow_plaintext: true,
        };
        assert!(Sink::open(&far, true, allowed).is_ok());
        let near = spec("http://127.0.0.1:9093");
        assert!(Sink::open(&near, true, Plaintext::default()).is_ok());
    }
}
