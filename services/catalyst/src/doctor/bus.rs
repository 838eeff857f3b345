//! The bus, tried: what each user may do on the live server, and whether streams and durables are as they must be.
//!
//! Invariant: nothing is changed. Permissions are tried with messages that nobody takes; streams are only read.

pub mod operations;
mod topology;
pub mod trial;

use std::collections::BTreeMap;

use anyhow::Context as _;
use kit::attest::{Finding, Severity};
use kit::bus;
use kit::settings::NatsSettings;

use operations::{Operation, RULES, Rule, operations, users};

/// Subjects that a finding names; a user that may do everything would fill pages.
const NAMED: usize = 3;

/// Every rule that is decided here, how much it weighs, and why it matters.
pub(super) fn explained() -> Vec<(&'static str, Severity, &'static str)> {
    let users = RULES.iter().flat_map(|rule| {
        let cannot = "a part of the deployment cannot do its work";
        [
            (rule.may, Severity::Error, rule.why),
            (rule.cannot, Severity::Error, cannot),
        ]
    });
    users.chain(FOLDER).chain(topology::RULES).collect()
}

const FOLDER: [(&str, Severity, &str); 2] = [
    (
        "nats-user-unknown",
        Severity::Error,
        "credentials that nothing needs are credentials that somebody else may use",
    ),
    (
        "nats-user-not-tried",
        Severity::Warning,
        "what it may do on the live servers is not known",
    ),
];

/// Tries every user whose credentials are in the folder of `settings`, then compares streams, durables and the bucket
/// with what `catalyst migrate` makes.
pub async fn attest(settings: &NatsSettings) -> anyhow::Result<Vec<Finding>> {
    let (found, mut findings) = credentials(settings)?;
    let operations = operations();
    for user in &found {
        let options = bus::options(settings, user).await?;
        let passed = trial::try_all(options, &bus::urls(settings), &operations)
            .await
            .with_context(|| format!("the NATS user {user} cannot be tried"))?;
        findings.extend(judge(user, &operations, &passed));
    }
    if found.iter().any(|user| user == topology::READER) {
        findings.extend(topology::attest(settings).await?);
    }
    Ok(findings)
}

/// The users in the folder of credentials, and what is amiss with the folder itself.
fn credentials(settings: &NatsSettings) -> anyhow::Result<(Vec<String>, Vec<Finding>)> {
    let dir = &settings.nats_credentials_dir;
    let read = || format!("cannot read {}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(read)? {
        let path = entry.with_context(read)?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if let (Some(name), Some("creds")) = (name, path.extension().and_then(|e| e.to_str())) {
            found.push(name.to_owned());
        }
    }
    found.sort();
    let known = users();
    let strangers = found.iter().filter(|user| !known.contains(&user.as_str()));
    let mut findings: Vec<Finding> = strangers
        .map(|user| {
            finding(
                "nats-user-unknown",
                Severity::Error,
                of_user(user),
                "no part of this deployment uses it".to_owned(),
                "remove its credentials, and revoke it in its account".to_owned(),
            )
        })
        .collect();
    let untried = known
        .iter()
        .filter(|user| !found.iter().any(|name| name == *user));
    findings.extend(untried.map(|user| {
        finding(
            "nats-user-not-tried",
            Severity::Warning,
            of_user(user),
            format!("{} holds no credentials of it", dir.display()),
            "run the doctor where all credentials are, the folder of `catalyst keys`".to_owned(),
        )
    }));
    Ok((found, findings))
}

/// What a trial says of a user, a finding for each rule.
fn judge(user: &str, operations: &[Operation], passed: &[bool]) -> Vec<Finding> {
    let mut amiss: BTreeMap<&str, (&Rule, Vec<&Operation>)> = BTreeMap::new();
    for (operation, passed) in operations.iter().zip(passed) {
        let needs = operation.needed_by.contains(&user);
        if needs == *passed {
            continue;
        }
        let rule = operation.rule;
        let name = if *passed { rule.may } else { rule.cannot };
        let (_, list) = amiss.entry(name).or_insert((rule, Vec::new()));
        list.push(operation);
    }
    let findings = amiss.into_iter().map(|(name, (rule, list))| {
        let told: Vec<String> = list.iter().take(NAMED).map(|one| told(one)).collect();
        let more = match list.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let told = format!("{}{more}", told.join(", "));
        let problem = if name == rule.may {
            format!("it may {told}: {}", rule.why)
        } else {
            format!("it may not {told}, which it needs")
        };
        let remedy = "issue its credentials anew with `catalyst keys`, and revoke the ones in use";
        finding(
            rule_name(rule, name),
            Severity::Error,
            of_user(user),
            problem,
            remedy.to_owned(),
        )
    });
    findings.collect()
}

fn rule_name(rule: &Rule, name: &str) -> &'static str {
    if name == rule.may {
        rule.may
    } else {
        rule.cannot
    }
}

fn told(operation: &Operation) -> String {
    let Operation { verb, subject, .. } = operation;
    match verb {
        operations::Verb::Hear => format!("hear {subject}"),
        operations::Verb::Share => format!("hear {subject} in a group"),
        operations::Verb::Say => format!("publish to {subject}"),
    }
}

fn of_user(user: &str) -> String {
    format!("NATS user {user}")
}

/// The one place where findings of the bus are made.
fn finding(
    rule: &'static str,
    severity: Severity,
    object: String,
    problem: String,
    remedy: String,
) -> Finding {
    Finding {
        rule,
        severity,
        object,
        problem,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_may_and_one_that_cannot_are_found_by_the_rules_of_the_operation() {
        let operations = operations();
        let as_needed = |user: &str| -> Vec<bool> {
            let all = operations.iter();
            all.map(|one| one.needed_by.contains(&user)).collect()
        };
        assert_eq!(judge("projects", &operations, &as_needed("projects")), []);

        let everything = vec![true; operations.len()];
        let found = judge("projects", &operations, &everything);
        for rule in RULES {
            let of_rule = found.iter().filter(|finding| finding.rule == rule.may);
            assert_eq!(of_rule.count(), 1, "{}", rule.may);
        }
        let nothing = vec![false; operations.len()];
        let found = judge("projects", &operations, &nothing);
        let mut rules: Vec<_> = found.iter().map(|finding| finding.rule).collect();
        rules.sort_unstable();
        assert_eq!(
            rules,
            [
                "nats-user-cannot-hear",
                "nats-user-cannot-hear-own-replies",
                "nats-user-cannot-publish-own",
                "nats-user-cannot-read-own-durable",
                "nats-user-cannot-use-directory",
            ]
        );
    }
}
