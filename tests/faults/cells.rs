//! The table of what is tried: each fault at each moment where it can do harm.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happens to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillService,
    KillPostgres,
    KillNats,
    CutNats,
    CutPostgres,
    Stop,
    Part,
    CutCommit,
    Fill,
    Duplicate,
    Reorder,
    Poison,
    Cancel,
    Lose,
    Roll,
    Storm,
    /// Of random schedules alone.
    Swizzle,
    /// The load of a campaign as a whole.
    Campaign,
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    M1,
    M2,
    M3,
    M4,
    M5,
    M6,
    M7,
    M10,
}

/// A fault at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Cell {
    pub(crate) fault: Fault,
    pub(crate) moment: Moment,
}

use Moment::{M1, M2, M3, M4, M5, M6, M7, M10};

impl Fault {
    pub(crate) const ALL: [Self; 16] = [
        Self::KillService,
        Self::KillPostgres,
        Self::KillNats,
        Self::CutNats,
        Self::CutPostgres,
        Self::Stop,
        Self::Part,
        Self::CutCommit,
        Self::Fill,
        Self::Duplicate,
        Self::Reorder,
        Self::Poison,
        Self::Cancel,
        Self::Lose,
        Self::Roll,
        Self::Storm,
    ];

    /// Its number in the tables.
    pub(crate) fn number(self) -> &'static str {
        match self {
            Self::KillService => "F1",
            Self::KillPostgres => "F2",
            Self::KillNats => "F3",
            Self::CutNats => "F4",
            Self::CutPostgres => "F5",
            Self::Stop => "F6",
            Self::Part => "F7",
            Self::CutCommit => "F8",
            Self::Fill => "F9",
            Self::Duplicate => "F12",
            Self::Reorder => "F13",
            Self::Poison => "F14",
            Self::Cancel => "F15",
            Self::Lose => "F16",
            Self::Roll => "F18",
            Self::Storm => "F20",
            Self::Swizzle => "random",
            Self::Campaign => "campaign",
        }
    }

    /// What it is.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::KillService => "kill -9 of a service",
            Self::KillPostgres => "kill -9 of PostgreSQL",
            Self::KillNats => "kill -9 of nats-server",
            Self::CutNats => "power cut of the broker's disk",
            Self::CutPostgres => "power cut of the database's disk",
            Self::Stop => "SIGSTOP of a server or a replica",
            Self::Part => "network parted, one way, reset or lossy",
            Self::CutCommit => "connection cut at COMMIT",
            Self::Fill => "disk full",
            Self::Duplicate => "events three times, streams replayed",
            Self::Reorder => "two consumers, the first one late",
            Self::Poison => "events that cannot be applied",
            Self::Cancel => "callers that go away",
            Self::Lose => "stream lost, rebuilt from the audit records",
            Self::Roll => "SIGTERM of every service in turn",
            Self::Storm => "500 callers that reconnect at once",
            Self::Swizzle => "two to four taken away, brought back in another order",
            Self::Campaign => "all of the load through all of these",
        }
    }

    /// The moments at which it is tried.
    pub(crate) fn moments(self) -> &'static [Moment] {
        match self {
            Self::KillService | Self::Stop | Self::Part => &[M1, M2, M3, M4, M5, M6, M7, M10],
            Self::KillPostgres | Self::CutPostgres => &[M1, M2, M3, M4, M5, M6, M10],
            Self::KillNats => &[M2, M3, M5, M6, M7, M10],
            Self::CutNats => &[M2, M3, M4, M5, M6, M7, M10],
            Self::CutCommit => &[M1, M6],
            Self::Fill => &[M1, M2, M3, M5, M10],
            Self::Duplicate => &[M3, M4, M5, M6, M7, M10],
            Self::Reorder => &[M5, M6, M7],
            Self::Poison => &[M5],
            Self::Cancel => &[M1, M10],
            Self::Lose => &[M2, M10],
            Self::Roll => &[M1, M2, M3, M5, M6, M10],
            Self::Storm => &[M1, M2],
            Self::Swizzle | Self::Campaign => &[],
        }
    }

    /// The moments of the short profile, which has three minutes: those where this fault has the most to break.
    pub(crate) fn short(self) -> &'static [Moment] {
        match self {
            Self::KillService => &[M3, M6],
            Self::KillNats | Self::CutNats | Self::Stop | Self::Fill | Self::Duplicate => &[M3],
            Self::KillPostgres | Self::CutPostgres | Self::CutCommit | Self::Cancel => &[M1],
            Self::Reorder | Self::Poison => &[M5],
            // They take long. The suite rebuilds a stream as well, and the bench restarts replicas for longer.
            Self::Lose | Self::Roll | Self::Storm | Self::Part | Self::Swizzle | Self::Campaign => {
                &[]
            }
        }
    }
}

impl Moment {
    /// What it is.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::M1 => "before the commit",
            Self::M2 => "after the commit, before the publication",
            Self::M3 => "published, not yet acknowledged",
            Self::M4 => "acknowledged, the row still there",
            Self::M5 => "a consumer has it",
            Self::M6 => "applied, not yet acknowledged",
            Self::M7 => "its acknowledgement is sent",
            Self::M10 => "a refusal, before it is on record",
        }
    }

    /// The names of the kit's failpoints where a process is at this moment.
    pub(crate) fn failpoints(self) -> &'static [&'static str] {
        match self {
            Self::M1 => &["before_commit"],
            Self::M2 => &["after_commit", "before_publish"],
            Self::M3 => &["after_publish"],
            Self::M4 => &["after_ack"],
            Self::M5 => &["event_received"],
            Self::M6 => &["event_applied"],
            Self::M7 => &["ack_sent"],
            Self::M10 => &["before_security_commit"],
        }
    }

    /// The services that come to it under the load of a run.
    pub(crate) fn services(self) -> &'static [&'static str] {
        match self {
            Self::M5 | Self::M6 | Self::M7 => &["audit", "projects", "time-entries"],
            _ => &["consultants", "projects", "time-entries"],
        }
    }
}

/// What a system must be able to do for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ground {
    /// Servers on volumes whose power can be cut, where the machine permits that.
    Powered,
    /// Servers on disks that can be full.
    Disks,
    /// Services in networks of their own.
    Network,
}

impl Fault {
    /// The ground that it is done on.
    pub(crate) fn ground(self) -> Ground {
        match self {
            Self::Part => Ground::Network,
            Self::Fill => Ground::Disks,
            _ => Ground::Powered,
        }
    }
}

impl Cell {
    /// What random schedules do.
    pub(crate) const SWIZZLE: Self = Self {
        fault: Fault::Swizzle,
        moment: M1,
    };

    /// What a campaign is judged as.
    pub(crate) const CAMPAIGN: Self = Self {
        fault: Fault::Campaign,
        moment: M1,
    };

    /// All of them, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let cells = Fault::ALL.into_iter().flat_map(|fault| {
            let moments = fault.moments().iter();
            moments.map(move |moment| Self {
                fault,
                moment: *moment,
            })
        });
        cells.collect()
    }

    /// Whether it is of the short profile.
    pub(crate) fn is_short(self) -> bool {
        self.fault.short().contains(&self.moment)
    }

    /// Whether a name means it: `F1`, `F1-M3` or a part of the title.
    pub(crate) fn is_called(self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.to_string().to_lowercase() == name
            || self.fault.number().to_lowercase() == name
            || (!name.starts_with('f') && self.fault.title().to_lowercase().contains(&name))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Swizzle | Fault::Campaign => f.write_str(self.fault.number()),
            fault => write!(f, "{}-{:?}", fault.number(), self.moment),
        }
    }
}

impl From<Cell> for String {
    fn from(cell: Cell) -> Self {
        cell.to_string()
    }
}

impl TryFrom<String> for Cell {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let found = Self::all()
            .into_iter()
            .find(|cell| cell.to_string() == text);
        found.ok_or_else(|| format!("{text} is no cell"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_cell_a_fault_or_a_word_of_its_title() {
        let called = |name: &str| {
            let cells = Cell::all().into_iter().filter(|cell| cell.is_called(name));
            cells.map(|cell| cell.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(called("F1-M3"), ["F1-M3"]);
        assert_eq!(called("f15"), ["F15-M1", "F15-M10"]);
        assert_eq!(called("reconnect"), ["F20-M1", "F20-M2"]);
        assert_eq!(called("F99"), Vec::<String>::new());
    }

    #[test]
    fn the_short_profile_tries_nothing_that_the_table_has_not() {
        for fault in Fault::ALL {
            let is_long = matches!(
                fault,
                Fault::Lose | Fault::Roll | Fault::Storm | Fault::Part
            );
            assert_eq!(fault.short().is_empty(), is_long);
            assert!(
                fault
                    .short()
                    .iter()
                    .all(|moment| fault.moments().contains(moment))
            );
        }
    }
}
