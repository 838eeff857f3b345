//! The settings of this service.

use std::num::NonZeroU16;
use std::path::PathBuf;

use time::Duration;

use crate::flood::Limits;

/// Which alerts are raised, where they are sent, and how much of a flood the log holds.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// File of alert rules and sinks, read again when it changes. None: the built-in rules.
    #[arg(long, env = "CATALYST_ALERT_RULES")]
    pub alert_rules: Option<PathBuf>,
    /// URL that alerts of all tenants are sent to: the sink `webhook`. None: alerts are stored and counted only.
    #[arg(long, env = "CATALYST_ALERT_WEBHOOK_URL")]
    pub alert_webhook_url: Option<String>,
    /// File with the secret of the signatures, `whsec_` and 24 to 64 bytes in base64. Required with a URL.
    #[arg(long, env = "CATALYST_ALERT_WEBHOOK_SECRET_FILE")]
    pub alert_webhook_secret_file: Option<PathBuf>,
    /// URL of a Prometheus Alertmanager, http://HOST:9093: the sink `alertmanager`.
    #[arg(long, env = "CATALYST_ALERTMANAGER_URL")]
    pub alertmanager_url: Option<String>,
    /// Like security events of one principal that are recorded singly within a window; further ones become one record.
    #[arg(long, env = "CATALYST_AUDIT_FLOOD_RECORDS", default_value = "20")]
    pub audit_flood_records: NonZeroU16,
    /// Seconds of that window.
    #[arg(
        long,
        env = "CATALYST_AUDIT_FLOOD_WINDOW_SECONDS",
        default_value = "60"
    )]
    pub audit_flood_window_seconds: NonZeroU16,
}

impl Default for Settings {
    fn default() -> Self {
        let (records, seconds) = (
            const { NonZeroU16::MIN.saturating_add(19) },
            const { NonZeroU16::MIN.saturating_add(59) },
        );
        Self {
            alert_rules: None,
            alert_webhook_url: None,
            alert_webhook_secret_file: None,
            alertmanager_url: None,
            audit_flood_records: records,
            audit_flood_window_seconds: seconds,
        }
    }
}

impl Settings {
    /// How much of a flood the log holds.
    pub(crate) fn flood_limits(&self) -> Limits {
        Limits {
            first: i64::from(self.audit_flood_records.get()),
            window: Duration::seconds(i64::from(self.audit_flood_window_seconds.get())),
        }
    }
}
