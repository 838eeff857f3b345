//! `catalyst doctor`: whether a running deployment isolates tenants, decided part by part and told with the remedy.
//!
//! Invariant: a part that was asked for is either judged or named as not checked; nothing is passed over in silence.

pub mod bus;
mod database;
mod deployment;
mod report;
mod rules;
mod settings;

pub(crate) use settings::DoctorOptions;

use kit::attest::{Finding, Severity};

use crate::client::ClientOptions;
use crate::client::output::{Output, note};
use report::Report;
use settings::{Chosen, Wanted};

/// The deployment departs from isolation, or it cannot be said whether it does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    /// Errors were found.
    #[error(
        "the deployment does not isolate tenants: {0} departures; mend them as said, then run the doctor again"
    )]
    Departures(usize),
    /// No error was found in what could be checked.
    #[error("not all could be checked: {}; give its settings, or choose parts with --only", .0.join("; "))]
    Unchecked(Vec<String>),
    /// No rule has this name.
    #[error("{0} is no rule: `catalyst doctor --rules` lists them")]
    NoRule(String),
}

impl Unsound {
    /// What the program exits with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Departures(_) => 1,
            Self::Unchecked(_) => 2,
            Self::NoRule(_) => 64,
        }
    }
}

/// A part of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Catalogs, policies, roles, sessions and migrations of PostgreSQL.
    Database,
    /// The NATS servers.
    Bus,
    /// The key sets of users and services.
    Identity,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Bus => "bus",
            Self::Identity => "identity",
        }
    }
}

/// What became of a part: a sentence on what was judged, and what was found; or why it could not be.
type Outcome = Result<(String, Vec<Finding>), String>;

/// Judges the parts and shows what was found; warnings are shown and do not fail.
pub(crate) async fn run(options: DoctorOptions, client: &ClientOptions) -> anyhow::Result<()> {
    let out = client.output();
    if options.asks_for_rules() {
        return rules::show(options.explain.as_deref(), &out);
    }
    let mut reports = Vec::new();
    for Chosen { part, wanted } in options.choose(client)? {
        let outcome = match wanted {
            Ok(Wanted::Services(settings)) => database::services(&settings).await,
            Ok(Wanted::Schemas(expected, settings)) => {
                database::schemas(&expected, &settings).await
            }
            Ok(Wanted::Brokers(settings)) => bus(&settings).await,
            Ok(Wanted::Keys(sources)) => deployment::keys(&sources).await,
            Err(missing) => Err(missing),
        };
        reports.push(Report { part, outcome });
    }
    report::show(&reports, &out)?;
    conclude(&reports, &out)
}

/// Everything that is decided of the bus: each source of findings is asked here, and adds to what the part has judged.
async fn bus(settings: &kit::settings::NatsSettings) -> Outcome {
    let (servers, mut findings) = deployment::brokers(settings).await?;
    let tried = bus::attest(settings).await;
    findings.extend(tried.map_err(|error| format!("{error:#}"))?);
    Ok((
        format!("{servers}; what each user may do; streams, consumers and the directory"),
        findings,
    ))
}

fn conclude(reports: &[Report], out: &Output) -> anyhow::Result<()> {
    let findings = || reports.iter().flat_map(Report::findings);
    let errors = findings()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    if errors > 0 {
        return Err(Unsound::Departures(errors).into());
    }
    let unchecked: Vec<String> = reports.iter().filter_map(Report::unchecked).collect();
    if !unchecked.is_empty() {
        return Err(Unsound::Unchecked(unchecked).into());
    }
    if !out.is_json() {
        note(&format!(
            "the deployment isolates tenants; {} warnings",
            findings().count()
        ));
    }
    Ok(())
}
