//! What is known of one aggregate, and whether it holds together. Pure.

use std::fmt;

use audit::history::Recorded;
use uuid::Uuid;

/// The last version that a service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Where it is: `projects.client`; for a deleted one the schema alone.
    pub(super) service: &'static str,
    pub(super) table: &'static str,
    pub(super) number: i64,
}

/// All that was found of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) row: Option<Version>,
    pub(super) tombstone: Option<Version>,
    pub(super) recorded: Option<Recorded>,
}

/// What is wrong with an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The service is further than the records.
    Ahead,
    /// The records are further than the service.
    Behind,
    /// Some versions are not recorded.
    Gaps,
    /// Nothing is recorded.
    Unrecorded,
    /// Recorded, and neither there nor deleted.
    Lost,
    /// Deleted, and there.
    Returned,
}

impl Fault {
    /// For programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::Gaps => "gaps",
            Self::Unrecorded => "unrecorded",
            Self::Lost => "lost",
            Self::Returned => "returned",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ahead => "ahead of the records: an event was lost, or has not arrived",
            Self::Behind => "behind the records: a change was lost, as by a restored backup",
            Self::Gaps => "versions in between are not recorded: events were lost",
            Self::Unrecorded => "nothing is recorded: its events were lost, or have not arrived",
            Self::Lost => "recorded, but neither there nor deleted: the row was lost",
            Self::Returned => "there although it was deleted",
        })
    }
}

impl Look {
    /// What is wrong; none when all agree.
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.row.is_some() && self.tombstone.is_some() {
            return Some(Fault::Returned);
        }
        let version = self.row.or(self.tombstone).map(|version| version.number);
        match (version, &self.recorded) {
            (None, None) => None,
            (None, Some(_)) => Some(Fault::Lost),
            (Some(_), None) => Some(Fault::Unrecorded),
            (Some(version), Some(recorded)) if version > recorded.last => Some(Fault::Ahead),
            (Some(version), Some(recorded)) if version < recorded.last => Some(Fault::Behind),
            (Some(_), Some(recorded)) => {
                (recorded.versions != recorded.last).then_some(Fault::Gaps)
            }
        }
    }

    /// What it is: `projects.client`.
    pub(super) fn kind(&self) -> String {
        match (&self.recorded, self.row.or(self.tombstone)) {
            (Some(recorded), _) => format!("{}.{}", recorded.source, recorded.kind),
            (None, Some(version)) => format!("{}.{}", version.service, version.table),
            (None, None) => String::new(),
        }
    }
}

/// An aggregate that does not hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    pub(super) id: Uuid,
    pub(super) fault: Fault,
    pub(super) look: Look,
}

impl Departure {
    /// Judges an aggregate.
    pub(super) fn of(id: Uuid, look: Look) -> Option<Self> {
        let fault = look.fault()?;
        Some(Self { id, fault, look })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: i64) -> Version {
        Version {
            service: "projects",
            table: "client",
            number,
        }
    }

    fn look(row: Option<i64>, tombstone: Option<i64>, recorded: Option<(i64, i64)>) -> Look {
        Look {
            row: row.map(version),
            tombstone: tombstone.map(version),
            recorded: recorded.map(|(last, versions)| Recorded {
                id: Uuid::nil(),
                source: "projects".to_owned(),
                kind: "client".to_owned(),
                last,
                versions,
            }),
        }
    }

    #[test]
    fn what_agrees_is_sound_whether_it_is_there_or_deleted() {
        assert_eq!(look(Some(3), None, Some((3, 3))).fault(), None);
        assert_eq!(look(None, Some(4), Some((4, 4))).fault(), None);
        assert_eq!(look(None, None, None).fault(), None);
    }

    #[test]
    fn each_way_to_disagree_has_its_name() {
        for (row, tombstone, recorded, fault) in [
            (Some(4), None, Some((3, 3)), Fault::Ahead),
            (None, Some(4), Some((3, 3)), Fault::Ahead),
            (Some(2), None, Some((3, 3)), Fault::Behind),
            (None, Some(2), Some((3, 3)), Fault::Behind),
            (Some(3), None, Some((3, 2)), Fault::Gaps),
            (Some(1), None, None, Fault::Unrecorded),
            (None, Some(2), None, Fault::Unrecorded),
            (None, None, Some((3, 3)), Fault::Lost),
            (Some(1), Some(2), Some((2, 2)), Fault::Returned),
        ] {
            let look = look(row, tombstone, recorded);
            assert_eq!(look.fault(), Some(fault), "{look:?}");
        }
    }
}
