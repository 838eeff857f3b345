//! Everything that can go wrong with clients, projects and assignments.

use kit::error::{ServiceError, Verdict, constraint};
use proto::common::v1::ErrorReason;
use tonic::Code;

use crate::assignment::AssignmentId;
use crate::client::ClientId;
use crate::consultant::ConsultantId;
use crate::project::{ProjectId, Refusal};

/// The one error type of this service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("client not found")]
    ClientNotFound(ClientId),
    #[error("project not found")]
    ProjectNotFound(ProjectId),
    #[error("consultant not found")]
    ConsultantNotFound(ConsultantId),
    #[error("assignment not found")]
    AssignmentNotFound(AssignmentId),
    #[error("another client has this code")]
    ClientCodeTaken,
    #[error("another project has this code")]
    ProjectCodeTaken,
    #[error("the consultant is assigned to the project on one of these days already")]
    AlreadyAssigned,
    #[error("the project is archived: nothing of it can be changed")]
    ProjectArchived,
    #[error("the consultant is inactive: nothing can be planned for them")]
    ConsultantInactive,
    #[error(transparent)]
    Kit(#[from] kit::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match constraint(&error).as_deref() {
            Some("client_code_key") => Self::ClientCodeTaken,
            Some("project_code_key") => Self::ProjectCodeTaken,
            Some("assignment_overlap_excl") => Self::AlreadyAssigned,
            _ => Self::Kit(error.into()),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Archived => Self::ProjectArchived,
            Refusal::EndsBeforeStart => Self::Kit(kit::Error::invalid(
                "project.end_date",
                "must not be before start_date",
            )),
        }
    }
}

impl ServiceError for Error {
    fn verdict(&self) -> Verdict {
        let message = self.to_string();
        match self {
            Self::ClientNotFound(id) => Verdict::not_found(*id),
            Self::ProjectNotFound(id) => Verdict::not_found(*id),
            Self::ConsultantNotFound(id) => Verdict::not_found(*id),
            Self::AssignmentNotFound(id) => Verdict::not_found(*id),
            Self::ClientCodeTaken | Self::ProjectCodeTaken => {
                Verdict::new(Code::AlreadyExists, ErrorReason::CodeTaken, message)
            }
            Self::AlreadyAssigned => {
                Verdict::new(Code::AlreadyExists, ErrorReason::AlreadyAssigned, message)
            }
            Self::ProjectArchived => Verdict::new(
                Code::FailedPrecondition,
                ErrorReason::ProjectArchived,
                message,
            ),
            Self::ConsultantInactive => Verdict::new(
                Code::FailedPrecondition,
                ErrorReason::ConsultantInactive,
                message,
            ),
            Self::Kit(error) => error.verdict(),
        }
    }
}
