//! What a time log needs before its entries can be stored: the nouns that its good rows name.

use std::collections::{BTreeMap, BTreeSet};

use time::Date;

use crate::import::row::{Entry, Outcome};

/// A project by the keys of the source: its client's and its own.
pub(super) type ProjectKey = (String, String);

/// The keys of a file. Grows with the number of nouns, not of rows.
#[derive(Default)]
pub(super) struct Survey {
    /// All rows of the file.
    pub(super) rows: u64,
    pub(super) clients: BTreeSet<String>,
    pub(super) projects: BTreeSet<ProjectKey>,
    pub(super) consultants: BTreeSet<String>,
    /// Who worked on what, from the first day to the last.
    pub(super) assignments: BTreeMap<(ProjectKey, String), (Date, Date)>,
}

impl Survey {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.rows += 1;
        let Outcome::Entry(entry) = outcome else {
            return;
        };
        let Entry {
            client,
            project,
            consultant,
            worked_on,
            ..
        } = *entry;
        let project = (client, project);
        let days = self
            .assignments
            .entry((project.clone(), consultant.clone()))
            .or_insert((worked_on, worked_on));
        *days = (days.0.min(worked_on), days.1.max(worked_on));
        if !self.projects.contains(&project) {
            self.clients.insert(project.0.clone());
            self.projects.insert(project);
        }
        self.consultants.insert(consultant);
    }
}

/// The code of each project: its key, or client and key where another client's project has the key.
///
/// `existing` holds the client of each code that is taken. Repeated with what it led to, it gives the same codes.
pub(super) fn project_codes(
    projects: &BTreeSet<ProjectKey>,
    existing: &BTreeMap<String, String>,
) -> BTreeMap<ProjectKey, Result<String, String>> {
    let mut taken = existing.clone();
    let mut codes = BTreeMap::new();
    // What is there already comes first, so that no new project takes its code.
    let (known, new): (Vec<_>, Vec<_>) = projects.iter().partition(|key| {
        candidates(key)
            .iter()
            .any(|code| taken.get(code) == Some(&key.0))
    });
    for key in known.into_iter().chain(new) {
        let candidates = candidates(key);
        let own = candidates
            .iter()
            .find(|code| taken.get(*code) == Some(&key.0));
        let code = own.or_else(|| candidates.iter().find(|code| !taken.contains_key(*code)));
        let code = code.cloned().ok_or_else(|| {
            format!(
                "the project codes {} belong to other clients: rename one of them",
                candidates.join(" and ")
            )
        });
        if let Ok(code) = &code {
            taken.insert(code.clone(), key.0.clone());
        }
        codes.insert(key.clone(), code);
    }
    codes
}

fn candidates((client, project): &ProjectKey) -> [String; 2] {
    [project.clone(), format!("{client}-{project}")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::{date, datetime};

    use super::*;

    fn entry(client: &str, project: &str, consultant: &str, worked_on: Date) -> Outcome {
        Outcome::Entry(Box::new(Entry {
            line: 2,
            external_id: "1".to_owned(),
            client: client.to_owned(),
            project: project.to_owned(),
            consultant: consultant.to_owned(),
            started_at: datetime!(2024-07-01 10:00 UTC),
            ended_at: datetime!(2024-07-01 11:00 UTC),
            break_minutes: 0,
            worked_on,
            time_zone: "UTC".to_owned(),
            billable: None,
            note: String::new(),
        }))
    }

    fn keys(pairs: &[(&str, &str)]) -> BTreeSet<ProjectKey> {
        pairs
            .iter()
            .map(|(client, project)| ((*client).to_owned(), (*project).to_owned()))
            .collect()
    }

    #[test]
    fn an_assignment_lasts_from_the_first_day_to_the_last() {
        let mut survey = Survey::default();
        survey.add(entry("c", "p", "ann", date!(2024 - 07 - 02)));
        survey.add(entry("c", "p", "ann", date!(2024 - 07 - 09)));
        survey.add(entry("c", "p", "ann", date!(2024 - 07 - 01)));
        survey.add(entry("c", "p", "bob", date!(2024 - 07 - 05)));
        survey.add(Outcome::Filtered);
        assert_eq!(survey.rows, 5);
        let days: Vec<_> = survey.assignments.into_values().collect();
        assert_eq!(
            days,
            [
                (date!(2024 - 07 - 01), date!(2024 - 07 - 09)),
                (date!(2024 - 07 - 05), date!(2024 - 07 - 05))
            ]
        );
    }

    #[test]
    fn one_key_of_two_clients_becomes_two_projects() {
        let codes = project_codes(&keys(&[("north", "1"), ("south", "1")]), &BTreeMap::new());
        let codes: Vec<_> = codes.into_values().map(Result::unwrap).collect();
        assert_eq!(codes, ["1", "south-1"]);
    }

    #[test]
    fn a_project_whose_codes_are_taken_is_refused() {
        let existing = ["1", "south-1"].map(|code| (code.to_owned(), "north".to_owned()));
        let codes = project_codes(&keys(&[("south", "1")]), &existing.into());
        assert!(codes.into_values().next().unwrap().is_err());
    }

    proptest! {
        #[test]
        fn codes_are_unique_and_a_repeat_gives_the_same(
            pairs in proptest::collection::btree_set(("[ab]{1,2}", "[1-3]{1,2}"), 0..12),
            before in proptest::collection::btree_map("([ab]{1,2}-)?[1-3]{1,2}", "[abc]{1,2}", 0..6),
        ) {
            let codes = project_codes(&pairs, &before);
            let mut after = before.clone();
            for (key, code) in &codes {
                if let Ok(code) = code {
                    let owner = after.insert(code.clone(), key.0.clone());
                    prop_assert!(owner.is_none_or(|owner| owner == key.0));
                }
            }
            let good = codes.values().flatten();
            prop_assert_eq!(good.clone().collect::<BTreeSet<_>>().len(), good.count());
            prop_assert_eq!(project_codes(&pairs, &after), codes);
        }
    }
}
