//! Many entries at a time: a chunk of rows, and what became of each. Pure.

use proto::common::v1::ErrorReason;

use crate::reference::{Named, References};
use crate::refusal::Refusal;
use crate::time_entry::{NewTimeEntry, TimeEntry, TimeEntryId};
use time::OffsetDateTime;

/// What an import does with a row that overlaps another entry of the consultant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverlapPolicy {
    /// The row is not stored.
    Reject,
    /// The row is stored and marked: history as it was kept, errors included.
    Keep,
}

/// Rows that are stored together.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// Each as it was read; one that breaks a rule harms no other.
    pub(crate) rows: Vec<Result<NewTimeEntry, Rejection>>,
    pub(crate) policy: OverlapPolicy,
}

impl Chunk {
    /// The projects and consultants of its good rows.
    pub(crate) fn named(&self) -> Named {
        let good = || self.rows.iter().flatten();
        Named::new(
            good().map(|row| row.project_id),
            good().map(|row| row.consultant_id),
        )
    }
}

/// Why a row is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: ErrorReason,
    /// For the person who corrects the row.
    pub(crate) message: String,
}

impl Rejection {
    pub(crate) fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::EndsBeforeStart | Refusal::BreakTooLong | Refusal::UnknownZone => {
                let field = refusal.field().unwrap_or_default();
                Self::new(ErrorReason::InvalidFields, format!("{field} {message}"))
            }
            Refusal::TooLong { .. } => Self::new(ErrorReason::TimeEntryTooLong, message),
            Refusal::ProjectArchived => Self::new(ErrorReason::ProjectArchived, message),
            Refusal::ConsultantInactive => Self::new(ErrorReason::ConsultantInactive, message),
        }
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created(TimeEntryId),
    CreatedOverlapping(TimeEntryId),
    AlreadyExists(TimeEntryId),
    Rejected(Rejection),
}

/// The entry that a row makes, if what it names exists and goes on.
pub(crate) fn admit(
    id: TimeEntryId,
    row: Result<NewTimeEntry, Rejection>,
    known: &References,
    now: OffsetDateTime,
) -> Result<TimeEntry, Rejection> {
    let row = row?;
    let missing = |message| Rejection::new(ErrorReason::NotFound, message);
    let project = known
        .projects
        .get(&row.project_id)
        .ok_or_else(|| missing("project_id: project not found"))?;
    let consultant = known
        .consultants
        .get(&row.consultant_id)
        .ok_or_else(|| missing("consultant_id: consultant not found"))?;
    Ok(TimeEntry::new(id, row, project, consultant, now)?)
}
