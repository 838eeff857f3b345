//! What kind of work a method is: what is shed first when there is more than a process can do.

/// From the last to be shed to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Probes: never shed, or a busy process would be taken for a dead one.
    Health,
    /// Changes: whoever sent one has work that would be lost.
    Write,
    /// Small reads.
    Read,
    /// Reads of much.
    Report,
}

/// What a method is called that reads much, or for long.
const REPORTS: [&str; 2] = ["Export", "Summarize"];
/// What a method is called that reads little. A lookup is part of a write in the service that calls it.
const READS: [&str; 3] = ["Get", "List", "Watch"];

impl Class {
    /// Of a method by its full name: `catalyst.projects.v1.ProjectService/GetProject`.
    pub(crate) fn of(method: &str) -> Self {
        if !method.starts_with("catalyst.") {
            return Self::Health;
        }
        let verb = method.rsplit('/').next().unwrap_or_default();
        let is = |verbs: &[&str]| verbs.iter().any(|it| verb.starts_with(it));
        if is(&REPORTS) {
            Self::Report
        } else if is(&READS) {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// As it stands in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Write => "write",
            Self::Read => "read",
            Self::Report => "report",
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn every_method_of_the_contract_is_known_to_read_or_to_write() {
        let writes = [
            "Acknowledge",
            "Archive",
            "Assign",
            "Change",
            "Create",
            "Deactivate",
            "Delete",
            "Import",
            "Lookup",
            "Place",
            "Resume",
            "Suspend",
            "Unassign",
            "Update",
        ];
        let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        for service in pool.services() {
            for method in service.methods() {
                let full = format!("{}/{}", service.full_name(), method.name());
                let is_write = writes.iter().any(|verb| method.name().starts_with(verb));
                assert_eq!(is_write, Class::of(&full) == Class::Write, "{full}");
            }
        }
    }

    #[test]
    fn probes_are_no_work_and_summaries_are_reports() {
        assert_eq!(Class::of("grpc.health.v1.Health/Check"), Class::Health);
        assert_eq!(
            Class::of("catalyst.time_entries.v1.TimeEntryService/SummarizeTimeEntries"),
            Class::Report
        );
    }
}
