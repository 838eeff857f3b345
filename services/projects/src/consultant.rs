//! What this service keeps of a consultant. Pure.

use kit::ids::{Id, Kind};

/// Marks ids of consultants; the consultants service makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsultantKind;

impl Kind for ConsultantKind {
    const NAME: &'static str = "consultant";
}

/// The id of a consultant.
pub type ConsultantId = Id<ConsultantKind>;

/// A consultant as the consultants service last told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consultant {
    /// The same as there.
    pub id: ConsultantId,
    /// The firm's own key.
    pub code: String,
    /// The name.
    pub display_name: String,
    /// Whether the consultant can be assigned.
    pub active: bool,
    /// As the consultants service counts: the greater is the newer.
    pub version: i64,
}

/// The newest word on each consultant, in the order of their ids, which is the order in which rows are locked.
pub fn newest(told: impl IntoIterator<Item = Consultant>) -> Vec<Consultant> {
    let mut newest: std::collections::BTreeMap<ConsultantId, Consultant> =
        std::collections::BTreeMap::new();
    for consultant in told {
        match newest.get(&consultant.id) {
            Some(known) if known.version >= consultant.version => {}
            _ => {
                newest.insert(consultant.id, consultant);
            }
        }
    }
    newest.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(id: u128, version: i64) -> Consultant {
        Consultant {
            id: ConsultantId::new(uuid::Uuid::from_u128(id)),
            code: format!("c{id}"),
            display_name: format!("version {version}"),
            active: true,
            version,
        }
    }

    proptest! {
        #[test]
        fn of_each_consultant_the_greatest_version_stays_in_whatever_order_it_was_told(
            words in proptest::collection::vec((0_u128..4, 1_i64..6), 0..20),
        ) {
            let kept = newest(words.iter().map(|(id, version)| told(*id, *version)));
            let ids: Vec<_> = kept.iter().map(|consultant| consultant.id).collect();
            let mut expected: Vec<_> = words.iter().map(|(id, _)| told(*id, 1).id).collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(ids, expected);
            for consultant in kept {
                let versions = words.iter().filter(|(id, _)| told(*id, 1).id == consultant.id);
                prop_assert_eq!(versions.map(|(_, version)| *version).max(), Some(consultant.version));
            }
        }
    }
}
