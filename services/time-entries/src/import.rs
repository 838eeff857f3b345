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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Billing;
    use crate::reference::{Consultant, ConsultantId, Project, ProjectId};
    use crate::span::{LONGEST, Span};
    use uuid::Uuid;

    const NOON: OffsetDateTime = time::macros::datetime!(2024-07-01 12:00 UTC);

    fn row(project: u128, consultant: u128) -> NewTimeEntry {
        NewTimeEntry {
            project_id: ProjectId::new(Uuid::from_u128(project)),
            consultant_id: ConsultantId::new(Uuid::from_u128(consultant)),
            span: Span::new(NOON, NOON, 0, "UTC", LONGEST).unwrap(),
            billing: Billing::AsProject,
            note: String::new(),
            external_id: Some("a".to_owned()),
        }
    }

    /// Project 1 and consultant 2 go on, project 3 and consultant 4 do not.
    fn known() -> References {
        let mut known = References::default();
        for (id, active) in [(1, true), (3, false)] {
            known.add_project(Project {
                id: ProjectId::new(Uuid::from_u128(id)),
                client_id: Uuid::from_u128(9),
                code: String::new(),
                display_name: String::new(),
                active,
                billable: true,
                version: 1,
            });
        }
        for (id, active) in [(2, true), (4, false)] {
            known.add_consultant(Consultant {
                id: ConsultantId::new(Uuid::from_u128(id)),
                code: String::new(),
                display_name: String::new(),
                subject: None,
                active,
                version: 1,
            });
        }
        known
    }

    #[test]
    fn a_row_is_admitted_if_what_it_names_exists_and_goes_on() {
        let reason = |project, consultant| {
            let id = TimeEntryId::new(Uuid::from_u128(5));
            let admitted = admit(id, Ok(row(project, consultant)), &known(), NOON);
            admitted.err().map(|rejection| rejection.reason)
        };
        assert_eq!(reason(1, 2), None);
        assert_eq!(reason(7, 2), Some(ErrorReason::NotFound));
        assert_eq!(reason(1, 7), Some(ErrorReason::NotFound));
        assert_eq!(reason(3, 2), Some(ErrorReason::ProjectArchived));
        assert_eq!(reason(1, 4), Some(ErrorReason::ConsultantInactive));
    }

    #[test]
    fn a_bad_row_names_nothing_that_would_be_looked_up() {
        let bad = Rejection::new(
            ErrorReason::InvalidFields,
            "ended_at must not be before started_at",
        );
        assert_eq!(Rejection::from(Refusal::EndsBeforeStart), bad);
        let chunk = Chunk {
            rows: vec![Err(bad), Ok(row(1, 2)), Ok(row(1, 2))],
            policy: OverlapPolicy::Reject,
        };
        assert_eq!(
            chunk.named(),
            Named::new([row(1, 2).project_id], [row(1, 2).consultant_id])
        );
    }
}
