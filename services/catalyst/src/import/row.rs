//! What a row of a time log can become: an entry, nothing, or a reject with its reason.

use std::fmt;

use time::{Date, OffsetDateTime};

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A time entry to be imported.
    Entry(Box<Entry>),
    /// The filter of the mapping does not keep the row.
    Filtered,
    /// The row cannot be imported as it is.
    Rejected(Reject),
}

/// A row in the terms of a time entry; clients, projects and consultants by the keys of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line of the file.
    pub line: u64,
    /// Identifies the entry in its source.
    pub external_id: String,
    /// The client's key in the source.
    pub client: String,
    /// The project's key in the source.
    pub project: String,
    /// The consultant's key in the source.
    pub consultant: String,
    /// In UTC.
    pub started_at: OffsetDateTime,
    /// In UTC, not before `started_at`; equal to it for an entry of zero length.
    pub ended_at: OffsetDateTime,
    /// Not worked, at most the whole span.
    pub break_minutes: u32,
    /// The day on the wall of `time_zone` at the start.
    pub worked_on: Date,
    /// IANA name.
    pub time_zone: String,
    /// None when the log does not say.
    pub billable: Option<bool>,
    /// Empty when the log does not say.
    pub note: String,
}

/// A row that is not imported, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The line of the file.
    pub line: u64,
    /// Empty when the row does not say it legibly.
    pub external_id: String,
    /// For machines.
    pub reason: Reason,
    /// For the person who corrects the row.
    pub message: String,
}

/// Why a row is rejected; the codes are part of the rejects file and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// More or fewer fields than the header.
    RaggedRow,
    /// A field that the mapping names is not UTF-8.
    NotUtf8,
    /// A required field is empty.
    MissingField,
    /// A date matches no format or is not in the calendar.
    UnreadableDate,
    /// A year before 1970 or after 2100.
    AbsurdDate,
    /// A local time that the clocks skipped when they were set forward.
    SkippedLocalTime,
    /// A zone that the IANA tables do not have.
    UnknownZone,
    /// Break or worked minutes are no number, negative, or a break is not whole.
    InvalidMinutes,
    /// The billable field is neither yes nor no.
    InvalidBillable,
    /// The end is before the start.
    EndsBeforeStart,
    /// Longer than the allowed hours.
    TooLong,
    /// The break is longer than the span.
    BreakExceedsSpan,
    /// End − start − break is not the worked minutes.
    WorkedMinutesDisagree,
    /// A service refused the entry; never given by [`Judge::judge`](super::judge::Judge::judge).
    Refused,
}

impl Reason {
    /// The code in the rejects file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RaggedRow => "ragged_row",
            Self::NotUtf8 => "not_utf8",
            Self::MissingField => "missing_field",
            Self::UnreadableDate => "unreadable_date",
            Self::AbsurdDate => "absurd_date",
            Self::SkippedLocalTime => "skipped_local_time",
            Self::UnknownZone => "unknown_zone",
            Self::InvalidMinutes => "invalid_minutes",
            Self::InvalidBillable => "invalid_billable",
            Self::EndsBeforeStart => "ends_before_start",
            Self::TooLong => "too_long",
            Self::BreakExceedsSpan => "break_exceeds_span",
            Self::WorkedMinutesDisagree => "worked_minutes_disagree",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a row, before its line and id are known.
pub(super) type Fault = (Reason, String);
