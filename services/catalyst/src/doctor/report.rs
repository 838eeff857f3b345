//! What the doctor says: a table and the remedies for people, a line for each finding and part for programs.

use kit::attest::{Finding, Severity};
use serde_json::json;

use super::{Outcome, Part, rules};
use crate::client::output::{Output, note};

/// What became of one part.
pub(super) struct Report {
    pub(super) part: Part,
    pub(super) outcome: Outcome,
}

impl Report {
    pub(super) fn findings(&self) -> &[Finding] {
        match &self.outcome {
            Ok((_, findings)) => findings,
            Err(_) => &[],
        }
    }

    /// Why the part could not be judged.
    pub(super) fn unchecked(&self) -> Option<String> {
        let reason = self.outcome.as_ref().err()?;
        Some(format!("{}: {reason}", self.part.name()))
    }
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

pub(super) fn show(reports: &[Report], out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        return reports.iter().try_for_each(|report| lines(report, out));
    }
    for report in reports {
        match &report.outcome {
            Ok((judged, _)) => note(&format!("{}: checked {judged}", report.part.name())),
            Err(reason) => note(&format!("{}: not checked: {reason}", report.part.name())),
        }
    }
    let findings: Vec<&Finding> = reports.iter().flat_map(Report::findings).collect();
    if findings.is_empty() {
        return Ok(());
    }
    let rows = findings.iter().map(|finding| {
        let Finding {
            rule,
            object,
            problem,
            ..
        } = finding;
        vec![
            severity(finding.severity).to_owned(),
            (*rule).to_owned(),
            object.clone(),
            problem.clone(),
        ]
    });
    out.table(&["severity", "rule", "object", "problem"], rows)?;
    // Outside of the table, so that it can be copied.
    let mut explained: Vec<&str> = Vec::new();
    for finding in &findings {
        if !explained.contains(&finding.rule) {
            explained.push(finding.rule);
            out.line(&format!(
                "\n{}: {}.",
                finding.rule,
                rules::why(finding.rule)
            ))?;
            for same in findings.iter().filter(|other| other.rule == finding.rule) {
                out.line(&format!("    {}", one_line(&same.remedy)))?;
            }
        }
    }
    Ok(())
}

/// A remedy as it can be copied, without what a terminal would obey.
fn one_line(remedy: &str) -> String {
    let words = remedy.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).collect()
}

fn lines(report: &Report, out: &Output) -> anyhow::Result<()> {
    let part = report.part.name();
    for finding in report.findings() {
        out.json(&json!({
            "part": part,
            "severity": severity(finding.severity),
            "rule": finding.rule,
            "object": finding.object,
            "problem": finding.problem,
            "why": rules::why(finding.rule),
            "remedy": finding.remedy,
            "sql": finding.sql().is_some(),
        }))?;
    }
    match &report.outcome {
        Ok((judged, _)) => out.json(&json!({ "part": part, "checked": judged })),
        Err(reason) => out.json(&json!({ "part": part, "not_checked": reason })),
    }
}
