//! Everything that can go wrong with tenants.

use kit::error::{ServiceError, Verdict, constraint};
use proto::common::v1::ErrorReason;
use tonic::Code;

use crate::tenant::{FirmId, Settled};

/// The one error type of this service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("tenant not found")]
    NotFound(FirmId),
    #[error("another tenant has this slug")]
    SlugTaken,
    #[error(
        "the tenant has been active and may have rows in its cell: a live tenant is not placed anew"
    )]
    WasActive,
    #[error(transparent)]
    Kit(#[from] kit::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match constraint(&error).as_deref() {
            Some("tenant_slug_key") => Self::SlugTaken,
            _ => Self::Kit(error.into()),
        }
    }
}

impl From<Settled> for Error {
    fn from(Settled: Settled) -> Self {
        Self::WasActive
    }
}

impl ServiceError for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotFound(id) => Verdict::not_found(*id),
            Self::SlugTaken => Verdict::new(
                Code::AlreadyExists,
                ErrorReason::SlugTaken,
                self.to_string(),
            ),
            Self::WasActive => Verdict::new(
                Code::FailedPrecondition,
                ErrorReason::TenantWasActive,
                self.to_string(),
            ),
            Self::Kit(error) => error.verdict(),
        }
    }
}
