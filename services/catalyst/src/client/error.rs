//! What can go wrong for a caller, in a sentence with what to do, and the exit code of each.

use std::error::Error as _;
use std::fmt::{self, Write as _};

use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::{import, trail};

const EXIT_FAILED: u8 = 1;
/// `EX_USAGE`
const EXIT_USAGE: u8 = 64;
/// `EX_DATAERR`
const EXIT_BAD_INPUT: u8 = 65;
/// `EX_UNAVAILABLE`
const EXIT_UNAVAILABLE: u8 = 69;
/// `EX_NOPERM`
const EXIT_REFUSED: u8 = 77;

/// The command line asks for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

impl Usage {
    /// Says what is wrong and what would be right.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// A file holds something else than it should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(String);

impl BadInput {
    /// Says what is wrong and what would be right.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// No server answers where one was looked for, or it went away for good.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(String);

impl Unavailable {
    /// Says what cannot be reached and what to do.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }

    /// Nothing listens at `url`.
    pub(super) fn nothing_at(url: &str) -> Self {
        Self(format!(
            "nothing answers at {url}: start it with `catalyst up`, or name another with --url"
        ))
    }
}

/// A broker or server says that this caller may not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Forbidden(String);

impl Forbidden {
    /// Says what is not allowed and what to do.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Refused(Status);

impl Refused {
    /// The status as it came.
    pub(crate) fn status(&self) -> &Status {
        &self.0
    }

    /// The machine-readable reason, empty when the server gave none.
    pub(crate) fn reason(&self) -> String {
        reason(&self.0)
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.0;
        if is_broken(status) {
            return f.write_str(
                "the connection to the server broke off: check that it runs, then repeat the command",
            );
        }
        let details = status.get_error_details();
        let violations: Vec<String> = details
            .bad_request()
            .iter()
            .flat_map(|request| &request.field_violations)
            .map(|violation| format!("\n  {} {}", violation.field, violation.description))
            .collect();
        if violations.is_empty() {
            f.write_str(status.message())?;
        } else {
            f.write_str("fields of the request are not valid")?;
        }
        match reason(status) {
            reason if reason.is_empty() => write!(f, " ({:?})", status.code())?,
            reason => write!(f, " ({reason})")?,
        }
        if let Some(id) = details
            .error_info()
            .and_then(|info| info.metadata.get("request_id"))
        {
            write!(f, "; request {id}")?;
        }
        match reason(status).as_str() {
            "UNAUTHENTICATED" => {
                f.write_str(": bring a token of the deployment's issuer in CATALYST_TOKEN")?;
            }
            "PERMISSION_DENIED" => {
                f.write_str("; `catalyst permissions` shows which role may")?;
            }
            _ => {}
        }
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            write!(f, "; repeat it in {:.1} s", delay.as_secs_f64())?;
        }
        if !violations.is_empty() {
            f.write_char(':')?;
        }
        violations.iter().try_for_each(|line| f.write_str(line))
    }
}

/// The message of an answer, or why there is none.
pub(crate) fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, Refused> {
    result.map(Response::into_inner).map_err(Refused)
}

/// The resource in an answer, which the contract promises.
pub(crate) fn present<T>(resource: Option<T>) -> anyhow::Result<T> {
    resource.ok_or_else(|| {
        anyhow::anyhow!(
            "the answer is empty: this program and the server are of different versions"
        )
    })
}

/// Whether a status was made here, because the connection did not last.
fn is_broken(status: &Status) -> bool {
    reason(status).is_empty()
        && match status.code() {
            Code::Unavailable | Code::Cancelled => true,
            Code::Unknown | Code::Internal => status.source().is_some(),
            _ => false,
        }
}

/// Whether the same call may well succeed a little later.
pub(crate) fn is_transient(status: &Status) -> bool {
    is_broken(status)
        || match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => true,
            Code::Aborted => reason(status) == "CONFLICT_RETRY",
            _ => false,
        }
}

pub(crate) fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// What the program exits with: 0 done; 1 failed; 64 bad usage; 65 unreadable input; 69 nothing answers;
/// 77 the caller may not.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            if cause.is::<Usage>() {
                return Some(EXIT_USAGE);
            }
            if cause.is::<BadInput>() {
                return Some(EXIT_BAD_INPUT);
            }
            if cause.is::<Unavailable>() {
                return Some(EXIT_UNAVAILABLE);
            }
            if cause.is::<Forbidden>() {
                return Some(EXIT_REFUSED);
            }
            if let Some(refused) = cause.downcast_ref::<Refused>() {
                return Some(of_status(&refused.0));
            }
            if cause.is::<trail::NoExport>() {
                return Some(EXIT_BAD_INPUT);
            }
            match cause.downcast_ref::<import::Error>()? {
                import::Error::Rejects { .. } => Some(EXIT_FAILED),
                import::Error::Condition { .. } => Some(EXIT_USAGE),
                _ => Some(EXIT_BAD_INPUT),
            }
        })
        .unwrap_or(EXIT_FAILED)
}

fn of_status(status: &Status) -> u8 {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => EXIT_REFUSED,
        _ if is_transient(status) => EXIT_UNAVAILABLE,
        _ => EXIT_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use anyhow::Context as _;
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str, violations: &[(&str, &str)]) -> Refused {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "catalyst", HashMap::new());
        for (field, description) in violations {
            details.add_bad_request_violation(*field, *description);
        }
        Status::with_error_details(code, "the first rule is broken", details).into()
    }

    #[test]
    fn each_violation_of_a_field_has_its_line() {
        let violations = [
            ("project.code", "must be set"),
            ("project.client_id", "must be a UUID"),
        ];
        let text = refused(Code::InvalidArgument, "INVALID_FIELDS", &violations).to_string();
        assert_eq!(
            text,
            "fields of the request are not valid (INVALID_FIELDS):\n  project.code must be set\n  project.client_id must be a UUID"
        );
    }

    #[test]
    fn a_refusal_is_its_message_and_its_reason() {
        let text = refused(Code::AlreadyExists, "CODE_TAKEN", &[]).to_string();
        assert_eq!(text, "the first rule is broken (CODE_TAKEN)");
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let of = |error: anyhow::Error| exit_code(&error.context("on the way"));
        assert_eq!(of(Usage::new("x").into()), 64);
        assert_eq!(of(Unavailable::nothing_at("http://x").into()), 69);
        assert_eq!(
            of(refused(Code::PermissionDenied, "PERMISSION_DENIED", &[]).into()),
            77
        );
        assert_eq!(
            of(refused(Code::Unauthenticated, "UNAUTHENTICATED", &[]).into()),
            77
        );
        assert_eq!(
            of(refused(Code::Unavailable, "SHUTTING_DOWN", &[]).into()),
            69
        );
        assert_eq!(of(refused(Code::NotFound, "NOT_FOUND", &[]).into()), 1);
        assert_eq!(of(anyhow::anyhow!("x")), 1);
        let missing = import::mapping::Mapping::find("missing.toml").map(|_| ());
        assert_eq!(of(missing.context("reading").unwrap_err()), 65);
    }

    #[test]
    fn only_what_may_succeed_later_is_transient() {
        for (code, reason, transient) in [
            (Code::Unavailable, "", true),
            (Code::Unavailable, "DATABASE_UNAVAILABLE", true),
            (Code::ResourceExhausted, "RATE_LIMITED", true),
            (Code::Aborted, "CONFLICT_RETRY", true),
            (Code::Aborted, "ETAG_STALE", false),
            (Code::PermissionDenied, "TENANT_NOT_ACTIVE", false),
            (Code::InvalidArgument, "INVALID_FIELDS", false),
            (Code::Internal, "INTERNAL", false),
        ] {
            let refused = match reason {
                "" => Refused(Status::new(code, "tcp connect error")),
                reason => refused(code, reason, &[]),
            };
            assert_eq!(
                is_transient(refused.status()),
                transient,
                "{code:?} {reason}"
            );
        }
    }
}
