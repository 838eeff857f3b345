//! What an update asks for. Pure.

use time::OffsetDateTime;

use crate::reference::{Project, ProjectId};
use crate::refusal::Refusal;
use crate::span::{LONGEST, Span};

/// What an update asks for: a value for each field that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Moves the entry to another project.
    pub project_id: Option<ProjectId>,
    /// When the work began.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
    /// How long it paused.
    pub break_minutes: Option<i32>,
    /// Where it was done, an IANA name.
    pub time_zone: Option<String>,
    /// Whether it is billed.
    pub billing: Option<Billing>,
    /// What was done.
    pub note: Option<String>,
    /// The key in the system that it came from; empty for none.
    pub external_id: Option<String>,
}

/// The fields that an update may name.
pub const MUTABLE: &[&str] = &[
    "project_id",
    "started_at",
    "ended_at",
    "break_minutes",
    "time_zone",
    "billable",
    "note",
    "external_id",
];

/// Whether an entry is billed, as a caller says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// Billed or not, whatever the project says.
    Said(bool),
    /// As the project says at this moment.
    AsProject,
}

impl Billing {
    /// Whether an entry of the project is billed.
    pub fn under(self, project: &Project) -> bool {
        match self {
            Self::Said(billable) => billable,
            Self::AsProject => project.billable,
        }
    }
}

impl From<Option<bool>> for Billing {
    fn from(said: Option<bool>) -> Self {
        said.map_or(Self::AsProject, Self::Said)
    }
}

impl Change {
    /// Whether it names when or where the work was done.
    pub fn names_time(&self) -> bool {
        self.started_at.is_some()
            || self.ended_at.is_some()
            || self.break_minutes.is_some()
            || self.time_zone.is_some()
    }
}

impl Span {
    /// The span with what `change` names. One that an import let be longer than a day may stay so, but not grow.
    pub fn changed(&self, change: &Change) -> Result<Self, Refusal> {
        Self::new(
            change.started_at.unwrap_or(self.started_at),
            change.ended_at.unwrap_or(self.ended_at),
            change.break_minutes.unwrap_or(self.break_minutes),
            change.time_zone.as_deref().unwrap_or(&self.time_zone),
            LONGEST.max(self.duration()),
        )
    }
}
