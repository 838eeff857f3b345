//! What can go wrong anywhere, and the one way from an error to a gRPC status.
//!
//! Invariant: nothing that the database, the broker or a library says reaches a caller;
//! the caller gets a code of the small vocabulary, a machine-readable reason and a fixed sentence.

use std::collections::HashMap;
use std::time::Duration;

use proto::common::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::cells::OtherCell;
use crate::fields::Violation;
use crate::ids::{Id, Kind};
use crate::session::TooLate;

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "catalyst";

/// What [`Error::Unavailable`] calls the database.
pub(crate) const DATABASE: &str = "the database";

/// Errors that every service shares.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request cannot be accepted.
    #[error("{} fields of the request are invalid", .0.len())]
    Invalid(Vec<Violation>),
    /// The caller's copy of the resource is not the current one.
    #[error("the etag is stale: read the resource again and repeat the change")]
    EtagStale,
    /// The same `request_id` came with another request.
    #[error("the request_id was used for another request: send a new one")]
    RequestIdReused,
    /// A page token that this service did not make for this caller and these filters.
    #[error("the page_token is not valid for this request: start again without one")]
    PageTokenInvalid,
    /// A page token that this service made for another tenant. The caller is told no more than of an invalid one.
    #[error("the page_token is not valid for this request: start again without one")]
    PageTokenForeign,
    /// Two transactions collided; the whole operation may be repeated.
    #[error("the operation collided with another one: repeat it")]
    Collision(#[source] sqlx::Error),
    /// The database, the broker or another service cannot be reached now.
    #[error("{what} is unavailable: repeat the call later")]
    Unavailable {
        /// What cannot be reached: `the database`.
        what: &'static str,
        /// Why, for the log.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More events wait for the broker than the service may keep.
    #[error("the service has more changes to tell of than it may keep: repeat the call later")]
    Overloaded,
    /// More calls wait for the database than it takes.
    #[error("the service has more calls than its database takes: repeat the call later")]
    Busy,
    /// The caller no longer waits.
    #[error(
        "the deadline passed; the call may still take effect: repeat it with the same request_id"
    )]
    TooLate,
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A fault of ours, described for the log.
    pub fn internal(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(why.into())
    }

    /// One violation, for a rule that only the operation can check.
    pub fn invalid(field: &str, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.to_owned(),
            description: description.into(),
        }])
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let state = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .map(std::borrow::Cow::into_owned);
        match (state.as_deref(), &error) {
            (None, sqlx::Error::Configuration(source)) if source.is::<TooLate>() => Self::TooLate,
            // A database that is not the cell that it ought to be is as good as away.
            (None, sqlx::Error::Configuration(source)) if source.is::<OtherCell>() => {
                Self::Unavailable {
                    what: DATABASE,
                    source: error.into(),
                }
            }
            // serialization_failure, deadlock_detected, lock_not_available
            (Some("40001" | "40P01" | "55P03"), _) => Self::Collision(error),
            // query_canceled by statement_timeout, admin_shutdown, crash_shutdown, cannot_connect_now,
            // too_many_connections, disk_full, out_of_memory; system_error, io_error: a disk that fails, after which
            // the server starts anew or another takes its place
            (
                Some(
                    "57014" | "57P01" | "57P02" | "57P03" | "53300" | "53100" | "53200" | "58000"
                    | "58030",
                ),
                _,
            )
            | (
                None,
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Tls(_),
            ) => Self::Unavailable {
                what: DATABASE,
                source: error.into(),
            },
            _ => Self::Internal(error.into()),
        }
    }
}

/// The name of the violated constraint, for mapping onto a business error.
/// The number of a hash partition is cut off: `time_entry_p07_overlap_excl` reads `time_entry_overlap_excl`.
pub fn constraint(error: &sqlx::Error) -> Option<String> {
    let name = error.as_database_error()?.constraint()?;
    let words: Vec<&str> = name
        .split('_')
        .filter(|word| {
            !(word.len() == 3
                && word.starts_with('p')
                && word[1..].bytes().all(|b| b.is_ascii_digit()))
        })
        .collect();
    Some(words.join("_"))
}

/// What a caller is told, and what is noted for the audit service.
#[derive(Debug)]
pub struct Verdict {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    quota: Option<(String, String)>,
    missing: Option<(&'static str, Uuid)>,
    is_page_token_foreign: bool,
}

impl Verdict {
    /// A verdict with a code, a reason and a sentence in lowercase without a final stop.
    pub fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            retry_after: None,
            quota: None,
            missing: None,
            is_page_token_foreign: false,
        }
    }

    /// The resource does not exist for this tenant. The same bytes for an absent id and for another tenant's:
    /// the id is not echoed, and the miss goes to the audit service, which alone can tell the two apart.
    pub fn not_found<K: Kind>(id: Id<K>) -> Self {
        let mut verdict = Self::new(
            Code::NotFound,
            ErrorReason::NotFound,
            format!("{} not found", K::NAME.replace('_', " ")),
        );
        verdict
            .metadata
            .insert("kind".to_owned(), K::NAME.to_owned());
        verdict.missing = Some((K::NAME, id.uuid()));
        verdict
    }

    /// Adds a dynamic part of the message as metadata for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: &impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Tells the caller when a repeat makes sense.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Names whose quota was reached and what it is.
    #[must_use]
    pub fn over_quota(mut self, subject: String, description: String) -> Self {
        self.quota = Some((subject, description));
        self
    }

    /// The code that the caller gets.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The kind and id that was not found, if that is what happened.
    pub fn missing(&self) -> Option<(&'static str, Uuid)> {
        self.missing
    }

    /// Whether a page token was refused, which only a forged or borrowed one is.
    pub(crate) fn is_page_token_forged(&self) -> bool {
        self.reason == ErrorReason::PageTokenInvalid
    }

    /// Whether the refused page token was made for another tenant.
    pub(crate) fn is_page_token_foreign(&self) -> bool {
        self.is_page_token_foreign
    }

    /// The fields of the request that were refused for more than being absent.
    pub(crate) fn malformed_fields(&self) -> Vec<String> {
        let malformed = self.violations.iter().filter(|it| it.is_malformed());
        malformed.map(|it| it.field.clone()).collect()
    }

    /// The status on the wire: ErrorInfo always, BadRequest, QuotaFailure and RetryInfo where they say something.
    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason_text(self.reason), DOMAIN, self.metadata);
        for violation in &self.violations {
            details.add_bad_request_violation(&violation.field, &violation.description);
        }
        if let Some((subject, description)) = self.quota {
            details.add_quota_failure_violation(subject, description);
        }
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code, self.message, details)
    }
}

/// The reason as it stands in `ErrorInfo.reason`: the enum's name without its prefix, `CODE_TAKEN`.
pub fn reason_text(reason: ErrorReason) -> String {
    reason
        .as_str_name()
        .trim_start_matches("ERROR_REASON_")
        .to_owned()
}

/// The one error type of a service: each variant knows what a caller is told.
pub trait ServiceError: std::error::Error + Send + Sync {
    /// What the caller is told. Every variant is listed, without a wildcard.
    fn verdict(&self) -> Verdict;
}

impl ServiceError for Error {
    fn verdict(&self) -> Verdict {
        let message = self.to_string();
        match self {
            Self::Invalid(violations) => {
                let first = violations
                    .first()
                    .map(|v| format!("{} {}", v.field, v.description));
                let mut verdict = Verdict::new(
                    Code::InvalidArgument,
                    ErrorReason::InvalidFields,
                    first.unwrap_or_else(|| "the request is invalid".to_owned()),
                );
                verdict.violations.clone_from(violations);
                verdict
            }
            Self::EtagStale => Verdict::new(Code::Aborted, ErrorReason::EtagStale, message),
            Self::RequestIdReused => Verdict::new(
                Code::FailedPrecondition,
                ErrorReason::RequestIdReused,
                message,
            ),
            Self::PageTokenInvalid | Self::PageTokenForeign => {
                let mut verdict = Verdict::new(
                    Code::InvalidArgument,
                    ErrorReason::PageTokenInvalid,
                    message,
                );
                verdict.is_page_token_foreign = matches!(self, Self::PageTokenForeign);
                verdict
            }
            Self::Collision(_) => Verdict::new(Code::Aborted, ErrorReason::ConflictRetry, message)
                .retry_after(Duration::from_millis(50)),
            Self::Unavailable { what, .. } => {
                let reason = if *what == DATABASE {
                    ErrorReason::DatabaseUnavailable
                } else {
                    ErrorReason::DependencyUnavailable
                };
                Verdict::new(Code::Unavailable, reason, message).retry_after(Duration::from_secs(1))
            }
            Self::Overloaded => {
                Verdict::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
                    .retry_after(Duration::from_secs(2))
            }
            Self::Busy => Verdict::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
                .retry_after(Duration::from_millis(200)),
            Self::TooLate => Verdict::new(
                Code::DeadlineExceeded,
                ErrorReason::DeadlineExceeded,
                message,
            ),
            Self::Internal(_) => Verdict::new(Code::Internal, ErrorReason::Internal, message),
        }
    }
}

/// The chain of causes in one line, for the log.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        // Some errors tell their cause themselves.
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}
