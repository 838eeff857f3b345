//! Hashing on all cores: a record's hash needs only the hash before it, which is in the export, so batches are hashed
//! side by side and judged one after the other.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::Context as _;
use audit::export::{Exported, Line, Link, Place};
use audit::trail::{LogReport, Trail};
use proto::audit::v1 as pb;

/// Batches that wait at each core, before and after it.
const WAITING: usize = 2;

/// Records that follow each other, with what is before them.
#[derive(Debug)]
pub enum Batch {
    /// Lines of an export.
    Lines {
        /// The line before; empty before the first.
        before: Vec<u8>,
        /// Whole lines.
        text: Vec<u8>,
    },
    /// Messages of the service.
    Records {
        /// The place of the record before.
        before: Option<Place>,
        /// The records.
        records: Vec<pb::ExportedRecord>,
    },
}

impl Batch {
    /// A batch of messages; `before` is the place of the last one so far, and moves.
    pub(super) fn of_records(before: &mut Option<Place>, records: Vec<pb::ExportedRecord>) -> Self {
        let last = records.last().and_then(Exported::of).map(|it| it.place());
        let batch = Self::Records {
            before: *before,
            records,
        };
        *before = last;
        batch
    }

    /// Hashes each record after the one before it.
    fn links(self) -> anyhow::Result<Vec<Link>> {
        let mut links = Vec::new();
        match self {
            Self::Lines { before, text } => {
                let mut before = match before.as_slice() {
                    [] => None,
                    line => Some(record(line)?.place()),
                };
                for line in text
                    .split(|byte| *byte == b'\n')
                    .filter(|it| !it.is_empty())
                {
                    let link = record(line)?.link(before.as_ref());
                    before = Some(link.place);
                    links.push(link);
                }
            }
            Self::Records {
                mut before,
                records,
            } => {
                for message in &records {
                    let exported = Exported::of(message).with_context(|| {
                        format!(
                            "the service sent what is no record after {} of tenant {}",
                            message.sequence, message.tenant_id
                        )
                    })?;
                    let link = exported.link(before.as_ref());
                    before = Some(link.place);
                    links.push(link);
                }
            }
        }
        Ok(links)
    }
}

fn record(line: &[u8]) -> anyhow::Result<Exported<'_>> {
    let shown = || {
        let start = line.get(..line.len().min(120)).unwrap_or_default();
        format!(
            "a line of the export is no record: {}",
            String::from_utf8_lossy(start)
        )
    };
    match serde_json::from_slice(line).with_context(shown)? {
        Line::Record(record) => Ok(*record),
        Line::Export(_) | Line::Checkpoint(_) => {
            anyhow::bail!(
                "checkpoints come before the records in an export: {}",
                shown()
            )
        }
    }
}

/// One core.
struct Worker {
    batches: SyncSender<Batch>,
    links: Receiver<anyhow::Result<Vec<Link>>>,
}

/// Judges batches in their order. Returns what was found of each log, and the number of records.
pub(super) fn judge(
    mut trail: Trail,
    batches: impl Iterator<Item = anyhow::Result<Batch>>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<(Vec<LogReport>, u64)> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<Worker> = (0..cores)
            .map(|_| {
                let (batches, to_hash) = sync_channel::<Batch>(WAITING);
                let (hashed, links) = sync_channel(WAITING);
                scope.spawn(move || {
                    for batch in to_hash {
                        if hashed.send(batch.links()).is_err() {
                            return;
                        }
                    }
                });
                Worker { batches, links }
            })
            .collect();
        let mut under_way: VecDeque<&Worker> = VecDeque::new();
        let mut records = 0;
        let mut take = |worker: &Worker| -> anyhow::Result<()> {
            let links = worker.links.recv().context("a thread has ended")??;
            for link in &links {
                trail.check(link);
            }
            records += u64::try_from(links.len()).unwrap_or_default();
            progress(records);
            Ok(())
        };
        let mut turns = workers.iter().cycle();
        for batch in batches {
            if under_way.len() >= cores * WAITING
                && let Some(first) = under_way.pop_front()
            {
                take(first)?;
            }
            let worker = turns.next().context("there is no core")?;
            worker.batches.send(batch?).context("a thread has ended")?;
            under_way.push_back(worker);
        }
        for worker in under_way {
            take(worker)?;
        }
        Ok((trail.finish(), records))
    })
}
