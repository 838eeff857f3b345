//! The model of an assignment: a consultant's place on a project for some days. Pure.
//!
//! That nobody is on a project twice on one day is the database's rule, since only it sees what runs at the same time.

use kit::ids::{Id, Kind};
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::consultant::ConsultantId;
use crate::project::ProjectId;

/// Marks ids of assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignmentKind;

impl Kind for AssignmentKind {
    const NAME: &'static str = "assignment";
}

/// The id of an assignment.
pub type AssignmentId = Id<AssignmentKind>;

/// What a caller says of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The project.
    pub project_id: ProjectId,
    /// Who works on it.
    pub consultant_id: ConsultantId,
    /// As what; at most 200 characters, may be empty.
    pub role: String,
    /// The share of the consultant's weekly capacity, in percent; 1 to 100.
    pub allocation_percent: i32,
    /// The first day.
    pub start_date: Date,
    /// The last day, not before the first; none when open.
    pub end_date: Option<Date>,
}

/// A consultant's place on a project. It is made and removed, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Made by this service.
    pub id: AssignmentId,
    /// What the caller says of it.
    pub plan: Plan,
    /// 1 while it is there; its removal counts as 2.
    pub version: i64,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// Which assignments a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Filter {
    /// Those to a project.
    Project(ProjectId),
    /// Those of a consultant.
    Consultant(ConsultantId),
    /// Those of a consultant to a project.
    Both(ProjectId, ConsultantId),
}

impl Assignment {
    /// A new assignment at version 1.
    pub fn new(id: AssignmentId, plan: Plan, now: OffsetDateTime) -> Self {
        Self {
            id,
            plan,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The removed assignment, whose event is the version after the last that was stored.
    #[must_use]
    pub fn removed(mut self) -> Self {
        self.version += 1;
        self
    }
}
