//! The rules of the doctor and why each matters: those of the attestation, and those of the deployment around it.

use kit::attest::{self, Explained, Severity};
use serde_json::json;

use super::{Unsound, bus, database, deployment, report};
use crate::client::output::Output;

const OF_THE_DEPLOYMENT: [(&str, &str); 6] = [
    (
        database::OTHER_CELL,
        "tenants of one cell would be served from the database of another, where none of their rows are",
    ),
    (
        database::UNJUDGED,
        "whether the firms of that cell are isolated is not known; its services refuse them until it can be judged",
    ),
    (
        database::PENDING,
        "this binary was tested with a schema that the database does not have; its services refuse to start",
    ),
    (
        deployment::VERSION,
        "older servers lose streams or check the permissions of users wrongly",
    ),
    (
        deployment::UNSYNCED,
        "a power cut loses events that were acknowledged, those of refusals included",
    ),
    (
        deployment::KEYS,
        "no token of that issuer can be verified, so that callers or services are locked out",
    ),
];

/// Every rule.
fn all() -> Vec<Explained> {
    let own = OF_THE_DEPLOYMENT.map(|(rule, why)| Explained {
        rule,
        severity: Severity::Error,
        why,
    });
    let of_bus = bus::explained().into_iter();
    let of_bus = of_bus.map(|(rule, severity, why)| Explained {
        rule,
        severity,
        why,
    });
    let attested = attest::explained().into_iter();
    attested.chain(own).chain(of_bus).collect()
}

/// Why a rule matters.
pub(super) fn why(rule: &str) -> &'static str {
    all()
        .iter()
        .find(|explained| explained.rule == rule)
        .map_or("", |explained| explained.why)
}

/// Lists the rules, or explains one.
pub(super) fn show(one: Option<&str>, out: &Output) -> anyhow::Result<()> {
    let mut rules = all();
    rules.retain(|explained| one.is_none_or(|one| one == explained.rule));
    if rules.is_empty() {
        return Err(Unsound::NoRule(one.unwrap_or_default().to_owned()).into());
    }
    if out.is_json() {
        return rules.iter().try_for_each(
            |Explained {
                 rule,
                 severity,
                 why,
             }| {
                out.json(
                    &json!({ "rule": rule, "severity": report::severity(*severity), "why": why }),
                )
            },
        );
    }
    let rows = rules.iter().map(
        |Explained {
             rule,
             severity,
             why,
         }| {
            vec![
                (*rule).to_owned(),
                report::severity(*severity).to_owned(),
                (*why).to_owned(),
            ]
        },
    );
    out.table(&["rule", "severity", "why"], rows)
}
