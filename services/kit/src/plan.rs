//! How much of a deployment a tenant may use.
//!
//! A plan scales the limits that the deployment sets, and is the tenant's weight where tenants wait for the same thing.

use std::num::NonZeroU32;

use proto::tenants::v1::TenantPlan;
use serde::{Deserialize, Serialize};

/// The share of a tenant. The factors are part of the contract: see `TenantPlan` there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// A quarter of the limits.
    Small,
    /// The limits as they are set.
    #[default]
    Standard,
    /// Four times the limits.
    Large,
}

impl Plan {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Standard, Self::Large];

    /// The plan of the contract; none when it is not said, or is one of a newer version.
    pub fn of(plan: TenantPlan) -> Option<Self> {
        match plan {
            TenantPlan::Unspecified => None,
            TenantPlan::Small => Some(Self::Small),
            TenantPlan::Standard => Some(Self::Standard),
            TenantPlan::Large => Some(Self::Large),
        }
    }

    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Standard => "standard",
            Self::Large => "large",
        }
    }

    /// What `limit`, set for the ordinary plan, is for this one.
    pub fn scaled(self, limit: NonZeroU32) -> NonZeroU32 {
        let limit = match self {
            Self::Small => limit.get() / 4,
            Self::Standard => limit.get(),
            Self::Large => limit.get().saturating_mul(4),
        };
        NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN)
    }

    /// What it holds at most of a pool of connections that all tenants share, in percent.
    pub(crate) fn percent(self) -> u32 {
        match self {
            Self::Small => 20,
            Self::Standard => 40,
            Self::Large => 60,
        }
    }

    /// How many turns it has where a small tenant has one.
    pub(crate) fn weight(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Standard => 4,
            Self::Large => 16,
        }
    }
}

impl TryFrom<String> for Plan {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|plan| plan.name() == name);
        known.ok_or_else(|| format!("{name} is no plan"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_scales_a_limit_and_never_to_nothing() {
        let of = |limit| {
            let limit = NonZeroU32::new(limit).unwrap();
            Plan::ALL.map(|plan| plan.scaled(limit).get())
        };
        assert_eq!(of(2_000), [500, 2_000, 8_000]);
        assert_eq!(of(1), [1, 1, 4]);
        assert_eq!(of(u32::MAX), [u32::MAX / 4, u32::MAX, u32::MAX]);
    }

    #[test]
    fn a_plan_is_read_back_by_the_name_it_is_stored_under() {
        for plan in Plan::ALL {
            assert_eq!(Plan::try_from(plan.name().to_owned()), Ok(plan));
        }
        assert!(Plan::try_from("huge".to_owned()).is_err());
    }
}
