//! `catalyst alerts`: what needs someone's attention.

use std::path::PathBuf;

use clap::Subcommand;
use prost_types::Timestamp;
use proto::audit::v1 as pb;
use proto::common::v1 as common;

use super::alert_rules;
use super::arguments::{Current, instant, shown};
use super::audit::Severity;
use super::contract::word;
use super::error::{Usage, answer, present};
use super::output::{Output, Shown};
use super::paging::Limit;
use super::{ClientOptions, pages};

/// What can be done with alerts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them, newest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// As platform operator: of all tenants, or of the one that --tenant names.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Check a file of alert rules and show the rules as they are understood. Exit 0: it is valid; 65: it is not.
    Check {
        /// The file.
        file: PathBuf,
        /// The settings that name sinks, as the service has them.
        #[command(flatten)]
        settings: audit::Settings,
    },
    /// Say that someone has taken care of one.
    Ack {
        /// Its id.
        alert: String,
        /// What was found or done.
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
        /// As platform operator, for the tenant that --tenant names.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        current: Current,
    },
}

/// Which alerts.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only those in this state.
    #[arg(long)]
    state: Option<State>,
    /// Only those of the rule with this name.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    rule: String,
    /// Only those of this severity or a worse one.
    #[arg(long)]
    min_severity: Option<Severity>,
    /// Only those whose last event occurred then or later.
    #[arg(long, value_name = "INSTANT|DAY", value_parser = instant)]
    from: Option<Timestamp>,
    /// Only those whose first event occurred before.
    #[arg(long, value_name = "INSTANT|DAY", value_parser = instant)]
    until: Option<Timestamp>,
}

impl Filter {
    fn state(&self) -> i32 {
        let state = match self.state {
            None => pb::AlertState::Unspecified,
            Some(State::Open) => pb::AlertState::Open,
            Some(State::Acknowledged) => pb::AlertState::Acknowledged,
        };
        state.into()
    }

    fn min_severity(&self) -> i32 {
        let severity = match self.min_severity {
            None => common::Severity::Unspecified,
            Some(Severity::Info) => common::Severity::Info,
            Some(Severity::Low) => common::Severity::Low,
            Some(Severity::Medium) => common::Severity::Medium,
            Some(Severity::High) => common::Severity::High,
        };
        severity.into()
    }
}

/// A state of alerts.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum State {
    /// No one has taken care of it.
    Open,
    /// Someone has.
    Acknowledged,
}

impl Shown for pb::Alert {
    const COLUMNS: &'static [&'static str] = &[
        "id", "severity", "state", "rule", "events", "last", "delivery", "title",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            word(self.severity().as_str_name(), "SEVERITY_"),
            word(self.state().as_str_name(), "ALERT_STATE_"),
            self.rule.clone(),
            self.occurrences.to_string(),
            shown(self.last_occur_time.as_ref()),
            word(self.delivery_state().as_str_name(), "ALERT_DELIVERY_STATE_"),
            self.title.clone(),
        ]
    }
}

impl Shown for pb::TenantAlert {
    const COLUMNS: &'static [&'static str] = &[
        "tenant", "id", "severity", "state", "rule", "events", "last", "delivery", "title",
    ];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.tenant_id.clone()];
        cells.extend(self.alert.clone().unwrap_or_default().cells());
        cells
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        match self {
            Self::List {
                filter,
                operator: false,
                limit,
            } => list(client, out, filter, limit).await,
            Self::List {
                filter,
                operator: true,
                limit,
            } => list_of_all(client, out, filter, limit).await,
            Self::Check { file, settings } => alert_rules::check(&file, &settings, out),
            Self::Ack {
                alert,
                note,
                operator: false,
                current,
            } => {
                let mut service = client.in_tenant().await?.audit();
                let request = pb::AcknowledgeAlertRequest {
                    alert_id: alert,
                    note,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                let answered = answer(service.acknowledge_alert(request).await)?;
                out.one(&present(answered.alert)?)
            }
            Self::Ack {
                alert,
                note,
                operator: true,
                current,
            } => {
                let tenant_id = client.optional_tenant().await?;
                if tenant_id.is_empty() {
                    return Err(Usage::new("name the alert's tenant with --tenant").into());
                }
                let mut service = client.as_operator().await?.audit_operator();
                let request = pb::AcknowledgeTenantAlertRequest {
                    tenant_id,
                    alert_id: alert,
                    note,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                let answered = answer(service.acknowledge_tenant_alert(request).await)?;
                out.one(&present(answered.alert)?)
            }
        }
    }
}

async fn list(
    client: &ClientOptions,
    out: &Output,
    filter: Filter,
    limit: Limit,
) -> anyhow::Result<()> {
    let mut service = client.in_tenant().await?.audit();
    let listed = pages(limit.count(), async |page_size, page_token| {
        let request = pb::ListAlertsRequest {
            page_size,
            page_token,
            state: filter.state(),
            rule: filter.rule.clone(),
            min_severity: filter.min_severity(),
            from_time: filter.from,
            until_time: filter.until,
        };
        let page = answer(service.list_alerts(request).await)?;
        Ok((page.alerts, page.next_page_token))
    });
    out.list(&listed.await?.told())
}

async fn list_of_all(
    client: &ClientOptions,
    out: &Output,
    filter: Filter,
    limit: Limit,
) -> anyhow::Result<()> {
    let tenant_id = client.optional_tenant().await?;
    let mut service = client.as_operator().await?.audit_operator();
    let listed = pages(limit.count(), async |page_size, page_token| {
        let request = pb::ListTenantAlertsRequest {
            page_size,
            page_token,
            tenant_id: tenant_id.clone(),
            state: filter.state(),
            rule: filter.rule.clone(),
            min_severity: filter.min_severity(),
            from_time: filter.from,
            until_time: filter.until,
        };
        let page = answer(service.list_tenant_alerts(request).await)?;
        Ok((page.alerts, page.next_page_token))
    });
    out.list(&listed.await?.told())
}
