//! The model: a firm that uses the deployment, and the rules of its states. Pure.

use jiff::tz::TimeZone;
use kit::cells::CellName;
use kit::ids::{Id, Kind};
use kit::money::Currency;
use kit::plan::Plan;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Marks ids of firms as the control plane's aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantKind;

impl Kind for TenantKind {
    const NAME: &'static str = "tenant";
}

/// The id of a firm as an aggregate. The same UUID is [`kit::TenantId`] where the firm itself calls.
pub type FirmId = Id<TenantKind>;

/// What an operator says of a firm; none of it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique in the deployment; see [`is_slug`].
    pub slug: String,
    /// 1 to 200 characters.
    pub display_name: String,
    /// The IANA name of the home office's time zone, as [`time_zone`] spells it.
    pub time_zone: String,
    /// What the firm keeps its books in.
    pub currency: Currency,
}

/// Where the rows of a firm are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The cell.
    pub cell: CellName,
    /// Rises by one each time that the firm is placed anew.
    pub epoch: i64,
    /// Whether the firm has ever been active, and may have rows.
    pub settled: bool,
}

impl Default for Placement {
    /// Of a firm from before there were cells.
    fn default() -> Self {
        Self {
            cell: CellName::SHARED,
            epoch: 1,
            settled: true,
        }
    }
}

/// What an operator asks for a new firm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who it is.
    pub profile: Profile,
    /// How much of the deployment it may use.
    pub plan: Plan,
    /// Where its rows are to be.
    pub cell: CellName,
    /// Whether it is let in at once.
    pub active: bool,
}

/// A firm that has been active is not placed anew: it may have rows where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled;

/// A firm that uses the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Made by this service.
    pub id: FirmId,
    /// What the operator says of it.
    pub profile: Profile,
    /// False while it is suspended: every service refuses its calls.
    pub active: bool,
    /// How much of the deployment it may use.
    #[serde(default)]
    pub plan: Plan,
    /// Where its rows are.
    #[serde(default)]
    pub placement: Placement,
    /// Rises by one with each change.
    pub version: i64,
    /// When it was admitted.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

impl Tenant {
    /// A new tenant at version 1.
    pub fn new(id: FirmId, new: Admission, now: OffsetDateTime) -> Self {
        let Admission {
            profile,
            plan,
            cell,
            active,
        } = new;
        Self {
            id,
            profile,
            active,
            plan,
            placement: Placement {
                cell,
                epoch: 1,
                settled: active,
            },
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Shuts the firm out; false if it was out already.
    pub fn suspend(&mut self, now: OffsetDateTime) -> bool {
        self.turn(false, now)
    }

    /// Lets the firm in again; false if it was in already.
    pub fn resume(&mut self, now: OffsetDateTime) -> bool {
        self.turn(true, now)
    }

    /// Gives the firm another share of the deployment; the plan until now, none if it had this one already.
    pub fn change_plan(&mut self, plan: Plan, now: OffsetDateTime) -> Option<Plan> {
        if self.plan == plan {
            return None;
        }
        let previous = std::mem::replace(&mut self.plan, plan);
        self.touch(now);
        Some(previous)
    }

    /// Gives a firm that was never let in to another cell; the cell until now, none if it was in this one already.
    pub fn place(
        &mut self,
        cell: CellName,
        now: OffsetDateTime,
    ) -> Result<Option<CellName>, Settled> {
        if self.placement.cell == cell {
            return Ok(None);
        }
        if self.placement.settled {
            return Err(Settled);
        }
        let previous = std::mem::replace(&mut self.placement.cell, cell);
        self.placement.epoch += 1;
        self.touch(now);
        Ok(Some(previous))
    }

    fn turn(&mut self, active: bool, now: OffsetDateTime) -> bool {
        if self.active == active {
            return false;
        }
        self.active = active;
        self.placement.settled |= active;
        self.touch(now);
        true
    }

    fn touch(&mut self, now: OffsetDateTime) {
        self.version += 1;
        self.updated_at = now;
    }
}

/// Whether `text` is 3 to 63 lowercase letters, digits and inner hyphens that begin with a letter:
/// what is also a label of a host name.
pub fn is_slug(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The name of an IANA time zone in its own spelling, whatever the case of `name`; none if there is no such zone.
pub fn time_zone(name: &str) -> Option<String> {
    let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())?;
    zone.iana_name().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acme() -> Tenant {
        let profile = Profile {
            slug: "acme".to_owned(),
            display_name: "Acme Advisory".to_owned(),
            time_zone: "Europe/Vienna".to_owned(),
            currency: Currency::parse("EUR").unwrap(),
        };
        let new = Admission {
            profile,
            plan: Plan::default(),
            cell: CellName::SHARED,
            active: true,
        };
        let id = FirmId::new(uuid::Uuid::from_u128(1));
        Tenant::new(id, new, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_slug_begins_with_a_letter_and_ends_without_a_hyphen() {
        for slug in ["abc", "a-1", "north-star-2", &"a".repeat(63)] {
            assert!(is_slug(slug), "{slug}");
        }
        for other in [
            "",
            "ab",
            "1ab",
            "-ab",
            "ab-",
            "Abc",
            "a_b",
            "a.b",
            "a b",
            "äbc",
            &"a".repeat(64),
        ] {
            assert!(!is_slug(other), "{other}");
        }
    }

    #[test]
    fn a_time_zone_is_known_by_its_iana_name_alone() {
        assert_eq!(time_zone("Europe/Vienna").as_deref(), Some("Europe/Vienna"));
        assert_eq!(time_zone("europe/VIENNA").as_deref(), Some("Europe/Vienna"));
        for other in [
            "",
            "Europe/Atlantis",
            "Etc/Unknown",
            "+02:00",
            "CET-1CEST",
            "../Europe/Vienna",
        ] {
            assert_eq!(time_zone(other), None, "{other}");
        }
    }

    #[test]
    fn a_plan_that_the_firm_has_already_changes_nothing() {
        let mut tenant = acme();
        let later = OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR;
        assert_eq!(tenant.change_plan(Plan::Standard, later), None);
        assert_eq!(tenant, acme());
        assert_eq!(tenant.change_plan(Plan::Large, later), Some(Plan::Standard));
        assert_eq!((tenant.version, tenant.updated_at), (2, later));
        assert!(tenant.active);
    }

    #[test]
    fn a_firm_is_placed_until_it_is_active_for_the_first_time() {
        let big = CellName::parse("big").unwrap();
        let mut tenant = acme();
        let later = OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR;
        assert_eq!(tenant.place(big.clone(), later), Err(Settled));
        assert_eq!(tenant.place(CellName::SHARED, later), Ok(None));
        assert_eq!(tenant, acme());

        tenant.active = false;
        tenant.placement.settled = false;
        assert_eq!(tenant.place(big.clone(), later), Ok(Some(CellName::SHARED)));
        assert_eq!((tenant.version, tenant.placement.epoch), (2, 2));
        assert!(tenant.resume(later) && tenant.suspend(later));
        assert_eq!(tenant.place(CellName::SHARED, later), Err(Settled));
        assert_eq!(tenant.placement.cell, big);
    }

    proptest! {
        #[test]
        fn a_version_counts_the_changes_of_state_and_no_repeats(verbs in proptest::collection::vec(any::<bool>(), 0..32)) {
            let mut tenant = acme();
            let mut now = OffsetDateTime::UNIX_EPOCH;
            for resume in verbs {
                now += time::Duration::HOUR;
                let before = tenant.clone();
                let changed = if resume { tenant.resume(now) } else { tenant.suspend(now) };
                prop_assert_eq!(tenant.active, resume);
                prop_assert_eq!(changed, before.active != resume);
                prop_assert_eq!(tenant.version, before.version + i64::from(changed));
                prop_assert_eq!(tenant.updated_at, if changed { now } else { before.updated_at });
            }
        }

        #[test]
        fn a_slug_is_a_label_of_a_host_name(text in "[a-zA-Z0-9._ -]{0,70}") {
            if is_slug(&text) {
                prop_assert!(text.len() <= 63 && !text.starts_with('-') && !text.ends_with('-'));
                prop_assert_eq!(text.to_lowercase(), text);
            }
        }
    }
}
