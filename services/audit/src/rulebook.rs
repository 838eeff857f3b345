//! The rules and sinks in use: read at the start, and again when their file changes.
//!
//! Invariant: what is in use is whole. A file that cannot be read or is not valid ends the start, and later changes
//! nothing: the last good rules stay, a line in the log says what is wrong, and `catalyst.alerts.rules_rejected` is 1.
//! The content is compared and not the time of the file, since a mounted ConfigMap changes by moving a link.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kit::settings::SettingsError;
use kit::tasks::Tasks;
use kit::wire::Plaintext;
use opentelemetry::global;
use opentelemetry::metrics::Gauge;
use tokio::sync::watch;

use crate::rules::file::{DEFAULT, parse};
use crate::rules::{RuleSet, SinkSpec};
use crate::settings::Settings;
use crate::sinks::{Sink, of_settings};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// 1 while the file of rules is not what is in use.
static REJECTED: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("catalyst")
        .u64_gauge("catalyst.alerts.rules_rejected")
        .build()
});

/// Rules, and the sinks that they route to, opened.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) rules: RuleSet,
    pub(crate) sinks: Vec<Arc<Sink>>,
}

/// Keeps them up to date.
pub(crate) struct Rulebook {
    file: Option<PathBuf>,
    of_settings: Vec<SinkSpec>,
    plaintext: Plaintext,
    text: String,
    current: watch::Sender<Arc<Current>>,
}

impl Rulebook {
    /// Reads what the settings name.
    pub(crate) fn open(settings: &Settings, plaintext: Plaintext) -> Result<Self, SettingsError> {
        let of_settings = of_settings(settings)?;
        let text = match &settings.alert_rules {
            None => DEFAULT.to_owned(),
            Some(file) => {
                std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?
            }
        };
        let current = open_all(&text, &of_settings, plaintext)?;
        REJECTED.record(0, &[]);
        Ok(Self {
            file: settings.alert_rules.clone(),
            of_settings,
            plaintext,
            text,
            current: watch::channel(Arc::new(current)).0,
        })
    }

    /// What is in use, now and later.
    pub(crate) fn listen(&self) -> watch::Receiver<Arc<Current>> {
        self.current.subscribe()
    }

    /// Looks at the file until the process stops; ends at once when there is none.
    pub(crate) async fn run(mut self, tasks: Tasks) {
        let Some(file) = self.file.take() else {
            return;
        };
        // What was rejected last is not told again.
        let mut rejected = None;
        while tasks.pause(LOOK).await {
            let read = tokio::fs::read_to_string(&file).await;
            let outcome = match read {
                Ok(text) if text == self.text => Ok(None),
                Ok(text) => open_all(&text, &self.of_settings, self.plaintext)
                    .map(|current| Some((text, current))),
                Err(error) => Err(unreadable(&file, &error)),
            };
            match outcome {
                Ok(changed) => {
                    if let Some((text, current)) = changed {
                        tracing::info!(
                            rules = current.rules.rules.len(),
                            sinks = current.sinks.len(),
                            "the rules of alerts have changed"
                        );
                        self.text = text;
                        self.current.send_replace(Arc::new(current));
                    }
                    rejected = None;
                    REJECTED.record(0, &[]);
                }
                Err(error) => {
                    let error = error.to_string();
                    if rejected.as_ref() != Some(&error) {
                        tracing::error!(error = %error, "the file of alert rules is not used; the rules of before stay");
                        rejected = Some(error);
                    }
                    REJECTED.record(1, &[]);
                }
            }
        }
    }
}

fn unreadable(file: &std::path::Path, error: &std::io::Error) -> SettingsError {
    SettingsError::new(
        "CATALYST_ALERT_RULES",
        format!("cannot read {}: {error}", file.display()),
    )
}

fn open_all(
    text: &str,
    of_settings: &[SinkSpec],
    plaintext: Plaintext,
) -> Result<Current, SettingsError> {
    let rules = parse(text, of_settings).map_err(|problems| {
        SettingsError::new(
            "CATALYST_ALERT_RULES",
            format!("{problems}; `catalyst alerts check FILE` shows all that is wrong"),
        )
    })?;
    let sinks = rules.sinks.iter().map(|spec| {
        let from_file = !of_settings.contains(spec);
        Sink::open(spec, from_file, plaintext).map(Arc::new)
    });
    let sinks = sinks.collect::<Result<Vec<_>, _>>()?;
    Ok(Current { rules, sinks })
}
