//! One open watch: it sends what is appended until it may no longer.
//!
//! Invariant: the right to read is checked again and again while the stream is open: the token, by letting the call in
//! once more, and the tenant, at once when the directory changes.

use std::time::Duration;

use kit::{Ctx, Kit};
use proto::audit::v1 as pb;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Request, Status};

use super::convert;
use crate::record::Filter;
use crate::{operations, permissions};

/// The longest that a stream stays open. A client goes on after the last sequence that it has seen.
const LONGEST: Duration = Duration::from_hours(1);
/// Between two checks of the caller's token.
const CHECK: Duration = Duration::from_secs(15);
/// Between two looks at the log: what other replicas append is found by looking.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks that something appended asks for.
const BREATH: Duration = Duration::from_millis(50);

pub(super) struct Watch {
    pub(super) kit: Kit,
    pub(super) ctx: Ctx,
    /// The call without its message: what lets it in.
    pub(super) credentials: Request<()>,
    pub(super) filter: Filter,
    pub(super) appended: watch::Receiver<()>,
    pub(super) sender: mpsc::Sender<Result<pb::WatchRecordsResponse, Status>>,
}

impl Watch {
    /// Sends records after `sequence` until the caller goes or has to go.
    pub(super) async fn run(&self, sequence: i64) {
        let end = tokio::select! {
            end = self.follow(sequence) => end,
            end = self.check() => end,
            () = self.kit.draining() => self.kit.shutting_down(),
            () = tokio::time::sleep(LONGEST) => return,
            () = self.sender.closed() => return,
        };
        // A caller that does not read any more does not learn why.
        let _ = self.sender.try_send(Err(end));
    }

    /// Reads the log on and sends it; ends with a failure only.
    async fn follow(&self, mut sequence: i64) -> Status {
        let mut appended = self.appended.clone();
        loop {
            let piece =
                operations::watch_records(&self.ctx, &self.kit.db, &self.filter, sequence).await;
            let piece = match self.kit.answer(&self.ctx, piece).await {
                Ok(piece) => piece,
                // As below: it is there to be read later.
                Err(status) if status.code() == Code::ResourceExhausted => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Err(status) => return status,
            };
            for record in piece.records {
                let message = pb::WatchRecordsResponse {
                    record: Some(convert::record_for_tenant(record)),
                };
                if self.sender.send(Ok(message)).await.is_err() {
                    return Status::cancelled("the caller has gone");
                }
            }
            sequence = piece.read_to;
            if piece.is_full {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Ok(()) = appended.changed() => tokio::time::sleep(BREATH).await,
            }
        }
    }

    /// Lets the call in again: at intervals, and when its tenant is no longer active. Ends with the refusal, which is
    /// on record then like any other.
    async fn check(&self) -> Status {
        loop {
            tokio::select! {
                () = tokio::time::sleep(CHECK) => {}
                () = self.kit.directory.deactivated(self.ctx.tenant()) => {}
            }
            match self
                .kit
                .authorize(&self.credentials, &permissions::WATCH_RECORDS)
                .await
            {
                Ok(_) => {}
                // A busy tenant or database is no reason to break a stream that was let in.
                Err(status)
                    if matches!(status.code(), Code::ResourceExhausted | Code::Unavailable) => {}
                Err(status) => return status,
            }
            if !self.kit.directory.is_active(self.ctx.tenant()) {
                return self.kit.not_active();
            }
        }
    }
}
