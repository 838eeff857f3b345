//! `catalyst alerts`: what needs someone's attention.

use clap::Subcommand;
use proto::audit::v1 as pb;

use super::arguments::{Current, shown};
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
        /// Only those in this state.
        #[arg(long)]
        state: Option<State>,
        /// As platform operator: of all tenants, or of the one that --tenant names.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        limit: Limit,
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
                state,
                operator,
                limit,
            } => {
                let state = match state {
                    None => pb::AlertState::Unspecified,
                    Some(State::Open) => pb::AlertState::Open,
                    Some(State::Acknowledged) => pb::AlertState::Acknowledged,
                };
                if operator {
                    list_of_all(client, out, state, limit).await
                } else {
                    list(client, out, state, limit).await
                }
            }
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
    state: pb::AlertState,
    limit: Limit,
) -> anyhow::Result<()> {
    let mut service = client.in_tenant().await?.audit();
    let listed = pages(limit.count(), async |page_size, page_token| {
        let request = pb::ListAlertsRequest {
            page_size,
            page_token,
            state: state.into(),
        };
        let page = answer(service.list_alerts(request).await)?;
        Ok((page.alerts, page.next_page_token))
    });
    out.list(&listed.await?.told())
}

async fn list_of_all(
    client: &ClientOptions,
    out: &Output,
    state: pb::AlertState,
    limit: Limit,
) -> anyhow::Result<()> {
    let tenant_id = client.optional_tenant().await?;
    let mut service = client.as_operator().await?.audit_operator();
    let listed = pages(limit.count(), async |page_size, page_token| {
        let request = pb::ListTenantAlertsRequest {
            page_size,
            page_token,
            tenant_id: tenant_id.clone(),
            state: state.into(),
        };
        let page = answer(service.list_tenant_alerts(request).await)?;
        Ok((page.alerts, page.next_page_token))
    });
    out.list(&listed.await?.told())
}
