//! `catalyst audit`: what happened in a tenant, or in all of them.

use clap::Subcommand;
use prost_types::Timestamp;
use proto::audit::v1 as pb;
use proto::common::v1 as common;
use tonic::Status;

use super::arguments::{instant, shown};
use super::audit_trail::{ExportOptions, VerifyOptions};
use super::connection::Client;
use super::contract::word;
use super::error::{Refused, Unavailable, answer, is_transient};
use super::output::{Output, Shown, note, printable};
use super::paging::Limit;
use super::{Backoff, ClientOptions, pages};

/// What can be done with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records in the order of the log.
    List {
        #[command(flatten)]
        filter: Filter,
        /// As platform operator: of all tenants, or of the one that --tenant names.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Write records and signed checkpoints to standard output, as platform operator: all that a verifier needs.
    Export(ExportOptions),
    /// Check every hash, signature and checkpoint, as platform operator. Exit 0: good; 78: not what was signed, with the
    /// first bad record named; anything else: it could not be checked.
    Verify(VerifyOptions),
    /// Show records as they are appended, until Ctrl-C.
    Watch {
        #[command(flatten)]
        filter: Filter,
        /// Begin after the record with this sequence; 0 begins with the first [default: only new ones].
        #[arg(long, value_name = "SEQUENCE")]
        after: Option<i64>,
    },
}

/// Which records.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only of events that occurred then or later.
    #[arg(long, value_name = "INSTANT|DAY", value_parser = instant)]
    from: Option<Timestamp>,
    /// Only of events that occurred before.
    #[arg(long, value_name = "INSTANT|DAY", value_parser = instant)]
    until: Option<Timestamp>,
    /// Only of this category.
    #[arg(long)]
    category: Option<Category>,
    /// Only of this severity or a worse one.
    #[arg(long)]
    min_severity: Option<Severity>,
    /// Only of this type of event: catalyst.projects.v1.ProjectArchived.
    #[arg(
        long = "type",
        value_name = "TYPE",
        default_value = "",
        hide_default_value = true
    )]
    type_name: String,
    /// Only of the actor with this id.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    actor: String,
    /// Only of this kind of resource, such as project.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "",
        hide_default_value = true
    )]
    resource_kind: String,
    /// Only of the resource with this id.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    resource: String,
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Category {
    /// A change of the firm's own resources.
    Domain,
    /// A refusal or another security event.
    Security,
}

/// How much a record asks for attention.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Severity {
    /// None.
    Info,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// At once.
    High,
}

impl Filter {
    fn message(self) -> pb::RecordFilter {
        let category = match self.category {
            None => pb::RecordCategory::Unspecified,
            Some(Category::Domain) => pb::RecordCategory::Domain,
            Some(Category::Security) => pb::RecordCategory::Security,
        };
        let min_severity = match self.min_severity {
            None => common::Severity::Unspecified,
            Some(Severity::Info) => common::Severity::Info,
            Some(Severity::Low) => common::Severity::Low,
            Some(Severity::Medium) => common::Severity::Medium,
            Some(Severity::High) => common::Severity::High,
        };
        pb::RecordFilter {
            from_time: self.from,
            until_time: self.until,
            category: category.into(),
            min_severity: min_severity.into(),
            r#type: self.type_name,
            actor_id: self.actor,
            resource_kind: self.resource_kind,
            resource_id: self.resource,
        }
    }
}

impl Shown for pb::AuditRecord {
    const COLUMNS: &'static [&'static str] = &[
        "seq", "occurred", "severity", "type", "actor", "resource", "summary",
    ];

    fn cells(&self) -> Vec<String> {
        let short = self.r#type.rsplit('.').next().unwrap_or_default();
        vec![
            self.sequence.to_string(),
            shown(self.occur_time.as_ref()),
            word(self.severity().as_str_name(), "SEVERITY_"),
            short.to_owned(),
            self.actor
                .as_ref()
                .map_or_else(String::new, |actor| actor.id.clone()),
            format!("{} {}", self.resource_kind, self.resource_id)
                .trim()
                .to_owned(),
            self.summary.clone(),
        ]
    }
}

impl Shown for pb::TenantRecord {
    const COLUMNS: &'static [&'static str] = &[
        "tenant", "seq", "occurred", "severity", "type", "actor", "resource", "summary",
    ];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.tenant_id.clone()];
        cells.extend(self.record.clone().unwrap_or_default().cells());
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
            } => {
                let mut service = client.in_tenant().await?.audit();
                let filter = filter.message();
                let listed = pages(limit.count(), async |page_size, page_token| {
                    let request = pb::ListRecordsRequest {
                        page_size,
                        page_token,
                        filter: Some(filter.clone()),
                    };
                    let page = answer(service.list_records(request).await)?;
                    Ok((page.records, page.next_page_token))
                });
                out.list(&listed.await?.told())
            }
            Self::List {
                filter,
                operator: true,
                limit,
            } => {
                let tenant_id = client.optional_tenant().await?;
                let mut service = client.as_operator().await?.audit_operator();
                let filter = filter.message();
                let listed = pages(limit.count(), async |page_size, page_token| {
                    let request = pb::ListTenantRecordsRequest {
                        page_size,
                        page_token,
                        tenant_id: tenant_id.clone(),
                        filter: Some(filter.clone()),
                    };
                    let page = answer(service.list_tenant_records(request).await)?;
                    Ok((page.records, page.next_page_token))
                });
                out.list(&listed.await?.told())
            }
            Self::Export(options) => options.run(client, out).await,
            Self::Verify(options) => options.run(client, out).await,
            Self::Watch { filter, after } => {
                let client = client.in_tenant().await?;
                tokio::select! {
                    ended = watch(&client, filter.message(), after, out) => ended,
                    stopped = tokio::signal::ctrl_c() => Ok(stopped?),
                }
            }
        }
    }
}

/// Shows records without gaps: a watch that breaks goes on after the last record that it showed.
async fn watch(
    client: &Client,
    filter: pb::RecordFilter,
    mut after: Option<i64>,
    out: &Output,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::new();
    loop {
        let request = pb::WatchRecordsRequest {
            filter: Some(filter.clone()),
            after_sequence: after,
        };
        let ended = async {
            let mut records = client.watches().watch_records(request).await?.into_inner();
            note("watching; Ctrl-C ends it");
            while let Some(response) = records.message().await? {
                backoff.succeeded();
                let record = response.record.unwrap_or_default();
                after = Some(record.sequence);
                show(&record, out)?;
            }
            anyhow::Ok(())
        }
        .await;
        let Err(error) = ended else { continue };
        let status = error.downcast::<Status>()?;
        if !is_transient(&status) {
            return Err(Refused::from(status).into());
        }
        if !backoff.wait().await {
            let problem = "the server stayed away: start it, then watch on with --after";
            let last = after.map_or_else(String::new, |sequence| format!(" {sequence}"));
            return Err(Unavailable::new(format!("{problem}{last}")).into());
        }
    }
}

fn show(record: &pb::AuditRecord, out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        return out.json(&super::contract::dynamic(record)?);
    }
    out.line(&printable(&record.cells().join("  ")))
}
