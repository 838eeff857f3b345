//! Everything that can go wrong with time entries.

use kit::error::{ServiceError, Verdict, constraint};
use proto::common::v1::ErrorReason;
use tonic::Code;

use crate::reference::{ConsultantId, ProjectId};
use crate::refusal::Refusal;
use crate::time_entry::TimeEntryId;

/// The one error type of this service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("time entry not found")]
    NotFound(TimeEntryId),
    #[error("project not found")]
    ProjectNotFound(ProjectId),
    #[error("consultant not found")]
    ConsultantNotFound(ConsultantId),
    #[error("another time entry has this external_id")]
    ExternalIdTaken,
    #[error("the consultant has another time entry that overlaps this one")]
    Overlaps,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Kit(#[from] kit::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match constraint(&error).as_deref() {
            Some("time_entry_external_id_key") => Self::ExternalIdTaken,
            Some("time_entry_overlap_excl") => Self::Overlaps,
            _ => Self::Kit(error.into()),
        }
    }
}

impl ServiceError for Error {
    fn verdict(&self) -> Verdict {
        let message = self.to_string();
        match self {
            Self::NotFound(id) => Verdict::not_found(*id),
            Self::ProjectNotFound(id) => Verdict::not_found(*id),
            Self::ConsultantNotFound(id) => Verdict::not_found(*id),
            Self::ExternalIdTaken => {
                Verdict::new(Code::AlreadyExists, ErrorReason::ExternalIdTaken, message)
            }
            Self::Overlaps => Verdict::new(
                Code::FailedPrecondition,
                ErrorReason::TimeEntryOverlaps,
                message,
            ),
            Self::Refused(refusal) => match refusal {
                Refusal::EndsBeforeStart | Refusal::BreakTooLong | Refusal::UnknownZone => {
                    let field = format!("time_entry.{}", refusal.field().unwrap_or_default());
                    kit::Error::invalid(&field, message).verdict()
                }
                Refusal::TooLong { minutes } => Verdict::new(
                    Code::InvalidArgument,
                    ErrorReason::TimeEntryTooLong,
                    message,
                )
                .with("longest_minutes", minutes),
                Refusal::ProjectArchived => Verdict::new(
                    Code::FailedPrecondition,
                    ErrorReason::ProjectArchived,
                    message,
                ),
                Refusal::ConsultantInactive => Verdict::new(
                    Code::FailedPrecondition,
                    ErrorReason::ConsultantInactive,
                    message,
                ),
            },
            Self::Kit(error) => error.verdict(),
        }
    }
}
