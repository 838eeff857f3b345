//! One stream of chunks to the service, opened again when it breaks; chunks without an answer are sent again.
//!
//! Invariant: a chunk is counted when its answer arrives, and once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use indicatif::ProgressBar;
use kit::error::reason_text;
use proto::time_entries::v1 as pb;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::entries::Chunk;
use super::tally::Tally;
use crate::client::Backoff;
use crate::client::connection::Wire;
use crate::client::error::{Refused, Unavailable, is_transient};
use crate::import::rejects::Rejects;
use crate::import::row::{Reason, Reject};

/// Chunks that were sent and have no answer yet.
const IN_FLIGHT: usize = 3;

/// What one stream needs.
pub(super) struct Lane {
    pub(super) service: TimeEntryServiceClient<Wire>,
    pub(super) chunks: mpsc::Receiver<Chunk>,
    pub(super) policy: pb::OverlapPolicy,
    pub(super) max_minutes: i32,
    pub(super) rejects: Arc<Mutex<Rejects>>,
    pub(super) progress: ProgressBar,
}

impl Lane {
    /// Sends all chunks; gives the counts of their rows.
    pub(super) async fn run(mut self) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut backoff = Backoff::new();
        let mut unanswered = VecDeque::new();
        loop {
            if unanswered.is_empty() {
                match self.chunks.recv().await {
                    Some(chunk) => unanswered.push_back(chunk),
                    None => return Ok(tally),
                }
            }
            let Err(error) = self.stream(&mut unanswered, &mut tally, &mut backoff).await else {
                continue;
            };
            let status = error.downcast::<Status>()?;
            if !is_transient(&status) {
                return Err(Refused::from(status).into());
            }
            if !backoff.wait().await {
                let problem =
                    "the server stayed away for too long: start it, then repeat the command";
                return Err(Unavailable::new(problem).into());
            }
        }
    }

    /// One stream: first what has no answer, then what comes, to the end or until it breaks.
    async fn stream(
        &mut self,
        unanswered: &mut VecDeque<Chunk>,
        tally: &mut Tally,
        backoff: &mut Backoff,
    ) -> anyhow::Result<()> {
        let (requests, receiver) = mpsc::channel(IN_FLIGHT);
        for chunk in &*unanswered {
            requests.send(self.request(chunk)).await?;
        }
        let receiver = ReceiverStream::new(receiver);
        let mut answers = self
            .service
            .import_time_entries(receiver)
            .await?
            .into_inner();
        let mut is_last = false;
        while !(is_last && unanswered.is_empty()) {
            tokio::select! {
                chunk = self.chunks.recv(), if !is_last && unanswered.len() < IN_FLIGHT => match chunk {
                    Some(chunk) => {
                        // If the stream has broken, the answers say so, and the chunk is sent on the next one.
                        let _ = requests.send(self.request(&chunk)).await;
                        unanswered.push_back(chunk);
                    }
                    None => is_last = true,
                },
                answer = answers.message(), if !unanswered.is_empty() => {
                    let answer = answer?.ok_or_else(|| Status::unavailable("the stream ended early"))?;
                    let chunk = unanswered.pop_front().context("an answer came to no chunk")?;
                    self.settle(&chunk, answer, tally)?;
                    backoff.succeeded();
                }
            }
        }
        Ok(())
    }

    fn request(&self, chunk: &Chunk) -> pb::ImportTimeEntriesRequest {
        pb::ImportTimeEntriesRequest {
            rows: chunk.rows.clone(),
            overlap_policy: self.policy.into(),
            max_duration_minutes: Some(self.max_minutes),
        }
    }

    fn settle(
        &self,
        chunk: &Chunk,
        answer: pb::ImportTimeEntriesResponse,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let (sent, answered) = (chunk.rows.len(), answer.results.len());
        anyhow::ensure!(
            sent == answered,
            "{sent} rows were sent and {answered} answered"
        );
        let rows = chunk.rows.iter().zip(&chunk.records);
        for ((row, record), result) in rows.zip(answer.results) {
            match result.outcome() {
                pb::ImportOutcome::Created => {
                    tally.created += 1;
                    tally.worked_minutes += worked_minutes(row);
                }
                pb::ImportOutcome::CreatedOverlapping => {
                    tally.kept_overlapping += 1;
                    tally.worked_minutes += worked_minutes(row);
                }
                pb::ImportOutcome::AlreadyExists => tally.already_there += 1,
                pb::ImportOutcome::Rejected => {
                    let reason = reason_text(result.reason());
                    tally.reject(&reason.to_ascii_lowercase());
                    let reject = Reject {
                        line: record.line,
                        external_id: row.external_id.clone(),
                        reason: Reason::Refused,
                        message: format!("{reason}: {}", result.message),
                    };
                    let mut rejects = self.rejects.lock().unwrap_or_else(PoisonError::into_inner);
                    rejects.write(&reject, record)?;
                }
                pb::ImportOutcome::Unspecified => {
                    anyhow::bail!("the server answered line {} with nothing", record.line)
                }
            }
        }
        self.progress.inc(u64::try_from(sent)?);
        Ok(())
    }
}

/// As the service counts: whole minutes without the break.
fn worked_minutes(row: &pb::ImportRow) -> i64 {
    let seconds = |at: &Option<prost_types::Timestamp>| at.map_or(0, |at| at.seconds);
    (seconds(&row.ended_at) - seconds(&row.started_at)) / 60 - i64::from(row.break_minutes)
}
