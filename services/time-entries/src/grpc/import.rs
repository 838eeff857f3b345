//! The stream of an import: chunk in, stored, answer out, until the caller ends it.

use futures::SinkExt;
use futures::channel::mpsc;
use futures::future::try_join_all;
use kit::TenantId;
use kit::error::Verdict;
use kit::fields::Fields;
use kit::ids::Kind;
use proto::common::v1::ErrorReason;
use proto::time_entries::v1 as pb;
use time::Duration;
use tonic::{Code, Request, Status, Streaming};

use super::{Service, time_entry};
use crate::error::Error;
use crate::import::{Chunk, Outcome, OverlapPolicy, Rejection};
use crate::operations::{self, Imported};
use crate::permissions;
use crate::reference::{ConsultantKind, ProjectKind};
use crate::span::LONGEST;
use crate::time_entry::NewTimeEntry;

/// The most rows of a chunk.
const ROWS: usize = 1_000;
/// The most that a chunk may let a row last, in minutes: 31 days.
const LONGEST_MINUTES: i32 = 31 * 24 * 60;

/// How long a stream may stay open without a chunk.
const IDLE: std::time::Duration = std::time::Duration::from_mins(1);

/// Where the answers go; it holds one at a time, so that no chunk is stored that nobody waits for.
type Answers = mpsc::Sender<Result<pb::ImportTimeEntriesResponse, Status>>;

/// Works on the chunks of one call, one after the other. Each chunk is let in anew, like a call of its own: by token,
/// tenant, role and rate.
pub(super) async fn serve(
    service: Service,
    tenant: TenantId,
    credentials: Request<()>,
    mut chunks: Streaming<pb::ImportTimeEntriesRequest>,
    mut answers: Answers,
) {
    loop {
        let next = tokio::select! {
            biased;
            () = service.kit.directory.deactivated(tenant) => Err(service.no_longer(&credentials).await),
            () = service.kit.draining() => Err(service.kit.shutting_down()),
            () = tokio::time::sleep(IDLE) => Err(idle()),
            next = chunks.message() => next,
        };
        let answer = match next {
            Ok(Some(chunk)) => service.import_chunk(&credentials, &chunk).await,
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let ends = answer.is_err();
        // Nobody to answer: the caller is gone.
        if answers.send(answer).await.is_err() || ends {
            return;
        }
    }
}

/// The status that ends a stream on which nothing comes.
fn idle() -> Status {
    let message = "no chunk came for a minute: open the stream again and go on";
    Verdict::new(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        message,
    )
    .into_status()
}

impl Service {
    /// The refusal of a tenant that is not active any more, on record like any other.
    async fn no_longer(&self, credentials: &Request<()>) -> Status {
        let refused = self.kit.authorize(credentials, &permissions::IMPORT).await;
        refused.err().unwrap_or_else(|| self.kit.not_active())
    }

    async fn import_chunk(
        &self,
        credentials: &Request<()>,
        request: &pb::ImportTimeEntriesRequest,
    ) -> Result<pb::ImportTimeEntriesResponse, Status> {
        let ctx = &self
            .kit
            .authorize(credentials, &permissions::IMPORT)
            .await?;
        let chunk = self.kit.answer(ctx, read_chunk(request)).await?;
        let turn = self.chunks.turn(ctx.tenant()).await;
        let imported =
            operations::import_time_entries(ctx, &self.kit.db, &self.owners, &chunk).await;
        drop(turn);
        let Imported { outcomes, missing } = self.kit.answer(ctx, imported).await?;
        let projects = missing
            .projects
            .iter()
            .map(|id| (ProjectKind::NAME, id.uuid()));
        let consultants = missing
            .consultants
            .iter()
            .map(|id| (ConsultantKind::NAME, id.uuid()));
        let missing = projects.chain(consultants);
        try_join_all(missing.map(|(kind, id)| self.kit.note_missing(ctx, kind, id))).await?;
        Ok(pb::ImportTimeEntriesResponse {
            results: outcomes.into_iter().map(Into::into).collect(),
        })
    }
}

/// Reads a chunk. What is wrong with a row is the row's own answer.
fn read_chunk(request: &pb::ImportTimeEntriesRequest) -> Result<Chunk, kit::Error> {
    let mut fields = Fields::new();
    if request.rows.is_empty() || request.rows.len() > ROWS {
        fields.reject("rows", format!("must be 1 to {ROWS}"));
    }
    let policy = match pb::OverlapPolicy::try_from(request.overlap_policy) {
        Ok(pb::OverlapPolicy::Unspecified | pb::OverlapPolicy::Reject) => {
            Some(OverlapPolicy::Reject)
        }
        Ok(pb::OverlapPolicy::Keep) => Some(OverlapPolicy::Keep),
        Err(_) => {
            fields.reject(
                "overlap_policy",
                "must be a known policy, or none for REJECT",
            );
            None
        }
    };
    let longest = match request.max_duration_minutes {
        None => LONGEST,
        Some(minutes) => {
            if !(1..=LONGEST_MINUTES).contains(&minutes) {
                fields.reject(
                    "max_duration_minutes",
                    format!("must be between 1 and {LONGEST_MINUTES}"),
                );
            }
            Duration::minutes(minutes.into())
        }
    };
    let policy = fields.finish(policy)?;
    let rows = request
        .rows
        .iter()
        .map(|row| read_row(row, longest))
        .collect();
    Ok(Chunk { rows, policy })
}

fn read_row(row: &pb::ImportRow, longest: Duration) -> Result<NewTimeEntry, Rejection> {
    if row.external_id.trim().is_empty() {
        return Err(Rejection::new(
            ErrorReason::InvalidFields,
            "external_id is required: 1 to 128 characters",
        ));
    }
    time_entry::read_new("", row, longest).map_err(|error| match error {
        Error::Refused(refusal) => refusal.into(),
        Error::Kit(kit::Error::Invalid(violations)) => {
            let texts: Vec<String> = violations
                .iter()
                .map(|violation| format!("{} {}", violation.field, violation.description))
                .collect();
            Rejection::new(ErrorReason::InvalidFields, texts.join("; "))
        }
        other => Rejection::new(ErrorReason::InvalidFields, other.to_string()),
    })
}

impl From<Outcome> for pb::ImportRowResult {
    fn from(outcome: Outcome) -> Self {
        let stored = |outcome: pb::ImportOutcome, id: crate::time_entry::TimeEntryId| Self {
            outcome: outcome.into(),
            time_entry_id: id.to_string(),
            ..Self::default()
        };
        match outcome {
            Outcome::Created(id) => stored(pb::ImportOutcome::Created, id),
            Outcome::CreatedOverlapping(id) => stored(pb::ImportOutcome::CreatedOverlapping, id),
            Outcome::AlreadyExists(id) => stored(pb::ImportOutcome::AlreadyExists, id),
            Outcome::Rejected(rejection) => Self {
                outcome: pb::ImportOutcome::Rejected.into(),
                reason: rejection.reason.into(),
                message: rejection.message,
                ..Self::default()
            },
        }
    }
}
