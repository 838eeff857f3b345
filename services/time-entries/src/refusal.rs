//! The rules of time worked that can be broken, each in words for whoever broke it. Pure.

/// Why time cannot be recorded as it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `ended_at` is before `started_at`.
    #[error("must not be before started_at")]
    EndsBeforeStart,
    /// `break_minutes` is negative or more than the whole.
    #[error("must be at least 0 and at most the minutes between started_at and ended_at")]
    BreakTooLong,
    /// `time_zone` is not in the IANA tables.
    #[error("must be an IANA time zone, as in Europe/Vienna")]
    UnknownZone,
    /// It lasts longer than one may.
    #[error("the time entry lasts longer than {minutes} minutes: split it")]
    TooLong {
        /// The longest that it may last.
        minutes: i64,
    },
    /// Nothing under an archived project changes.
    #[error("the project is archived: its time entries can neither be added nor changed")]
    ProjectArchived,
    /// An inactive consultant does no more work.
    #[error("the consultant is inactive: no time entry can be added")]
    ConsultantInactive,
}

impl Refusal {
    /// The field that breaks a rule by itself, if one does.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Self::EndsBeforeStart => Some("ended_at"),
            Self::BreakTooLong => Some("break_minutes"),
            Self::UnknownZone => Some("time_zone"),
            Self::TooLong { .. } | Self::ProjectArchived | Self::ConsultantInactive => None,
        }
    }
}
