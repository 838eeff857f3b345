//! The one judge of all runs: the history of the callers against what the system holds, invariant by invariant.
//!
//! Invariant: it decides from its two arguments alone, so that each rule is shown a planted fault below.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::evidence::{Evidence, Recorded};
use crate::history::{Expected, History, Noun, Outcome};

/// What must hold through every fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Invariant {
    /// Every acknowledged write is in the database, its event in the stream and applied: nothing is lost.
    I1,
    /// No event without a committed write.
    I2,
    /// Each write and each event has one effect.
    I3,
    /// The versions of an aggregate are applied in order, without a gap.
    I4,
    /// Nothing of another tenant in anything that a tenant gets.
    I5,
    /// An unknown outcome that is repeated under its request id gets the first answer.
    I6,
    /// Every refused attempt across tenants is on record once.
    I7,
    /// The audit logs verify.
    I8,
    /// All of it comes to rest within the bound after the fault.
    I9,
    /// A row is in one place.
    I10,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An invariant that did not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Breach {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

/// What was judged, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    /// Attempts whose outcome was unknown.
    pub(crate) unknown: u64,
    pub(crate) reads: u64,
    pub(crate) probes: u64,
    pub(crate) events: u64,
    /// Events that the stream holds more than once, which is allowed.
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) inverted: u64,
    pub(crate) canaries: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.probes += other.probes;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.inverted += other.inverted;
        self.canaries += other.canaries;
    }
}

/// The judgment of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) breaches: Vec<Breach>,
    pub(crate) tally: Tally,
}

impl Verdict {
    fn find(&mut self, invariant: Invariant, what: String) {
        match invariant {
            Invariant::I1 => self.tally.lost += 1,
            Invariant::I3 => self.tally.doubled += 1,
            Invariant::I4 => self.tally.inverted += 1,
            Invariant::I5 => self.tally.canaries += 1,
            _ => {}
        }
        self.breaches.push(Breach { invariant, what });
    }
}

/// Judges a run.
pub(crate) fn check(history: &History, evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let expected = history.expected();
    count(history, evidence, &mut verdict);
    answers(history, &mut verdict);
    rows(&expected, evidence, &mut verdict);
    stream(history, &expected, evidence, &mut verdict);
    log(history, &expected, evidence, &mut verdict);
    references(&expected, evidence, &mut verdict);
    canaries(history, evidence, &mut verdict);
    refusals(history, evidence, &mut verdict);
    if let Some(fault) = &evidence.trail {
        verdict.find(Invariant::I8, fault.clone());
    }
    for what in &evidence.unsettled {
        verdict.find(Invariant::I9, what.clone());
    }
    if evidence.open_transactions > 0 {
        let what = format!(
            "{} sessions idle in a transaction",
            evidence.open_transactions
        );
        verdict.find(Invariant::I9, what);
    }
    verdict
}

fn count(history: &History, evidence: &Evidence, verdict: &mut Verdict) {
    let distinct: BTreeSet<Uuid> = evidence.stream.iter().map(|stored| stored.event).collect();
    let tally = &mut verdict.tally;
    tally.acknowledged = history.acknowledged().count() as u64;
    tally.unknown = history
        .operations
        .iter()
        .map(|it| u64::from(it.unknown))
        .sum();
    tally.reads = history.reads;
    tally.probes = history.probes.len() as u64;
    tally.events = evidence.stream.len() as u64;
    tally.duplicates = tally.events - distinct.len() as u64;
}

/// What callers were told.
fn answers(history: &History, verdict: &mut Verdict) {
    for operation in &history.operations {
        let name = format!(
            "{:?} of {:?} {} ({}, {} attempts)",
            operation.change,
            operation.noun,
            operation.aggregate,
            operation.request_id,
            operation.attempts
        );
        match &operation.outcome {
            Outcome::Ok => {}
            Outcome::Unknown => verdict.find(Invariant::I6, format!("{name}: never answered")),
            Outcome::Refused(code, message) => {
                verdict.find(
                    Invariant::I6,
                    format!("{name}: refused as {code:?}: {message}"),
                );
            }
        }
        if operation.other_answers > 0 {
            let others = operation.other_answers;
            verdict.find(
                Invariant::I6,
                format!("{name}: {others} repeats had another answer"),
            );
        }
        match operation.answered {
            Some(version) if version > operation.version => verdict.find(
                Invariant::I3,
                format!("{name}: made version {version}, not {}", operation.version),
            ),
            Some(version) if version < operation.version => verdict.find(
                Invariant::I1,
                format!("{name}: made version {version}, not {}", operation.version),
            ),
            _ => {}
        }
    }
    for what in &history.stale_reads {
        verdict.find(Invariant::I1, what.clone());
    }
}

type Ends = BTreeMap<(Noun, Uuid), Expected>;

/// The services' own tables.
fn rows(expected: &Ends, evidence: &Evidence, verdict: &mut Verdict) {
    let mut seen = BTreeSet::new();
    for row in &evidence.rows {
        let name = format!("{:?} {} of {}", row.noun, row.id, row.tenant);
        if !seen.insert((row.noun, row.id)) {
            verdict.find(Invariant::I10, format!("{name} is there twice"));
        }
        let Some(end) = expected.get(&(row.noun, row.id)) else {
            verdict.find(Invariant::I3, format!("{name}: no write made it"));
            continue;
        };
        if end.deleted {
            verdict.find(Invariant::I1, format!("{name}: its deletion is lost"));
        } else if end.tenant != row.tenant {
            verdict.find(Invariant::I5, format!("{name} belongs to {}", end.tenant));
        } else if row.version < end.version || (row.version == end.version && row.text != end.text)
        {
            verdict.find(
                Invariant::I1,
                format!(
                    "{name} is {:?} at version {}, not {:?} at {}",
                    row.text, row.version, end.text, end.version
                ),
            );
        } else if row.version > end.version {
            verdict.find(
                Invariant::I3,
                format!("{name} is at version {}, not {}", row.version, end.version),
            );
        }
    }
    for ((noun, id), end) in expected {
        if !end.deleted && !seen.contains(&(*noun, *id)) {
            verdict.find(
                Invariant::I1,
                format!("{noun:?} {id} of {} is lost", end.tenant),
            );
        }
    }
}

/// The stream of domain events, as it was stored.
fn stream(history: &History, expected: &Ends, evidence: &Evidence, verdict: &mut Verdict) {
    let ends = by_id(expected);
    let mut ids: BTreeMap<(Uuid, i64), BTreeSet<Uuid>> = BTreeMap::new();
    let mut order: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for stored in &evidence.stream {
        if history.forged.contains(&stored.event) {
            continue;
        }
        let place = (stored.aggregate, stored.version);
        let written = ends
            .get(&stored.aggregate)
            .is_some_and(|end| end.tenant == stored.tenant && stored.version <= end.version);
        if !written {
            verdict.find(
                Invariant::I2,
                format!("event {} of {place:?} has no write", stored.event),
            );
        }
        ids.entry(place).or_default().insert(stored.event);
        if known.insert(stored.event) {
            order
                .entry(stored.aggregate)
                .or_default()
                .push(stored.version);
        }
    }
    for (place, events) in &ids {
        if events.len() > 1 {
            verdict.find(Invariant::I3, format!("{place:?} was told as {events:?}"));
        }
    }
    in_order("the stream", &ends, &order, verdict);
}

/// The audit log of each tenant: every event once, in the order of its aggregate.
fn log(history: &History, expected: &Ends, evidence: &Evidence, verdict: &mut Verdict) {
    let ends = by_id(expected);
    let mut order: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    let mut times: BTreeMap<_, u64> = BTreeMap::new();
    let mut records: Vec<&Recorded> = evidence.records.iter().collect();
    records.sort_by_key(|record| (record.tenant, record.operator_only, record.sequence));
    for record in records {
        // A promoted miss is recorded in other logs, as what it turned out to be.
        let log = (record.tenant, record.operator_only);
        let entry = (log, record.event, record.type_name.as_str());
        let count = times.entry(entry).or_default();
        *count += 1;
        if *count > 1 {
            verdict.find(
                Invariant::I3,
                format!("event {} is on record {count} times", record.event),
            );
        }
        let forged = history.forged.contains(&record.event);
        if record.is_domain && !forged && ends.contains_key(&record.aggregate) {
            order
                .entry(record.aggregate)
                .or_default()
                .push(record.version);
        }
    }
    in_order("the audit log", &ends, &order, verdict);
}

/// The versions of each aggregate are 1, 2, 3 … up to its last.
fn in_order(
    place: &str,
    ends: &BTreeMap<Uuid, &Expected>,
    order: &BTreeMap<Uuid, Vec<i64>>,
    verdict: &mut Verdict,
) {
    let none = Vec::new();
    for (id, end) in ends {
        let found = order.get(id).unwrap_or(&none);
        if found.iter().copied().eq(1..=end.version) {
            continue;
        }
        let missing: Vec<i64> = (1..=end.version).filter(|it| !found.contains(it)).collect();
        if missing.is_empty() {
            verdict.find(Invariant::I4, format!("{place} has {found:?} of {id}"));
        } else {
            let of = end.tenant;
            verdict.find(
                Invariant::I1,
                format!("{place} lacks {missing:?} of {id} of {of}, and has {found:?}"),
            );
        }
    }
}

fn by_id(expected: &Ends) -> BTreeMap<Uuid, &Expected> {
    expected.iter().map(|((_, id), end)| (*id, end)).collect()
}

/// What other services keep, each at the newest version that was told.
fn references(expected: &Ends, evidence: &Evidence, verdict: &mut Verdict) {
    for kept in &evidence.references {
        let name = format!("{:?} {} kept by {}", kept.noun, kept.id, kept.keeper);
        let Some(end) = expected.get(&(kept.noun, kept.id)) else {
            verdict.find(Invariant::I2, format!("{name}: no write made it"));
            continue;
        };
        if end.tenant != kept.tenant {
            verdict.find(Invariant::I5, format!("{name} belongs to {}", end.tenant));
        }
        if kept.version != end.version {
            verdict.find(
                Invariant::I4,
                format!("{name} is at version {}, not {}", kept.version, end.version),
            );
        }
    }
}

/// Every output of a tenant, for another's canary.
fn canaries(history: &History, evidence: &Evidence, verdict: &mut Verdict) {
    for what in &history.foreign_canaries {
        verdict.find(Invariant::I5, what.clone());
    }
    let own: BTreeMap<_, _> = history
        .firms
        .iter()
        .map(|firm| (firm.id, firm.canary.as_str()))
        .collect();
    let stored = evidence
        .stream
        .iter()
        .flat_map(|it| each("the stream", it.tenant, &it.canaries));
    // The operator's log of a tenant is for no tenant's eyes.
    let records = evidence.records.iter().filter(|it| !it.operator_only);
    let recorded = records.flat_map(|it| each("the audit log", it.tenant, &it.canaries));
    let told = evidence
        .security_canaries
        .iter()
        .flat_map(|(tenant, canary)| {
            each("the security stream", *tenant, std::slice::from_ref(canary))
        });
    for (place, tenant, canary) in stored.chain(recorded).chain(told) {
        if own.get(&tenant).is_some_and(|own| *own != canary) {
            verdict.find(Invariant::I5, format!("{place} of {tenant} holds {canary}"));
        }
    }
}

fn each<'a, T: Copy>(
    place: &'static str,
    tenant: T,
    canaries: &'a [String],
) -> impl Iterator<Item = (&'static str, T, &'a str)> {
    canaries
        .iter()
        .map(move |canary| (place, tenant, canary.as_str()))
}

/// Every refusal is on record once; a call without an answer may be, and not twice.
fn refusals(history: &History, evidence: &Evidence, verdict: &mut Verdict) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for record in evidence.records.iter().filter(|record| !record.is_domain) {
        *counts
            .entry((record.actor.as_str(), record.type_name.as_str()))
            .or_default() += 1;
    }
    for probe in &history.probes {
        let event = probe.kind.event();
        let count = counts
            .get(&(probe.actor.as_str(), event))
            .copied()
            .unwrap_or(0);
        let name = format!("{:?} by {} of {}", probe.kind, probe.actor, probe.tenant);
        match probe.answer {
            None if count <= 1 => {}
            Some(code) if code == probe.kind.refusal() && count == 1 => {}
            Some(code) if code != probe.kind.refusal() => {
                verdict.find(Invariant::I7, format!("{name} was answered with {code:?}"));
            }
            _ => verdict.find(Invariant::I7, format!("{name} is on record {count} times")),
        }
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
