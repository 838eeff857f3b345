//! `catalyst audit export` and `catalyst audit verify`: the audit trail in a file, and whether it is what was signed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use audit::checkpoint::{Anchor, PublicKeys};
use audit::record::Log;
use audit::trail::LogReport;
use indicatif::ProgressBar;
use kit::TenantId;
use kit::ctx::Clock;
use kit::fields::timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::ClientOptions;
use super::arguments::shown;
use super::error::Usage;
use super::events::BusOptions;
use super::output::{Output, note};
use crate::deployment;
use crate::keys::Keys;
use crate::trail::{self, Rules, Verdict};

/// Pieces of an export that wait to be taken.
const WAITING: usize = 8;

/// What is exported.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportOptions {
    /// The records of all tenants; without it, of the one that --tenant names.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    bus: BusOptions,
}

/// What is verified, and against what.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyOptions {
    /// An export to verify, without any server; an export of one tenant needs --tenant with its id.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Public keys that checkpoints are signed with, JWKS or PEM [default: the data folder's].
    #[arg(
        long,
        env = "CATALYST_AUDIT_CHECKPOINT_PUBLIC_KEYS",
        value_name = "FILE"
    )]
    key: Option<PathBuf>,
    /// A checkpoint that an earlier verification saved: it must still be there.
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// Save the last good checkpoint for later verifications; keep it where no administrator of the deployment writes.
    #[arg(long, value_name = "FILE")]
    save_anchor: Option<PathBuf>,
    /// Seconds that a record may be without a checkpoint past it.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    patience: u32,
    #[command(flatten)]
    bus: BusOptions,
}

/// The trail is not what was signed.
#[derive(Debug, thiserror::Error)]
#[error("the audit trail is not what was signed: {first} ({count} findings)")]
pub(crate) struct Tampered {
    first: String,
    count: usize,
}

impl ExportOptions {
    /// Writes the export to standard output.
    pub(super) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let tenant_id = client.optional_tenant().await?;
        if self.all != tenant_id.is_empty() {
            let problem = "name the tenant with --tenant, or give --all for every one";
            return Err(Usage::new(problem).into());
        }
        let began = Clock::system().now();
        // Before the records: what is signed by then is among them.
        let stored = trail::checkpoints(self.bus.connect(client).await?.client).await?;
        let service = client.as_operator().await?.exports();
        let (sender, received) = mpsc::channel(WAITING);
        let bar = progress();
        let write = |text: &[u8]| out.block(text);
        let (read, written) = tokio::join!(
            trail::records(service, tenant_id.clone(), sender),
            trail::export(tenant(&tenant_id), began, stored, received, write),
        );
        bar.finish_and_clear();
        let records = written?;
        read?;
        note(&format!("{records} records exported"));
        Ok(())
    }
}

impl VerifyOptions {
    /// Verifies and says what was found; a trail that is not good is an error.
    pub(super) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let tenant_id = client.optional_tenant().await?;
        let rules = Rules {
            keys: self.keys(client)?,
            anchor: self.anchor.as_deref().map(read_anchor).transpose()?,
            only: tenant(&tenant_id),
            patience: time::Duration::seconds(self.patience.into()),
        };
        let bar = progress();
        let tick = {
            let bar = bar.clone();
            move |records: u64| bar.set_message(format!("{records} records verified"))
        };
        let verdict = if let Some(file) = self.file.clone() {
            tokio::task::spawn_blocking(move || trail::verify_file(&file, &rules, &tick)).await?
        } else {
            let began = Clock::system().now();
            let stored = trail::checkpoints(self.bus.connect(client).await?.client).await?;
            let service = client.as_operator().await?.exports();
            let (sender, received) = mpsc::channel(WAITING);
            let judged =
                tokio::task::spawn_blocking(move || rules.verify(stored, began, received, &tick));
            // A log that was not read to its end must not look cut.
            trail::records(service, tenant_id, sender).await?;
            judged.await?
        };
        bar.finish_and_clear();
        let verdict = verdict?;
        show(&verdict, out)?;
        if let Some(error) = tampered(&verdict) {
            return Err(error.into());
        }
        match (&self.save_anchor, &verdict.last) {
            (Some(path), Some(last)) => save_anchor(path, last),
            (Some(_), None) => anyhow::bail!("there is no checkpoint to save yet"),
            (None, _) => Ok(()),
        }
    }

    fn keys(&self, client: &ClientOptions) -> anyhow::Result<PublicKeys> {
        let path = match &self.key {
            Some(path) => path.clone(),
            None => Keys::at(&deployment::keys_dir(&client.data_dir()?)).checkpoint_jwks(),
        };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Usage::new(format!(
                "cannot read {}: {error}; name the public keys of the checkpoints with --key",
                path.display()
            ))
        })?;
        PublicKeys::read(&text).ok_or_else(|| {
            Usage::new(format!(
                "{} holds no P-256 public key: give the deployment's audit/jwks.json",
                path.display()
            ))
            .into()
        })
    }
}

/// A tenant as [`ClientOptions::optional_tenant`] gives it.
fn tenant(text: &str) -> Option<TenantId> {
    match text {
        "" => None,
        "none" => Some(TenantId::NONE),
        id => id.parse().ok().map(TenantId::new),
    }
}

fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn read_anchor(path: &Path) -> anyhow::Result<Anchor> {
    let read =
        || -> anyhow::Result<Anchor> { Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?) };
    read().map_err(|error| {
        Usage::new(format!(
            "{} is no anchor ({error}): make one with --save-anchor",
            path.display()
        ))
        .into()
    })
}

/// Whole or not at all: an anchor that is lost cannot be had again.
fn save_anchor(path: &Path, anchor: &Anchor) -> anyhow::Result<()> {
    let partial = path.with_added_extension("partial");
    let mut file = std::fs::File::create(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    writeln!(file, "{}", serde_json::to_string(anchor)?)?;
    file.sync_all()?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

fn name(log: Log) -> &'static str {
    match log {
        Log::Tenant => "tenant",
        Log::Operator => "operator",
    }
}

fn tampered(verdict: &Verdict) -> Option<Tampered> {
    let records = verdict.logs.iter().filter_map(|log| {
        let bad = log.bad?;
        Some(format!(
            "record {} of the {} log of {}: {}",
            bad.sequence,
            name(log.key.log),
            log.key.tenant,
            bad.fault
        ))
    });
    let chain = verdict.chain.iter().map(ToString::to_string);
    let findings: Vec<String> = records.chain(chain).collect();
    let first = findings.first()?.clone();
    Some(Tampered {
        first,
        count: findings.len(),
    })
}

fn show(verdict: &Verdict, out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        for log in &verdict.logs {
            out.json(&json_of(log))?;
        }
        return out.json(&json!({
            "good": verdict.is_good(),
            "records": verdict.records,
            "logs": verdict.logs.len(),
            "checkpoints": verdict.checkpoints,
            "lastCheckpoint": verdict.last,
            "checkpointProblems": verdict.chain.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    }
    let rows = verdict.logs.iter().map(|log| {
        vec![
            log.key.tenant.to_string(),
            name(log.key.log).to_owned(),
            log.records.to_string(),
            log.signed_to.to_string(),
            log.bad.map_or_else(
                || "good".to_owned(),
                |bad| format!("record {}: {}", bad.sequence, bad.fault),
            ),
        ]
    });
    out.table(&["tenant", "log", "records", "signed to", "found"], rows)?;
    for fault in &verdict.chain {
        out.line(&fault.to_string())?;
    }
    let last = verdict.last.as_ref().map_or_else(
        || "there is none".to_owned(),
        |last| {
            let time = timestamp(last.time);
            format!("the last is {} of {}", last.number, shown(Some(&time)))
        },
    );
    out.line(&format!(
        "{} records of {} logs, {} checkpoints: {last}",
        verdict.records,
        verdict.logs.len(),
        verdict.checkpoints
    ))
}

fn json_of(log: &LogReport) -> serde_json::Value {
    let bad = log.bad.map(|bad| {
        json!({
            "sequence": bad.sequence,
            "code": bad.fault.code(),
            "problem": bad.fault.to_string(),
        })
    });
    json!({
        "tenantId": log.key.tenant.to_string(),
        "log": name(log.key.log),
        "records": log.records,
        "signedTo": log.signed_to,
        "bad": bad,
    })
}
