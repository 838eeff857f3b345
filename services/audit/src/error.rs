//! Everything that can go wrong with the audit log.

use kit::error::{ServiceError, Verdict};
use proto::common::v1::ErrorReason;
use tonic::Code;

use crate::alert::AlertId;

/// The one error type of this service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("alert not found")]
    AlertNotFound(AlertId),
    #[error("too many watches are open: repeat the call later")]
    TooManyWatches,
    #[error("two exports are running in this process: repeat the call later")]
    TooManyExports,
    #[error(transparent)]
    Kit(#[from] kit::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Kit(error.into())
    }
}

impl ServiceError for Error {
    fn verdict(&self) -> Verdict {
        let message = self.to_string();
        match self {
            Self::AlertNotFound(id) => Verdict::not_found(*id),
            Self::TooManyWatches | Self::TooManyExports => {
                Verdict::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
                    .retry_after(std::time::Duration::from_secs(5))
            }
            Self::Kit(error) => error.verdict(),
        }
    }
}
