//! The model: a consultant, and the rules of its changes. Pure.

use kit::cache::Cached;
use kit::ids::{Id, Kind};
use kit::money::Money;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Marks ids of consultants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsultantKind;

impl Kind for ConsultantKind {
    const NAME: &'static str = "consultant";
}

/// The id of a consultant.
pub type ConsultantId = Id<ConsultantKind>;

/// What a caller says of a consultant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique in the tenant; 1 to 64 characters.
    pub code: String,
    /// 1 to 200 characters.
    pub display_name: String,
    /// Unique in the tenant whatever its case.
    pub email: Option<String>,
    /// The `sub` of the person's tokens; unique in the tenant.
    pub subject: Option<String>,
    /// May be empty.
    pub job_title: String,
    /// Working time a week, in minutes; 0 to 10,080.
    pub weekly_capacity_minutes: i32,
    /// What an hour costs the firm.
    pub cost_rate: Option<Money>,
    /// What an hour is billed at.
    pub bill_rate: Option<Money>,
}

/// A person whose time is planned and recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consultant {
    /// Made by this service.
    pub id: ConsultantId,
    /// What the caller says of it.
    pub profile: Profile,
    /// False once deactivated, for good: no assignment or time entry can be added.
    pub active: bool,
    /// Rises by one with each change.
    pub version: i64,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// The fields that an update may name.
pub const MUTABLE: &[&str] = &[
    "code",
    "display_name",
    "email",
    "subject",
    "job_title",
    "weekly_capacity_minutes",
    "cost_rate",
    "bill_rate",
];

impl Cached for Consultant {
    fn version(&self) -> i64 {
        self.version
    }
}

impl Consultant {
    /// A new, active consultant at version 1.
    pub fn new(id: ConsultantId, profile: Profile, now: OffsetDateTime) -> Self {
        Self {
            id,
            profile,
            active: true,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Takes the `named` fields over from `wished`; the names of those that really changed, and none if nothing did.
    pub fn update(
        &mut self,
        wished: &Profile,
        named: &[&str],
        now: OffsetDateTime,
    ) -> Vec<&'static str> {
        let changed: Vec<&'static str> = MUTABLE
            .iter()
            .copied()
            .filter(|field| named.contains(field) && take(&mut self.profile, wished, field))
            .collect();
        if !changed.is_empty() {
            self.touch(now);
        }
        changed
    }

    /// Ends the consultant's work for the firm; false if that had happened before.
    pub fn deactivate(&mut self, now: OffsetDateTime) -> bool {
        if !self.active {
            return false;
        }
        self.active = false;
        self.touch(now);
        true
    }

    fn touch(&mut self, now: OffsetDateTime) {
        self.version += 1;
        self.updated_at = now;
    }
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
        "email" => set(&mut profile.email, &wished.email),
        "subject" => set(&mut profile.subject, &wished.subject),
        "job_title" => set(&mut profile.job_title, &wished.job_title),
        "weekly_capacity_minutes" => set(
            &mut profile.weekly_capacity_minutes,
            &wished.weekly_capacity_minutes,
        ),
        "cost_rate" => set(&mut profile.cost_rate, &wished.cost_rate),
        "bill_rate" => set(&mut profile.bill_rate, &wished.bill_rate),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(code: &str) -> Profile {
        Profile {
            code: code.to_owned(),
            display_name: "Kim".to_owned(),
            email: None,
            subject: None,
            job_title: String::new(),
            weekly_capacity_minutes: 2_400,
            cost_rate: None,
            bill_rate: None,
        }
    }

    fn kim() -> Consultant {
        Consultant::new(
            ConsultantId::new(uuid::Uuid::from_u128(1)),
            profile("kim"),
            OffsetDateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn an_update_changes_only_the_named_fields_and_counts_one_version() {
        let mut consultant = kim();
        let mut wished = profile("kim-2");
        wished.display_name = "Other".to_owned();
        wished.email = Some("kim@example.com".to_owned());
        let later = OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR;
        assert_eq!(
            consultant.update(&wished, &["code", "email"], later),
            ["code", "email"]
        );
        assert_eq!((consultant.version, consultant.updated_at), (2, later));
        assert_eq!(consultant.profile.display_name, "Kim");
    }

    #[test]
    fn an_update_to_what_already_is_changes_nothing() {
        let mut consultant = kim();
        assert!(
            consultant
                .update(&profile("kim"), MUTABLE, OffsetDateTime::UNIX_EPOCH)
                .is_empty()
        );
        assert_eq!(consultant.version, 1);
    }

    #[test]
    fn a_consultant_is_deactivated_once() {
        let mut consultant = kim();
        assert!(consultant.deactivate(OffsetDateTime::UNIX_EPOCH));
        assert!(!consultant.deactivate(OffsetDateTime::UNIX_EPOCH));
        assert_eq!((consultant.active, consultant.version), (false, 2));
    }
}
