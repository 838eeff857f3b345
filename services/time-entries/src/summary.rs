//! What entries can be added up by. Pure.

use serde::Serialize;

use crate::reference::{ConsultantId, ProjectId};
use time::Date;

/// One thing to group by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Dimension {
    /// By project.
    Project,
    /// By consultant.
    Consultant,
    /// By the day that work counts for.
    Day,
    /// By its ISO week, which begins on Monday.
    Week,
    /// By its month.
    Month,
}

impl Dimension {
    /// Whether it is a stretch of days.
    pub fn is_period(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month)
    }
}

/// Up to three dimensions, none twice and at most one of them a period. Rows come in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Grouping([Option<Dimension>; 3]);

impl Grouping {
    /// Groups by `dimensions` if they can stand together.
    pub fn new(dimensions: &[Dimension]) -> Option<Self> {
        let mut slots = [None; 3];
        if dimensions.len() > slots.len() {
            return None;
        }
        for (n, dimension) in dimensions.iter().enumerate() {
            let clashes = |other: &Dimension| {
                other == dimension || (other.is_period() && dimension.is_period())
            };
            if dimensions.iter().take(n).any(clashes) {
                return None;
            }
        }
        for (slot, dimension) in slots.iter_mut().zip(dimensions) {
            *slot = Some(*dimension);
        }
        Some(Self(slots))
    }

    /// The dimensions, one for each part of a row's key.
    pub fn slots(&self) -> [Option<Dimension>; 3] {
        self.0
    }
}

/// Which entries are added up, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// Only entries of this project.
    pub project: Option<ProjectId>,
    /// Only entries of this consultant.
    pub consultant: Option<ConsultantId>,
    /// Only entries that count for this day or later.
    pub from: Date,
    /// Only entries that count for a day before this one.
    pub until: Date,
    /// What to group by.
    pub grouping: Grouping,
}

/// The parts of a row's key as text, one for each slot of the grouping: an id, or the first day of a period.
/// Text sorts as ids and days do. A slot without a dimension has a dot.
pub type Key = [String; 3];

/// The sum of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Which group.
    pub key: Key,
    /// How many entries there are.
    pub entries: i64,
    /// How long was worked.
    pub worked_minutes: i64,
    /// How much of it is billed.
    pub billable_minutes: i64,
}

#[cfg(test)]
mod tests {
    use super::Dimension::{Consultant, Day, Month, Project, Week};
    use super::*;

    #[test]
    fn no_dimension_stands_twice_and_no_period_beside_another() {
        for good in [
            &[][..],
            &[Month],
            &[Project, Week, Consultant],
            &[Consultant, Project],
        ] {
            let slots = Grouping::new(good).map(|grouping| grouping.slots());
            let slots: Vec<_> = slots.unwrap().into_iter().flatten().collect();
            assert_eq!(slots, good);
        }
        for bad in [
            &[Project, Project][..],
            &[Day, Month],
            &[Week, Project, Day],
            &[Project, Consultant, Day, Project],
        ] {
            assert_eq!(Grouping::new(bad), None, "{bad:?}");
        }
    }
}
