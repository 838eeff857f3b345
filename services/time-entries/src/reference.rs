//! What this service keeps of projects and consultants. Pure.

use std::collections::BTreeMap;

use kit::ids::{Id, Kind};
use uuid::Uuid;

/// Marks ids of projects; the projects service makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectKind;

impl Kind for ProjectKind {
    const NAME: &'static str = "project";
}

/// The id of a project.
pub type ProjectId = Id<ProjectKind>;

/// Marks ids of consultants; the consultants service makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsultantKind;

impl Kind for ConsultantKind {
    const NAME: &'static str = "consultant";
}

/// The id of a consultant.
pub type ConsultantId = Id<ConsultantKind>;

/// A project as the projects service last told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The same as there.
    pub id: ProjectId,
    /// Whose project it is.
    pub client_id: Uuid,
    /// The firm's own key.
    pub code: String,
    /// The name.
    pub display_name: String,
    /// False once archived, for good: no entry of it can be added or changed.
    pub active: bool,
    /// Whether an entry that does not say so itself is billed.
    pub billable: bool,
    /// As the projects service counts: the greater is the newer.
    pub version: i64,
}

/// A consultant as the consultants service last told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consultant {
    /// The same as there.
    pub id: ConsultantId,
    /// The firm's own key.
    pub code: String,
    /// The name.
    pub display_name: String,
    /// The `sub` of the person's tokens.
    pub subject: Option<String>,
    /// False once deactivated, for good: no entry can be added.
    pub active: bool,
    /// As the consultants service counts: the greater is the newer.
    pub version: i64,
}

/// Some projects and consultants by their ids, in whose order rows are locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// By id.
    pub projects: BTreeMap<ProjectId, Project>,
    /// By id.
    pub consultants: BTreeMap<ConsultantId, Consultant>,
}

impl References {
    /// Adds a project, unless a version as great is known.
    pub fn add_project(&mut self, told: Project) {
        if self
            .projects
            .get(&told.id)
            .is_none_or(|known| known.version < told.version)
        {
            self.projects.insert(told.id, told);
        }
    }

    /// Adds a consultant, unless a version as great is known.
    pub fn add_consultant(&mut self, told: Consultant) {
        if self
            .consultants
            .get(&told.id)
            .is_none_or(|known| known.version < told.version)
        {
            self.consultants.insert(told.id, told);
        }
    }

    /// Adds all of `told`.
    pub fn add(&mut self, told: Self) {
        told.projects
            .into_values()
            .for_each(|project| self.add_project(project));
        told.consultants
            .into_values()
            .for_each(|consultant| self.add_consultant(consultant));
    }
}

/// Ids of projects and consultants that a request names, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Of projects.
    pub projects: Vec<ProjectId>,
    /// Of consultants.
    pub consultants: Vec<ConsultantId>,
}

impl Named {
    /// These ids without their repetitions.
    pub fn new(
        projects: impl IntoIterator<Item = ProjectId>,
        consultants: impl IntoIterator<Item = ConsultantId>,
    ) -> Self {
        Self {
            projects: each_once(projects),
            consultants: each_once(consultants),
        }
    }

    /// Those that are not among `known`.
    #[must_use]
    pub fn unknown_to(&self, known: &References) -> Self {
        let projects = self.projects.iter().copied();
        let consultants = self.consultants.iter().copied();
        Self {
            projects: projects
                .filter(|id| !known.projects.contains_key(id))
                .collect(),
            consultants: consultants
                .filter(|id| !known.consultants.contains_key(id))
                .collect(),
        }
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.projects.is_empty() && self.consultants.is_empty()
    }
}

fn each_once<K>(ids: impl IntoIterator<Item = Id<K>>) -> Vec<Id<K>> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(id: u128, version: i64) -> Project {
        Project {
            id: ProjectId::new(Uuid::from_u128(id)),
            client_id: Uuid::from_u128(9),
            code: format!("p{id}"),
            display_name: format!("version {version}"),
            active: true,
            billable: true,
            version,
        }
    }

    #[test]
    fn what_is_named_and_not_known_is_unknown() {
        let mut known = References::default();
        known.add_project(told(1, 1));
        let ids = [2, 1, 2].map(|id| ProjectId::new(Uuid::from_u128(id)));
        let unknown = Named::new(ids, []).unknown_to(&known);
        assert_eq!(
            unknown,
            Named::new([ProjectId::new(Uuid::from_u128(2))], [])
        );
        assert!(
            unknown
                .unknown_to(&References {
                    projects: [(told(2, 1).id, told(2, 1))].into(),
                    ..known
                })
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn of_each_project_the_greatest_version_stays_in_whatever_order_it_was_told(
            words in prop::collection::vec((0_u128..4, 1_i64..6), 0..20),
        ) {
            let mut known = References::default();
            for (id, version) in &words {
                known.add_project(told(*id, *version));
            }
            for (id, project) in &known.projects {
                let versions = words.iter().filter(|(word, _)| told(*word, 1).id == *id);
                prop_assert_eq!(versions.map(|(_, version)| *version).max(), Some(project.version));
            }
            prop_assert!(words.iter().all(|(word, _)| known.projects.contains_key(&told(*word, 1).id)));
        }
    }
}
