//! The audit trail as a whole: every log against its own hashes and against what was signed of it. Pure.
//!
//! Invariant: of each log the first bad record is named. After a rewrite that recomputed every hash, that is the first
//! record which no good checkpoint vouches for: the next checkpoint alone shows it.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::chain::Head;
use crate::checkpoint::{Checked, LogKey, SignedHead};
use crate::export::Link;

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// There is another record, or none, where this one belongs.
    #[error("it is missing, or another one is in its place")]
    Missing,
    /// It is not what was hashed, or follows another record than it did.
    #[error("it was changed, or put between others")]
    Changed,
    /// Its hash and those up to `until` were made anew.
    #[error(
        "it or a record up to {until} was rewritten: checkpoint {checkpoint} signed another hash"
    )]
    Rewritten {
        /// The record that the checkpoint names.
        until: i64,
        /// The number of the checkpoint.
        checkpoint: i64,
    },
    /// The log ends before it.
    #[error("it and all up to {until} are missing at the end: checkpoint {checkpoint} signed them")]
    Cut {
        /// The last record that was signed.
        until: i64,
        /// The number of the first checkpoint that is past the end.
        checkpoint: i64,
    },
    /// It has been there for long and no checkpoint is past it.
    #[error(
        "no checkpoint covers it though it is old: the last checkpoints are missing, or none are made"
    )]
    Uncovered,
}

impl RecordFault {
    /// One word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Rewritten { .. } => "rewritten",
            Self::Cut { .. } => "cut",
            Self::Uncovered => "uncovered",
        }
    }
}

/// The first bad record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Its sequence.
    pub sequence: i64,
    /// What is wrong with it.
    pub fault: RecordFault,
}

/// What was found of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Which.
    pub key: LogKey,
    /// How many records were read.
    pub records: u64,
    /// Every record up to this one is what was signed.
    pub signed_to: i64,
    /// The first bad one.
    pub bad: Option<BadRecord>,
}

#[derive(Debug)]
struct State {
    heads: Vec<SignedHead>,
    /// How many of the heads have been met.
    met: usize,
    end: Head,
    signed_to: i64,
    records: u64,
    bad: Option<BadRecord>,
    uncovered: Option<i64>,
}

impl State {
    fn new(heads: Vec<SignedHead>) -> Self {
        Self {
            heads,
            met: 0,
            end: Head::START,
            signed_to: 0,
            records: 0,
            bad: None,
            uncovered: None,
        }
    }

    fn check(&mut self, link: &Link, settled: OffsetDateTime) -> Option<BadRecord> {
        let expected = self.end.sequence + 1;
        let place = &link.place;
        if place.sequence != expected {
            return Some(bad(expected, RecordFault::Missing));
        }
        if !link.follows {
            return Some(bad(expected, RecordFault::Changed));
        }
        self.end = Head {
            sequence: expected,
            hash: place.hash,
        };
        match self.heads.get(self.met) {
            Some(next) if next.head.sequence == expected => {
                if next.head.hash != place.hash {
                    let fault = RecordFault::Rewritten {
                        until: expected,
                        checkpoint: next.checkpoint,
                    };
                    return Some(bad(self.signed_to + 1, fault));
                }
                self.met += 1;
                self.signed_to = expected;
            }
            None if self.uncovered.is_none() && link.recorded_at < settled => {
                self.uncovered = Some(expected);
            }
            _ => {}
        }
        None
    }

    fn finish(self, key: LogKey) -> LogReport {
        let cut = || {
            let next = self.heads.get(self.met)?;
            let fault = RecordFault::Cut {
                until: self.heads.last()?.head.sequence,
                checkpoint: next.checkpoint,
            };
            Some(bad(self.end.sequence + 1, fault))
        };
        let uncovered = || {
            self.uncovered
                .map(|sequence| bad(sequence, RecordFault::Uncovered))
        };
        LogReport {
            key,
            records: self.records,
            signed_to: self.signed_to,
            bad: self.bad.or_else(cut).or_else(uncovered),
        }
    }
}

fn bad(sequence: i64, fault: RecordFault) -> BadRecord {
    BadRecord { sequence, fault }
}

/// Checks records, log after log, each log in its order.
#[derive(Debug)]
pub struct Trail {
    logs: BTreeMap<LogKey, State>,
    settled: OffsetDateTime,
}

impl Trail {
    /// Begins with what was signed. Records from before `settled` must be covered by a checkpoint.
    pub fn new(checked: &mut Checked, settled: OffsetDateTime) -> Self {
        let logs = std::mem::take(&mut checked.heads)
            .into_iter()
            .map(|(key, heads)| (key, State::new(heads)))
            .collect();
        Self { logs, settled }
    }

    /// Checks the next record. What follows a bad one of the same log is counted and no more.
    pub fn check(&mut self, link: &Link) {
        let state = self
            .logs
            .entry(link.place.key)
            .or_insert_with(|| State::new(Vec::new()));
        state.records += 1;
        if state.bad.is_none() {
            state.bad = state.check(link, self.settled);
        }
    }

    /// Ends: what was signed and not read is missing. By tenant and log.
    pub fn finish(self) -> Vec<LogReport> {
        self.logs
            .into_iter()
            .map(|(key, state)| state.finish(key))
            .collect()
    }
}

#[cfg(test)]
mod tests;
