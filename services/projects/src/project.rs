//! The model of a project, and the rules of its changes. Pure.

use kit::cache::Cached;
use kit::ids::{Id, Kind};
use kit::money::Money;
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::client::ClientId;

/// Marks ids of projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectKind;

impl Kind for ProjectKind {
    const NAME: &'static str = "project";
}

/// The id of a project.
pub type ProjectId = Id<ProjectKind>;

/// What a caller says of a project, its client aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique among the tenant's projects; 1 to 64 characters.
    pub code: String,
    /// 1 to 200 characters.
    pub display_name: String,
    /// Whether a time entry that does not say so itself is billed to the client.
    pub billable: bool,
    /// How long the work may take, 0 or more; none when not bounded.
    pub budget_minutes: Option<i64>,
    /// What the work may cost the client, not negative; none when not bounded.
    pub budget: Option<Money>,
    /// The first day of the work.
    pub start_date: Option<Date>,
    /// The last day of the work, not before the first.
    pub end_date: Option<Date>,
}

/// Work for one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Made by this service.
    pub id: ProjectId,
    /// Whom the work is for; never changes.
    pub client_id: ClientId,
    /// What the caller says of it.
    pub profile: Profile,
    /// Once true, for good: nothing of the project, its assignments and its time can be changed.
    pub archived: bool,
    /// Rises by one with each change.
    pub version: i64,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// Which projects a list holds; an absent part selects nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Only those of this client.
    pub client_id: Option<ClientId>,
    /// Only the archived ones, or only the others.
    pub archived: Option<bool>,
}

/// The fields that an update may name.
pub const MUTABLE: &[&str] = &[
    "code",
    "display_name",
    "billable",
    "budget_minutes",
    "budget",
    "start_date",
    "end_date",
];

/// Why a project cannot be changed as wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is archived.
    Archived,
    /// It would end before it starts.
    EndsBeforeStart,
}

impl Cached for Project {
    fn version(&self) -> i64 {
        self.version
    }
}

impl Project {
    /// A new, active project at version 1.
    pub fn new(id: ProjectId, client_id: ClientId, profile: Profile, now: OffsetDateTime) -> Self {
        Self {
            id,
            client_id,
            profile,
            archived: false,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Takes the `named` fields over from `wished`; the names of those that really changed, and none if nothing did.
    /// A refused update changes nothing.
    pub fn update(
        &mut self,
        wished: &Profile,
        named: &[&str],
        now: OffsetDateTime,
    ) -> Result<Vec<&'static str>, Refusal> {
        if self.archived {
            return Err(Refusal::Archived);
        }
        let mut profile = self.profile.clone();
        let changed: Vec<&'static str> = MUTABLE
            .iter()
            .copied()
            .filter(|field| named.contains(field) && take(&mut profile, wished, field))
            .collect();
        if ends_before_start(profile.start_date, profile.end_date) {
            return Err(Refusal::EndsBeforeStart);
        }
        self.profile = profile;
        if !changed.is_empty() {
            self.touch(now);
        }
        Ok(changed)
    }

    /// Closes the project; false if that had happened before.
    pub fn archive(&mut self, now: OffsetDateTime) -> bool {
        if self.archived {
            return false;
        }
        self.archived = true;
        self.touch(now);
        true
    }

    fn touch(&mut self, now: OffsetDateTime) {
        self.version += 1;
        self.updated_at = now;
    }
}

/// Whether two days that are both known are in the wrong order.
pub fn ends_before_start(start: Option<Date>, end: Option<Date>) -> bool {
    matches!((start, end), (Some(start), Some(end)) if end < start)
}

/// Copies one field; whether that changed it.
fn take(profile: &mut Profile, wished: &Profile, field: &str) -> bool {
    fn set<T: Clone + PartialEq>(current: &mut T, wished: &T) -> bool {
        let changed = current != wished;
        current.clone_from(wished);
        changed
    }
    match field {
        "code" => set(&mut profile.code, &wished.code),
        "display_name" => set(&mut profile.display_name, &wished.display_name),
        "billable" => set(&mut profile.billable, &wished.billable),
        "budget_minutes" => set(&mut profile.budget_minutes, &wished.budget_minutes),
        "budget" => set(&mut profile.budget, &wished.budget),
        "start_date" => set(&mut profile.start_date, &wished.start_date),
        "end_date" => set(&mut profile.end_date, &wished.end_date),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::money::Currency;
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::date;

    const LATER: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::HOUR);

    fn profile() -> Profile {
        Profile {
            code: "apollo".to_owned(),
            display_name: "Apollo".to_owned(),
            billable: true,
            budget_minutes: None,
            budget: None,
            start_date: None,
            end_date: None,
        }
    }

    fn apollo() -> Project {
        project(profile())
    }

    fn project(profile: Profile) -> Project {
        let id = ProjectId::new(uuid::Uuid::from_u128(1));
        let client_id = ClientId::new(uuid::Uuid::from_u128(2));
        Project::new(id, client_id, profile, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_project_is_archived_once() {
        let mut project = apollo();
        assert!(project.archive(LATER));
        assert!(!project.archive(LATER));
        assert_eq!(
            (project.archived, project.version, project.updated_at),
            (true, 2, LATER)
        );
    }

    #[test]
    fn nothing_of_an_archived_project_can_be_changed() {
        let mut project = apollo();
        project.archive(LATER);
        let before = project.clone();
        assert_eq!(
            project.update(&profile(), MUTABLE, LATER),
            Err(Refusal::Archived)
        );
        assert_eq!(project, before);
    }

    #[test]
    fn a_new_end_is_held_against_the_start_that_is_there() {
        let start_date = Some(date!(2026 - 03 - 02));
        let mut project = project(Profile {
            start_date,
            ..profile()
        });
        let wished = Profile {
            end_date: Some(date!(2026 - 03 - 01)),
            ..profile()
        };
        assert_eq!(
            project.update(&wished, &["end_date"], LATER),
            Err(Refusal::EndsBeforeStart)
        );
        assert_eq!(project.profile.end_date, None);
        let wished = Profile {
            end_date: start_date,
            ..profile()
        };
        assert_eq!(
            project.update(&wished, &["end_date"], LATER),
            Ok(vec!["end_date"])
        );
    }

    #[test]
    fn a_named_field_without_a_value_is_cleared() {
        let mut project = project(Profile {
            budget_minutes: Some(600),
            ..profile()
        });
        assert_eq!(
            project.update(&profile(), &["budget_minutes"], LATER),
            Ok(vec!["budget_minutes"])
        );
        assert_eq!(project.profile.budget_minutes, None);
    }

    fn any_date() -> impl Strategy<Value = Option<Date>> {
        proptest::option::of(
            (0_i64..5).prop_map(|days| date!(2026 - 01 - 01) + Duration::days(days)),
        )
    }

    // Few values for each field, so that fields often agree.
    fn any_profile() -> impl Strategy<Value = Profile> {
        let money = (0_i64..2).prop_map(|minor_units| {
            Currency::parse("EUR").map(|currency| Money {
                minor_units,
                currency,
            })
        });
        let text = || proptest::sample::select(vec!["a".to_owned(), "b".to_owned()]);
        let minutes = proptest::option::of(0_i64..2);
        (
            text(),
            text(),
            any::<bool>(),
            minutes,
            money,
            any_date(),
            any_date(),
        )
            .prop_map(
                |(code, display_name, billable, budget_minutes, budget, start_date, end_date)| {
                    Profile {
                        code,
                        display_name,
                        billable,
                        budget_minutes,
                        budget,
                        start_date,
                        end_date,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn an_update_takes_the_named_fields_alone_and_counts_one_version_if_any_differed(
            before in any_profile().prop_filter("dates in order", |it| !ends_before_start(it.start_date, it.end_date)),
            wished in any_profile(),
            named in proptest::sample::subsequence(MUTABLE, 0..=MUTABLE.len()),
        ) {
            let mut project = project(before.clone());
            match project.update(&wished, &named, LATER) {
                Ok(changed) => {
                    prop_assert!(changed.iter().all(|field| named.contains(field)));
                    prop_assert!(!ends_before_start(project.profile.start_date, project.profile.end_date));
                    prop_assert_eq!(project.version, if changed.is_empty() { 1 } else { 2 });
                    prop_assert_eq!(project.updated_at == LATER, !changed.is_empty());
                    prop_assert_eq!(project.profile == before, changed.is_empty());
                    let mut rebuilt = before;
                    for field in &changed {
                        prop_assert!(take(&mut rebuilt, &wished, field));
                    }
                    prop_assert_eq!(&rebuilt, &project.profile);
                    // The same update again finds everything as wished.
                    prop_assert_eq!(project.update(&wished, &named, LATER), Ok(vec![]));
                }
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::EndsBeforeStart);
                    prop_assert_eq!(project.profile, before);
                }
            }
        }
    }
}
