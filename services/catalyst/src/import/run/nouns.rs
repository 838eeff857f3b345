//! Makes the clients, projects, consultants and assignments of a file that the tenant does not have yet.
//!
//! What is there is listed first, and every create has a request id that follows from what it creates, so neither a
//! repeat nor a second import at the same time makes anything twice.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::consultants::v1 as consultants_pb;
use proto::projects::v1 as pb;
use serde::Serialize;
use time::Date;
use tonic::Code;
use uuid::Uuid;

use super::survey::{ProjectKey, Survey, project_codes};
use crate::client::connection::Client;
use crate::client::error::{Refused, present};
use crate::client::{ALL, assignments, clients, consultants, persist, projects};

/// Calls at the same time.
const CALLS: usize = 16;

/// The id of a noun, or why its key cannot be used.
type Found = Result<String, String>;

/// The ids of what the rows name.
pub(super) struct Nouns {
    projects: HashMap<ProjectKey, Found>,
    consultants: HashMap<String, Found>,
    /// How many of each were created.
    pub(super) made: Made,
}

/// How many nouns an import created.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Made {
    pub(super) clients: usize,
    pub(super) projects: usize,
    pub(super) consultants: usize,
    pub(super) assignments: usize,
}

impl Nouns {
    /// None for a key that the first reading did not meet: the file has changed since.
    pub(super) fn project(&self, client: &str, project: &str) -> Option<&Found> {
        self.projects.get(&(client.to_owned(), project.to_owned()))
    }

    /// None for a key that the first reading did not meet: the file has changed since.
    pub(super) fn consultant(&self, consultant: &str) -> Option<&Found> {
        self.consultants.get(consultant)
    }
}

/// Makes what is missing.
pub(super) async fn ensure(client: &Client, survey: &Survey) -> anyhow::Result<Nouns> {
    let mut made = Made::default();
    let (clients, consultants) = tokio::try_join!(
        ensure_clients(client, survey),
        ensure_consultants(client, survey)
    )?;
    made.clients = clients.1;
    made.consultants = consultants.1;
    let (projects, made_projects) = ensure_projects(client, survey, &clients.0).await?;
    made.projects = made_projects;
    let mut nouns = Nouns {
        projects,
        consultants: consultants.0,
        made,
    };
    nouns.made.assignments = ensure_assignments(client, survey, &nouns).await?;
    Ok(nouns)
}

async fn ensure_clients(
    client: &Client,
    survey: &Survey,
) -> anyhow::Result<(HashMap<String, Found>, usize)> {
    let service = client.projects();
    let list = async || {
        let listed = clients::list(client, ALL).await?;
        Ok(listed
            .items
            .into_iter()
            .map(|one| (one.code, one.id))
            .collect())
    };
    let create = async |code: &str| {
        let request = pb::CreateClientRequest {
            client: Some(pb::Client {
                code: code.to_owned(),
                display_name: name("Client", code),
                ..Default::default()
            }),
            request_id: request_id(client, "client", code),
        };
        let created = persist(async || service.clone().create_client(request.clone()).await);
        Ok(created.await?.client.unwrap_or_default().id)
    };
    let codes = survey.clients.iter().cloned();
    ensure_codes("client", codes, list().await?, list, create).await
}

async fn ensure_consultants(
    client: &Client,
    survey: &Survey,
) -> anyhow::Result<(HashMap<String, Found>, usize)> {
    let service = client.consultants();
    let list = async || {
        let any = consultants_pb::ConsultantState::Unspecified;
        let listed = consultants::list(client, ALL, any).await?;
        Ok(listed
            .items
            .into_iter()
            .map(|one| (one.code, one.id))
            .collect())
    };
    let create = async |code: &str| {
        let request = consultants_pb::CreateConsultantRequest {
            consultant: Some(consultants_pb::Consultant {
                code: code.to_owned(),
                display_name: name("Consultant", code),
                ..Default::default()
            }),
            request_id: request_id(client, "consultant", code),
        };
        let created = persist(async || service.clone().create_consultant(request.clone()).await);
        Ok(created.await?.consultant.unwrap_or_default().id)
    };
    let codes = survey.consultants.iter().cloned();
    ensure_codes("consultant", codes, list().await?, list, create).await
}

async fn ensure_projects(
    client: &Client,
    survey: &Survey,
    clients: &HashMap<String, Found>,
) -> anyhow::Result<(HashMap<ProjectKey, Found>, usize)> {
    let service = client.projects();
    let list = async || {
        let any = pb::ProjectState::Unspecified;
        Ok::<_, anyhow::Error>(projects::list(client, ALL, "", any).await?.items)
    };
    let existing = list().await?;
    let keys_of_ids: HashMap<&String, &String> = clients
        .iter()
        .filter_map(|(key, id)| Some((id.as_ref().ok()?, key)))
        .collect();
    let owners: BTreeMap<String, String> = existing
        .iter()
        .map(|one| {
            // A client that the file does not name can be nobody's here.
            let key = keys_of_ids
                .get(&one.client_id)
                .map_or_else(String::new, |key| (*key).clone());
            (one.code.clone(), key)
        })
        .collect();
    let codes = project_codes(&survey.projects, &owners);

    let mut refused = HashMap::new();
    let mut wanted: HashMap<String, (&ProjectKey, &String)> = HashMap::new();
    for (key, code) in &codes {
        match (code, clients.get(&key.0)) {
            (Ok(code), Some(Ok(client_id))) => {
                wanted.insert(code.clone(), (key, client_id));
            }
            (Err(why), _) | (_, Some(Err(why))) => {
                refused.insert(key.clone(), Err(why.clone()));
            }
            (_, None) => anyhow::bail!("the client {} was not looked for", key.0),
        }
    }
    let create = async |code: &str| {
        let (key, client_id) = wanted.get(code).copied().unzip();
        let request = pb::CreateProjectRequest {
            project: Some(pb::Project {
                client_id: client_id.cloned().unwrap_or_default(),
                code: code.to_owned(),
                display_name: name("Project", key.map_or(code, |key| &key.1)),
                billable: true,
                ..Default::default()
            }),
            request_id: request_id(client, "project", code),
        };
        let created = persist(async || service.clone().create_project(request.clone()).await);
        Ok(created.await?.project.unwrap_or_default().id)
    };
    let known = existing.into_iter().map(|one| (one.code, one.id)).collect();
    let relist = async || {
        let listed = list().await?.into_iter();
        // Made by someone else since the first list, and maybe for another client.
        let ours = listed.filter(|one| {
            let wanted = wanted.get(&one.code);
            wanted.is_some_and(|(_, client_id)| **client_id == one.client_id)
        });
        Ok(ours.map(|one| (one.code, one.id)).collect())
    };
    let codes = wanted.keys().cloned();
    let (found, made) = ensure_codes("project", codes, known, relist, create).await?;
    let mut projects = refused;
    for (code, id) in found {
        if let Some((key, _)) = wanted.get(&code) {
            projects.insert((*key).clone(), id);
        }
    }
    Ok((projects, made))
}

/// The ids of codes: those that are known, else created, else made by someone else in between.
async fn ensure_codes(
    kind: &str,
    codes: impl Iterator<Item = String>,
    known: HashMap<String, String>,
    relist: impl AsyncFn() -> anyhow::Result<HashMap<String, String>>,
    create: impl AsyncFn(&str) -> Result<String, Refused>,
) -> anyhow::Result<(HashMap<String, Found>, usize)> {
    let (there, missing): (Vec<_>, Vec<_>) = codes.partition(|code| known.contains_key(code));
    let mut found: HashMap<String, Found> = there
        .into_iter()
        .filter_map(|code| Some((code.clone(), Ok(known.get(&code)?.clone()))))
        .collect();
    let create = &create;
    let mut created = stream::iter(missing)
        .map(|code| async move { (create(&code).await, code) })
        .buffer_unordered(CALLS);
    let (mut made, mut raced) = (0, Vec::new());
    while let Some((created, code)) = created.next().await {
        match created {
            Ok(id) => {
                made += 1;
                found.insert(code, Ok(id));
            }
            Err(refused) => match refused.status().code() {
                Code::AlreadyExists => raced.push(code),
                Code::FailedPrecondition if refused.reason() == "REQUEST_ID_REUSED" => {
                    raced.push(code);
                }
                Code::InvalidArgument => {
                    let why = format!("the {kind} \"{code}\" cannot be created: {refused}");
                    found.insert(code, Err(why.replace('\n', " ")));
                }
                _ => return Err(refused).context(format!("cannot create the {kind} {code}")),
            },
        }
    }
    if !raced.is_empty() {
        let known = relist().await?;
        for code in raced {
            let id = known.get(&code).cloned();
            found.insert(
                code.clone(),
                id.ok_or_else(|| {
                    format!("the {kind} code \"{code}\" was taken meanwhile: repeat the import")
                }),
            );
        }
    }
    Ok((found, made))
}

/// Assigns who worked on what, where nothing is planned for those days yet. Gives how many assignments were made.
async fn ensure_assignments(
    client: &Client,
    survey: &Survey,
    nouns: &Nouns,
) -> anyhow::Result<usize> {
    let ids = |project: &ProjectKey, consultant: &str| {
        let project = nouns.projects.get(project)?.as_ref().ok()?;
        let consultant = nouns.consultants.get(consultant)?.as_ref().ok()?;
        Some((project.clone(), consultant.clone()))
    };
    let project_ids: Vec<&String> = nouns.projects.values().flatten().collect();
    let mut planned: HashMap<(String, String), Vec<pb::Assignment>> = HashMap::new();
    let mut listed = stream::iter(project_ids)
        .map(|id| assignments::list(client, ALL, id, ""))
        .buffer_unordered(CALLS);
    while let Some(page) = listed.try_next().await? {
        for one in page.items {
            let pair = (one.project_id.clone(), one.consultant_id.clone());
            planned.entry(pair).or_default().push(one);
        }
    }
    let missing = survey
        .assignments
        .iter()
        .filter_map(|((project, consultant), days)| {
            let pair = ids(project, consultant)?;
            let is_planned = planned
                .get(&pair)
                .is_some_and(|planned| planned.iter().any(|one| overlaps(one, *days)));
            (!is_planned).then_some((pair, *days))
        });
    let results: Vec<bool> = stream::iter(missing)
        .map(|(pair, days)| assign(client, pair, days))
        .buffer_unordered(CALLS)
        .try_collect()
        .await?;
    Ok(results.into_iter().filter(|is_made| *is_made).count())
}

/// False when the assignment is there meanwhile, or when project or consultant take none: their rows will say why.
async fn assign(
    client: &Client,
    (project_id, consultant_id): (String, String),
    (first, last): (Date, Date),
) -> anyhow::Result<bool> {
    let service = client.projects();
    let code = format!("{project_id}/{consultant_id}/{first}/{last}");
    let request = pb::AssignConsultantRequest {
        assignment: Some(pb::Assignment {
            project_id,
            consultant_id,
            allocation_percent: 100,
            start_date: first.to_string(),
            end_date: last.to_string(),
            ..Default::default()
        }),
        request_id: request_id(client, "assignment", &code),
    };
    match persist(async || service.clone().assign_consultant(request.clone()).await).await {
        Ok(assigned) => present(assigned.assignment).map(|_| true),
        Err(refused) => match refused.status().code() {
            Code::AlreadyExists | Code::FailedPrecondition => Ok(false),
            _ => Err(refused).context("cannot assign a consultant to a project"),
        },
    }
}

/// Whether an assignment covers any of the days. Days are written so that their text sorts as they do.
fn overlaps(assignment: &pb::Assignment, (first, last): (Date, Date)) -> bool {
    let ends_before = !assignment.end_date.is_empty() && assignment.end_date < first.to_string();
    !ends_before && assignment.start_date <= last.to_string()
}

/// The same for the same thing in the same tenant, whoever imports it.
fn request_id(client: &Client, kind: &str, code: &str) -> String {
    let what = format!("catalyst-import/{kind}/{code}");
    Uuid::new_v5(&client.tenant.uuid(), what.as_bytes()).to_string()
}

/// A name for people: `Client 12`, but `Acme` where the key is a name itself.
fn name(kind: &str, code: &str) -> String {
    if code.chars().any(char::is_alphabetic) {
        code.to_owned()
    } else {
        format!("{kind} {code}")
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_number_gets_its_kind_before_it_and_a_name_stays() {
        assert_eq!(name("Client", "12"), "Client 12");
        assert_eq!(name("Client", "Acme 12"), "Acme 12");
    }

    #[test]
    fn an_assignment_covers_days_up_to_its_last_or_for_ever() {
        let days = (date!(2024 - 07 - 10), date!(2024 - 07 - 20));
        for (start, end, covers) in [
            ("2024-07-01", "2024-07-09", false),
            ("2024-07-01", "2024-07-10", true),
            ("2024-07-01", "", true),
            ("2024-07-20", "2024-08-01", true),
            ("2024-07-21", "", false),
        ] {
            let assignment = pb::Assignment {
                start_date: start.to_owned(),
                end_date: end.to_owned(),
                ..Default::default()
            };
            assert_eq!(overlaps(&assignment, days), covers, "{start} {end}");
        }
    }
}
