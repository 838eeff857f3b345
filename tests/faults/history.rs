//! What callers saw: each operation from its first attempt to its last answer, in the order of its worker.
//!
//! Invariant: an operation whose outcome was unknown is repeated as it stands, under the same request id, until its
//! outcome is known, so that what the system must hold follows from the history alone.

use std::collections::BTreeMap;

use kit::TenantId;
use tonic::Code;
use uuid::Uuid;

/// A firm of a run, and the word that only its texts hold.
#[derive(Clone, Debug)]
pub(crate) struct Firm {
    pub(crate) id: TenantId,
    pub(crate) canary: String,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Noun {
    Client,
    Project,
    Consultant,
    TimeEntry,
}

impl Noun {
    pub(crate) const ALL: [Self; 4] = [
        Self::Client,
        Self::Project,
        Self::Consultant,
        Self::TimeEntry,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Update,
    Delete,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged.
    Ok,
    /// Perhaps done, perhaps not: no answer, or one that leaves it open. Repeated until it is something else.
    Unknown,
    /// Refused for good, which no operation of the workload may be.
    Refused(Code, String),
}

/// A write, with all that the system must show of it.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) tenant: TenantId,
    pub(crate) noun: Noun,
    pub(crate) change: Change,
    /// Nil until a creation has been answered.
    pub(crate) aggregate: Uuid,
    /// The version that it makes.
    pub(crate) version: i64,
    /// What the row says afterwards.
    pub(crate) text: String,
    pub(crate) request_id: Uuid,
    pub(crate) attempts: u32,
    /// How many of the attempts left the outcome open.
    pub(crate) unknown: u32,
    pub(crate) outcome: Outcome,
    /// The version in the first answer; none for a deletion.
    pub(crate) answered: Option<i64>,
    /// A digest of the first answer, whole.
    pub(crate) first: Option<u64>,
    /// Later answers that were not the first one.
    pub(crate) other_answers: u32,
}

/// A call that must be refused, made by somebody who makes no other.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) tenant: TenantId,
    /// Who called; nobody else has this name.
    pub(crate) actor: String,
    pub(crate) kind: ProbeKind,
    /// The answer; none when there was none that says what was decided.
    pub(crate) answer: Option<Code>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// Metadata that names another tenant than the token.
    OtherTenant,
    /// The id of another tenant's row.
    ForeignId,
}

impl ProbeKind {
    /// The one right refusal.
    pub(crate) fn refusal(self) -> Code {
        match self {
            Self::OtherTenant => Code::PermissionDenied,
            Self::ForeignId => Code::NotFound,
        }
    }

    /// The event that must be on record once.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::OtherTenant => "catalyst.common.v1.TenantMismatchDetected",
            Self::ForeignId => "catalyst.common.v1.ResourceNotFound",
        }
    }
}

/// Everything that the callers of a run saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) firms: Vec<Firm>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) probes: Vec<Probe>,
    /// Answers with another firm's canary in them.
    pub(crate) foreign_canaries: Vec<String>,
    /// Reads that did not show the last acknowledged write of what nobody else writes.
    pub(crate) stale_reads: Vec<String>,
    /// Reads that were answered.
    pub(crate) reads: u64,
    /// Events that the run itself put on the bus, and that no write stands behind.
    pub(crate) forged: Vec<Uuid>,
}

/// What must be there of an aggregate at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) tenant: TenantId,
    pub(crate) version: i64,
    pub(crate) text: String,
    pub(crate) deleted: bool,
}

impl History {
    /// Adds what another worker saw.
    pub(crate) fn merge(&mut self, other: Self) {
        self.firms.extend(other.firms);
        self.operations.extend(other.operations);
        self.probes.extend(other.probes);
        self.foreign_canaries.extend(other.foreign_canaries);
        self.stale_reads.extend(other.stale_reads);
        self.reads += other.reads;
        self.forged.extend(other.forged);
    }

    /// Acknowledged writes, in the order of each worker.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .iter()
            .filter(|operation| operation.outcome == Outcome::Ok)
    }

    /// The end state of every aggregate, as the acknowledged writes make it.
    pub(crate) fn expected(&self) -> BTreeMap<(Noun, Uuid), Expected> {
        let mut expected = BTreeMap::new();
        for operation in self.acknowledged() {
            let state = Expected {
                tenant: operation.tenant,
                version: operation.version,
                text: operation.text.clone(),
                deleted: operation.change == Change::Delete,
            };
            expected.insert((operation.noun, operation.aggregate), state);
        }
        expected
    }
}

/// The canaries in a text or a message, whichever firm's: each is a fixed word and twelve digits of its own.
pub(crate) fn canaries(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let length = CANARY.len() + CANARY_DIGITS;
    for (at, window) in bytes.windows(CANARY.len()).enumerate() {
        if window == CANARY.as_bytes()
            && let Some(word) = bytes.get(at..at + length)
        {
            found.push(String::from_utf8_lossy(word).into_owned());
        }
    }
    found
}

/// What every canary begins with.
pub(crate) const CANARY: &str = "canary-";
/// What follows, of a firm's own.
pub(crate) const CANARY_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_found_wherever_they_are() {
        let bytes = b"\x0a\x13canary-0123456789ab x canary-ba9876543210canary-";
        let expected = ["canary-0123456789ab", "canary-ba9876543210"];
        assert_eq!(canaries(bytes), expected);
        assert_eq!(canaries(b"canary-short"), Vec::<String>::new());
    }
}
