//! Everything that can go wrong with consultants.

use kit::error::{ServiceError, Verdict, constraint};
use proto::common::v1::ErrorReason;
use tonic::Code;

use crate::consultant::ConsultantId;

/// The one error type of this service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("consultant not found")]
    NotFound(ConsultantId),
    #[error("another consultant has this code")]
    CodeTaken,
    #[error("another consultant has this e-mail address")]
    EmailTaken,
    #[error("another consultant has this subject")]
    SubjectTaken,
    #[error(transparent)]
    Kit(#[from] kit::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match constraint(&error).as_deref() {
            Some("consultant_code_key") => Self::CodeTaken,
            Some("consultant_email_key") => Self::EmailTaken,
            Some("consultant_subject_key") => Self::SubjectTaken,
            _ => Self::Kit(error.into()),
        }
    }
}

impl ServiceError for Error {
    fn verdict(&self) -> Verdict {
        let message = self.to_string();
        match self {
            Self::NotFound(id) => Verdict::not_found(*id),
            Self::CodeTaken => Verdict::new(Code::AlreadyExists, ErrorReason::CodeTaken, message),
            Self::EmailTaken => Verdict::new(Code::AlreadyExists, ErrorReason::EmailTaken, message),
            Self::SubjectTaken => {
                Verdict::new(Code::AlreadyExists, ErrorReason::SubjectTaken, message)
            }
            Self::Kit(error) => error.verdict(),
        }
    }
}
