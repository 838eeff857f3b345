//! `catalyst doctor`: whether the live database isolates tenants as it must, seen by each role that serves.

use kit::attest::{self, Finding, Severity};
use kit::error::chain;
use kit::host::{self, StartError};
use kit::settings::DatabaseSettings;
use kit::{db, migrate};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::output::{Output, note};
use crate::services;

/// The database departs from isolation.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database does not isolate tenants: {0} departures; mend them as said, then run the doctor again"
)]
pub(crate) struct Departures(usize);

/// Checks every schema as every serving role; warnings are shown and do not fail.
pub(crate) async fn run(settings: &DatabaseSettings, out: &Output) -> anyhow::Result<()> {
    let expected = host::expected(&services::ALL);
    let mut findings: Vec<Finding> = Vec::new();
    let mut pending = Vec::new();
    for definition in &services::ALL {
        let failed = |error: sqlx::Error| StartError::Database {
            service: definition.name,
            reason: chain(&error),
        };
        let role = format!("{}_app", definition.schema);
        let options = db::role_options(settings, &role)?;
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        pending.extend(migrate::pending(&mut connection, definition).await?);
        let session = attest::attest_session(&mut connection, &role).await;
        let catalogs = attest::attest(&mut connection, &expected).await;
        for finding in session
            .map_err(failed)?
            .into_iter()
            .chain(catalogs.map_err(failed)?)
        {
            // The catalogs look the same to every role.
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        connection.close().await.map_err(failed)?;
    }
    show(&findings, out)?;
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    if errors > 0 {
        return Err(Departures(errors).into());
    }
    if !pending.is_empty() {
        return Err(StartError::Pending(pending).into());
    }
    note(&format!(
        "the database isolates tenants: {} schemas were checked as the roles that serve, {} warnings",
        services::ALL.len(),
        findings.len()
    ));
    Ok(())
}

fn show(findings: &[Finding], out: &Output) -> anyhow::Result<()> {
    let severity = |finding: &Finding| match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    if out.is_json() {
        return findings.iter().try_for_each(|finding| {
            out.json(&json!({
                "severity": severity(finding),
                "rule": finding.rule,
                "object": finding.object,
                "problem": finding.problem,
                "remedy": finding.remedy,
            }))
        });
    }
    if findings.is_empty() {
        return Ok(());
    }
    let rows = findings.iter().map(|finding| {
        vec![
            severity(finding).to_owned(),
            finding.rule.to_owned(),
            finding.object.clone(),
            finding.problem.clone(),
            finding.remedy.clone(),
        ]
    });
    out.table(&["severity", "rule", "object", "problem", "remedy"], rows)
}
