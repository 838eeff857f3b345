//! The model: a time entry, and the rules of its changes. Pure.

use kit::ids::{Id, Kind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::change::{Billing, Change};
use crate::reference::{Consultant, ConsultantId, Project, ProjectId};
use crate::refusal::Refusal;
use crate::span::Span;

/// Marks ids of time entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntryKind;

impl Kind for TimeEntryKind {
    const NAME: &'static str = "time_entry";
}

/// The id of a time entry.
pub type TimeEntryId = Id<TimeEntryKind>;

/// Time to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTimeEntry {
    /// For which project.
    pub project_id: ProjectId,
    /// By whom.
    pub consultant_id: ConsultantId,
    /// When.
    pub span: Span,
    /// Whether it is billed.
    pub billing: Billing,
    /// What was done; may be empty.
    pub note: String,
    /// The key in the system that it comes from.
    pub external_id: Option<String>,
}

/// One stretch of a consultant's work on a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeEntry {
    /// Made by this service.
    pub id: TimeEntryId,
    /// For which project.
    pub project_id: ProjectId,
    /// By whom; never changes.
    pub consultant_id: ConsultantId,
    /// When, and how much of it was work.
    pub span: Span,
    /// Whether it is billed to the client.
    pub billable: bool,
    /// What was done; may be empty.
    pub note: String,
    /// The key in the system that it came from; unique in the tenant.
    pub external_id: Option<String>,
    /// An import kept it although it overlaps another one of the consultant.
    pub overlap_kept: bool,
    /// Rises by one with each change.
    pub version: i64,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

impl TimeEntry {
    /// A new entry at version 1, of a project and a consultant that go on.
    pub fn new(
        id: TimeEntryId,
        new: NewTimeEntry,
        project: &Project,
        consultant: &Consultant,
        now: OffsetDateTime,
    ) -> Result<Self, Refusal> {
        if !project.active {
            return Err(Refusal::ProjectArchived);
        }
        if !consultant.active {
            return Err(Refusal::ConsultantInactive);
        }
        Ok(Self {
            id,
            project_id: project.id,
            consultant_id: consultant.id,
            billable: new.billing.under(project),
            span: new.span,
            note: new.note,
            external_id: new.external_id,
            overlap_kept: false,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }

    /// Takes a change over; the names of the fields that differ from before, and none if nothing does.
    /// `project` is the entry's and `target` the one that it moves to, if it moves: both must go on.
    pub fn update(
        &mut self,
        change: Change,
        project: &Project,
        target: Option<&Project>,
        now: OffsetDateTime,
    ) -> Result<Vec<&'static str>, Refusal> {
        let target = target.unwrap_or(project);
        if !project.active || !target.active {
            return Err(Refusal::ProjectArchived);
        }
        let mut updated = self.clone();
        updated.project_id = target.id;
        if change.names_time() {
            updated.span = self.span.changed(&change)?;
        }
        if (updated.span.started_at, updated.span.ended_at)
            != (self.span.started_at, self.span.ended_at)
        {
            // What an import kept was history as it stood; new times obey the rule.
            updated.overlap_kept = false;
        }
        if let Some(billing) = change.billing {
            updated.billable = billing.under(target);
        }
        if let Some(note) = change.note {
            updated.note = note;
        }
        if let Some(external_id) = change.external_id {
            updated.external_id = Some(external_id).filter(|key| !key.is_empty());
        }
        let changed = updated.differences(self);
        if !changed.is_empty() {
            updated.version += 1;
            updated.updated_at = now;
            *self = updated;
        }
        Ok(changed)
    }

    /// The last state, at the version that its removal counts as.
    pub fn delete(mut self, project: &Project, now: OffsetDateTime) -> Result<Self, Refusal> {
        if !project.active {
            return Err(Refusal::ProjectArchived);
        }
        self.version += 1;
        self.updated_at = now;
        Ok(self)
    }

    fn differences(&self, before: &Self) -> Vec<&'static str> {
        let (span, old) = (&self.span, &before.span);
        let fields = [
            ("project_id", self.project_id != before.project_id),
            ("started_at", span.started_at != old.started_at),
            ("ended_at", span.ended_at != old.ended_at),
            ("break_minutes", span.break_minutes != old.break_minutes),
            ("worked_minutes", span.worked_minutes != old.worked_minutes),
            ("worked_on", span.worked_on != old.worked_on),
            ("time_zone", span.time_zone != old.time_zone),
            ("billable", self.billable != before.billable),
            ("note", self.note != before.note),
            ("external_id", self.external_id != before.external_id),
            ("overlap_kept", self.overlap_kept != before.overlap_kept),
        ];
        fields
            .into_iter()
            .filter_map(|(name, differs)| differs.then_some(name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::LONGEST;
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::datetime;
    use uuid::Uuid;

    const NINE: OffsetDateTime = datetime!(2024-07-01 09:00 UTC);

    fn project(id: u128) -> Project {
        Project {
            id: ProjectId::new(Uuid::from_u128(id)),
            client_id: Uuid::from_u128(9),
            code: format!("p{id}"),
            display_name: String::new(),
            active: true,
            billable: true,
            version: 1,
        }
    }

    fn kim() -> Consultant {
        Consultant {
            id: ConsultantId::new(Uuid::from_u128(7)),
            code: "kim".to_owned(),
            display_name: "Kim".to_owned(),
            subject: None,
            active: true,
            version: 1,
        }
    }

    fn new(billing: Billing) -> NewTimeEntry {
        NewTimeEntry {
            project_id: project(1).id,
            consultant_id: kim().id,
            span: Span::new(NINE, NINE + Duration::HOUR, 0, "UTC", LONGEST).unwrap(),
            billing,
            note: String::new(),
            external_id: None,
        }
    }

    fn entry() -> TimeEntry {
        let id = TimeEntryId::new(Uuid::from_u128(3));
        TimeEntry::new(id, new(Billing::AsProject), &project(1), &kim(), NINE).unwrap()
    }

    #[test]
    fn nothing_is_recorded_for_an_archived_project_or_an_inactive_consultant() {
        let record = |project: &Project, consultant: &Consultant| {
            TimeEntry::new(
                entry().id,
                new(Billing::AsProject),
                project,
                consultant,
                NINE,
            )
            .err()
        };
        assert_eq!(record(&project(1), &kim()), None);
        let archived = Project {
            active: false,
            ..project(1)
        };
        assert_eq!(record(&archived, &kim()), Some(Refusal::ProjectArchived));
        let inactive = Consultant {
            active: false,
            ..kim()
        };
        assert_eq!(
            record(&project(1), &inactive),
            Some(Refusal::ConsultantInactive)
        );
    }

    #[test]
    fn an_entry_is_billed_as_it_says_and_else_as_its_project_says() {
        let internal = Project {
            billable: false,
            ..project(1)
        };
        let billed = |billing, project: &Project| {
            TimeEntry::new(entry().id, new(billing), project, &kim(), NINE)
                .unwrap()
                .billable
        };
        assert!(billed(Billing::AsProject, &project(1)));
        assert!(!billed(Billing::AsProject, &internal));
        assert!(billed(Billing::Said(true), &internal));
    }

    #[test]
    fn an_update_tells_every_field_that_differs_those_that_follow_included() {
        let mut entry = entry();
        let change = Change {
            ended_at: Some(NINE + Duration::minutes(90)),
            ..Change::default()
        };
        let changed = entry.update(change.clone(), &project(1), None, NINE + Duration::DAY);
        assert_eq!(changed.unwrap(), ["ended_at", "worked_minutes"]);
        assert_eq!((entry.version, entry.updated_at), (2, NINE + Duration::DAY));
        assert_eq!(entry.update(change, &project(1), None, NINE), Ok(vec![]));
        assert_eq!(entry.version, 2);
    }

    #[test]
    fn an_entry_moves_only_between_projects_that_go_on() {
        let to = Change {
            project_id: Some(project(2).id),
            ..Change::default()
        };
        let archived = |id| Project {
            active: false,
            ..project(id)
        };
        let mut moved = entry();
        let refused = Err(Refusal::ProjectArchived);
        assert_eq!(
            moved.update(to.clone(), &archived(1), Some(&project(2)), NINE),
            refused
        );
        assert_eq!(
            moved.update(to.clone(), &project(1), Some(&archived(2)), NINE),
            refused
        );
        assert_eq!(moved, entry());
        assert_eq!(
            moved.update(to, &project(1), Some(&project(2)), NINE),
            Ok(vec!["project_id"])
        );
    }

    #[test]
    fn a_kept_overlap_ends_with_a_change_of_the_times_and_with_no_other() {
        let mut kept = TimeEntry {
            overlap_kept: true,
            ..entry()
        };
        let note = Change {
            note: Some("reviewed".to_owned()),
            ..Change::default()
        };
        assert_eq!(kept.update(note, &project(1), None, NINE), Ok(vec!["note"]));
        assert!(kept.overlap_kept);
        let later = Change {
            started_at: Some(NINE + Duration::MINUTE),
            ..Change::default()
        };
        let changed = kept.update(later, &project(1), None, NINE).unwrap();
        assert_eq!(changed, ["started_at", "worked_minutes", "overlap_kept"]);
    }

    #[test]
    fn an_imported_entry_of_two_days_can_be_corrected_but_not_grow() {
        let two_days =
            Span::new(NINE, NINE + 2 * Duration::DAY, 0, "UTC", 2 * Duration::DAY).unwrap();
        let mut long = TimeEntry {
            span: two_days,
            ..entry()
        };
        let pause = Change {
            break_minutes: Some(60),
            ..Change::default()
        };
        assert_eq!(
            long.update(pause, &project(1), None, NINE),
            Ok(vec!["break_minutes", "worked_minutes"])
        );
        let longer = Change {
            ended_at: Some(NINE + 3 * Duration::DAY),
            ..Change::default()
        };
        assert_eq!(
            long.update(longer, &project(1), None, NINE),
            Err(Refusal::TooLong { minutes: 2_880 })
        );
    }

    #[test]
    fn nothing_is_deleted_from_an_archived_project() {
        let archived = Project {
            active: false,
            ..project(1)
        };
        assert_eq!(
            entry().delete(&archived, NINE),
            Err(Refusal::ProjectArchived)
        );
        assert_eq!(
            entry().delete(&project(1), NINE).map(|last| last.version),
            Ok(2)
        );
    }

    prop_compose! {
        fn changes()(
            start in prop::option::of(-90_i64..90),
            end in prop::option::of(-90_i64..90),
            break_minutes in prop::option::of(-5_i32..100),
            billing in prop::option::of(prop::option::of(any::<bool>())),
            note in prop::option::of("[a-z]{0,2}"),
            external_id in prop::option::of("[a-z]{0,2}"),
        ) -> Change {
            Change {
                project_id: None,
                started_at: start.map(|minutes| NINE + Duration::minutes(minutes)),
                ended_at: end.map(|minutes| NINE + Duration::minutes(minutes)),
                break_minutes,
                time_zone: None,
                billing: billing.map(Billing::from),
                note,
                external_id,
            }
        }
    }

    proptest! {
        #[test]
        fn a_change_made_twice_changes_nothing_the_second_time(change in changes()) {
            let mut entry = entry();
            if entry.update(change.clone(), &project(1), None, NINE).is_ok() {
                let once = entry.clone();
                prop_assert_eq!(entry.update(change, &project(1), None, NINE), Ok(vec![]));
                prop_assert_eq!(entry, once);
            }
        }

        #[test]
        fn a_refused_change_changes_nothing_and_a_taken_one_counts_one_version(change in changes()) {
            let mut entry = entry();
            let before = entry.clone();
            match entry.update(change, &project(1), None, NINE) {
                Ok(changed) if !changed.is_empty() => prop_assert_eq!(entry.version, before.version + 1),
                _ => prop_assert_eq!(entry, before),
            }
        }
    }
}
