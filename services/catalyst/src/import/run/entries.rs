//! The second reading: rows into chunks for the lanes, rejects into their file.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use indicatif::ProgressBar;
use prost::Message as _;
use prost_types::Timestamp;
use proto::time_entries::v1 as pb;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::nouns::Nouns;
use super::tally::Tally;
use crate::import::judge::Judge;
use crate::import::reader::{Record, Rows};
use crate::import::rejects::Rejects;
use crate::import::row::{Entry, Outcome, Reason, Reject};

/// Rows of a chunk: the service takes up to 1,000.
const CHUNK_ROWS: usize = 500;
/// A chunk is full at this size too; a message may have 4 MiB, a row at most 1.
const CHUNK_BYTES: usize = 1 << 20;

/// Rows that are sent together.
#[derive(Default)]
pub(super) struct Chunk {
    /// What is sent.
    pub(super) rows: Vec<pb::ImportRow>,
    /// The rows as they stood in the file, for the rejects.
    pub(super) records: Vec<Record>,
    bytes: usize,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }

    fn push(&mut self, row: pb::ImportRow, record: Record) {
        self.bytes += row.encoded_len();
        self.rows.push(row);
        self.records.push(record);
    }
}

/// Reads the file to its end; counts what never reaches a lane. Ends early when a lane has gone.
pub(super) fn read(
    mut rows: Rows,
    judge: &Judge,
    nouns: &Nouns,
    lanes: Vec<mpsc::Sender<Chunk>>,
    rejects: &Mutex<Rejects>,
    progress: &ProgressBar,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut lanes: Vec<_> = lanes
        .into_iter()
        .map(|lane| (lane, Chunk::default()))
        .collect();
    let count = lanes.len();
    let mut record = Record::default();
    while rows.read(&mut record)? {
        tally.read += 1;
        let row = match judge.judge(&record) {
            Outcome::Filtered => {
                tally.filtered += 1;
                progress.inc(1);
                continue;
            }
            Outcome::Rejected(reject) => Err(reject),
            Outcome::Entry(entry) => import_row(*entry, nouns)?,
        };
        match row {
            Ok(row) => {
                let lane = lane_of(&row.consultant_id, count);
                let (sender, chunk) = lanes.get_mut(lane).context("there is no lane")?;
                chunk.push(row, record.clone());
                if chunk.is_full() && sender.blocking_send(mem::take(chunk)).is_err() {
                    return Ok(tally);
                }
            }
            Err(reject) => {
                tally.reject(reject.reason.as_str());
                progress.inc(1);
                let mut rejects = rejects.lock().unwrap_or_else(PoisonError::into_inner);
                rejects.write(&reject, &record)?;
            }
        }
    }
    for (sender, chunk) in lanes {
        if !chunk.rows.is_empty() && sender.blocking_send(chunk).is_err() {
            break;
        }
    }
    Ok(tally)
}

/// The row as the service takes it; a reject where its project or consultant could not be created.
fn import_row(entry: Entry, nouns: &Nouns) -> anyhow::Result<Result<pb::ImportRow, Reject>> {
    let changed = || {
        format!(
            "the file changed while it was read (line {}): repeat the import",
            entry.line
        )
    };
    let project = nouns
        .project(&entry.client, &entry.project)
        .with_context(changed)?;
    let consultant = nouns.consultant(&entry.consultant).with_context(changed)?;
    let (project_id, consultant_id) = match (project, consultant) {
        (Ok(project), Ok(consultant)) => (project.clone(), consultant.clone()),
        (Err(why), _) | (_, Err(why)) => {
            return Ok(Err(Reject {
                line: entry.line,
                external_id: entry.external_id,
                reason: Reason::Refused,
                message: why.clone(),
            }));
        }
    };
    Ok(Ok(pb::ImportRow {
        external_id: entry.external_id,
        project_id,
        consultant_id,
        started_at: Some(timestamp(entry.started_at)),
        ended_at: Some(timestamp(entry.ended_at)),
        break_minutes: i32::try_from(entry.break_minutes)?,
        time_zone: entry.time_zone,
        billable: entry.billable,
        note: entry.note,
    }))
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or_default(),
    }
}

/// The lane of a consultant, always the same one.
fn lane_of(consultant_id: &str, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    consultant_id.hash(&mut hasher);
    let lanes = u64::try_from(lanes.max(1)).unwrap_or(1);
    usize::try_from(hasher.finish() % lanes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_consultant_always_takes_the_same_lane(id in ".{0,40}", lanes in 1_usize..9) {
            let lane = lane_of(&id, lanes);
            prop_assert!(lane < lanes);
            prop_assert_eq!(lane_of(&id, lanes), lane);
        }
    }

    #[test]
    fn a_chunk_is_full_by_rows_or_by_size() {
        let row = |note: usize| pb::ImportRow {
            note: "x".repeat(note),
            ..Default::default()
        };
        let mut chunk = Chunk::default();
        for _ in 0..CHUNK_ROWS {
            assert!(!chunk.is_full());
            chunk.push(row(1), Record::default());
        }
        assert!(chunk.is_full());
        let mut chunk = Chunk::default();
        chunk.push(row(CHUNK_BYTES), Record::default());
        assert!(chunk.is_full());
    }
}
