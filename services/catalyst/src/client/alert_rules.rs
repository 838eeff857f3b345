//! `catalyst alerts check`: a file of alert rules, read as the service reads it. Needs no server.

use std::path::Path;

use anyhow::Context as _;
use audit::rules::{GroupBy, Match, Rule, RuleSet};
use serde_json::json;

use super::error::BadInput;
use super::output::{Output, note};

/// Prints the rules as they are understood, or everything that is wrong.
pub(crate) fn check(file: &Path, settings: &audit::Settings, out: &Output) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| BadInput::new(error.to_string()))
        .with_context(|| format!("cannot read {}", file.display()))?;
    let set = audit::check_rules(settings, &text)
        .map_err(|problems| BadInput::new(problems.to_string()))
        .with_context(|| format!("{} is not valid", file.display()))?;
    if out.is_json() {
        for rule in &set.rules {
            out.json(&json!({
                "name": rule.name,
                "severity": severity(rule),
                "matches": matches(&rule.matches, rule.fallback),
                "threshold": rule.threshold,
                "window_seconds": rule.window.whole_seconds(),
                "counted_by": groups(rule),
                "repeat_within_seconds": rule.repeat_within.whole_seconds(),
                "told": told(&set, rule),
            }))?;
        }
        return Ok(());
    }
    let rows = set.rules.iter().map(|rule| {
        let raised = match rule.threshold {
            1 => "at once".to_owned(),
            calls => format!("{calls} in {}", duration(rule.window)),
        };
        vec![
            rule.name.clone(),
            severity(rule).to_owned(),
            matches(&rule.matches, rule.fallback),
            raised,
            groups(rule).join(", "),
            duration(rule.repeat_within),
            told(&set, rule).join(", "),
        ]
    });
    out.table(
        &[
            "rule",
            "severity",
            "matches",
            "raised",
            "counted by",
            "repeats",
            "told",
        ],
        rows,
    )?;
    if set.sinks.is_empty() {
        note("no sink is named here or by the settings: alerts are listed only");
    }
    Ok(())
}

fn severity(rule: &Rule) -> &'static str {
    rule.severity.as_str_name().trim_start_matches("SEVERITY_")
}

fn matches(matches: &Match, fallback: bool) -> String {
    let mut parts = Vec::new();
    if fallback {
        parts.push("what no other rule matches".to_owned());
    }
    if !matches.types.is_empty() {
        let short = matches
            .types
            .iter()
            .map(|name| name.rsplit('.').next().unwrap_or(name));
        parts.push(short.collect::<Vec<_>>().join(" or "));
    }
    if !matches.reasons.is_empty() {
        parts.push(format!("for {}", matches.reasons.join(" or ")));
    }
    if let Some(severity) = matches.min_severity {
        let word = severity.as_str_name().trim_start_matches("SEVERITY_");
        parts.push(format!("from {word}"));
    }
    if let Some(category) = matches.category {
        parts.push(format!("{} events", category.as_str()));
    }
    if let Some(actor) = matches.actor_type {
        parts.push(format!("by {actor:?}").to_lowercase());
    }
    if !matches.resource_kinds.is_empty() {
        parts.push(format!("of {}", matches.resource_kinds.join(" or ")));
    }
    parts.join(", ")
}

fn groups(rule: &Rule) -> Vec<&'static str> {
    let word = |group: &GroupBy| match group {
        GroupBy::Actor => "actor",
        GroupBy::Tenant => "tenant",
        GroupBy::SourceAddress => "source address",
        GroupBy::ResourceKind => "resource kind",
        GroupBy::Method => "method",
    };
    rule.group_by.iter().map(word).collect()
}

fn told<'a>(set: &'a RuleSet, rule: &Rule) -> Vec<&'a str> {
    let sinks = set.routes_of(rule).into_iter();
    sinks.map(|sink| sink.name.as_str()).collect()
}

fn duration(duration: time::Duration) -> String {
    let seconds = duration.whole_seconds();
    match (seconds % 3_600, seconds % 60) {
        (0, _) => format!("{} h", seconds / 3_600),
        (_, 0) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
