//! The calls of a soak: reads and writes of all firms at three services, each of which may be repeated.

use std::error::Error as _;
use std::sync::Arc;

use kit::ctx::Clock;
use prost_types::{FieldMask, Timestamp};
use proto::consultants::v1 as consultants;
use proto::consultants::v1::consultant_service_client::ConsultantServiceClient;
use proto::projects::v1 as projects;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::time_entries::v1 as time_entries;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::load::{Call, Caller, User};
use crate::seed::Entry;

const PAGE: i32 = 50;
/// How often a call is repeated at most.
const REPEATS: usize = 3;

/// A caller who makes calls of every kind, drawn by chance.
pub(super) struct Mixed(pub(super) Caller);

/// A call to make, and where.
pub(super) struct Asked {
    channel: Channel,
    user: Arc<User>,
    what: What,
    /// By which a write that is repeated is done once.
    request_id: String,
}

enum What {
    GetProject(Uuid),
    GetConsultant(Uuid),
    ListProjects,
    ListTimeEntries,
    CreateProject { client: Uuid },
    CreateConsultant,
    CreateTimeEntry(Entry),
    UpdateProject(Uuid),
}

impl Mixed {
    /// The next call: of twenty, fourteen read (ten a row, four a page), four create and two update.
    pub(super) fn next(&mut self) -> Result<Asked, Status> {
        let caller = &mut self.0;
        let user = caller.user()?;
        let firm = &user.firm;
        let project = firm.project(caller.random(firm.projects));
        let what = match caller.random(20) {
            0..8 => What::GetProject(project),
            8..10 => What::GetConsultant(firm.consultant(caller.random(firm.consultants))),
            10..13 => What::ListProjects,
            13 => What::ListTimeEntries,
            14..16 => What::CreateProject {
                client: firm.client(caller.random(firm.clients())),
            },
            16 => What::CreateConsultant,
            17 => firm
                .new_entries(1)
                .next()
                .map_or(What::ListTimeEntries, What::CreateTimeEntry),
            _ => What::UpdateProject(project),
        };
        Ok(Asked {
            channel: caller.channel.clone(),
            user,
            what,
            request_id: Clock::system().new_uuid().to_string(),
        })
    }
}

impl Call for Mixed {
    async fn call(&mut self) -> Result<(), Status> {
        self.next()?.make_or_repeat().await.1
    }
}

impl Asked {
    /// Makes the call, and again on the same channel while it meets the end of an old connection, which a channel may not
    /// have noticed by the next try. How often it was repeated, and what came of it.
    pub(super) async fn make_or_repeat(&self) -> (usize, Result<(), Status>) {
        let mut repeated = 0;
        loop {
            match self.make().await {
                Err(status) if repeated < REPEATS && is_of_the_connection(&status) => repeated += 1,
                outcome => return (repeated, outcome),
            }
        }
    }

    /// What the call is, for people.
    pub(super) fn name(&self) -> &'static str {
        match self.what {
            What::GetProject(_) => "GetProject",
            What::GetConsultant(_) => "GetConsultant",
            What::ListProjects => "ListProjects",
            What::ListTimeEntries => "ListTimeEntries",
            What::CreateProject { .. } => "CreateProject",
            What::CreateConsultant => "CreateConsultant",
            What::CreateTimeEntry(_) => "CreateTimeEntry",
            What::UpdateProject(_) => "UpdateProject",
        }
    }

    async fn make(&self) -> Result<(), Status> {
        match &self.what {
            What::GetProject(id) => self.get_project(*id).await,
            What::GetConsultant(id) => self.get_consultant(*id).await,
            What::ListProjects => self.list_projects().await,
            What::ListTimeEntries => self.list_time_entries().await,
            What::CreateProject { client } => self.create_project(*client).await,
            What::CreateConsultant => self.create_consultant().await,
            What::CreateTimeEntry(entry) => self.create_time_entry(entry).await,
            What::UpdateProject(id) => self.update_project(*id).await,
        }
    }

    async fn get_project(&self, id: Uuid) -> Result<(), Status> {
        let request = self.user.request(projects::GetProjectRequest {
            project_id: id.to_string(),
        });
        let found = self.projects().get_project(request).await?.into_inner();
        let found = found.project.unwrap_or_default();
        is_it(&found.id, id)
    }

    async fn get_consultant(&self, id: Uuid) -> Result<(), Status> {
        let request = self.user.request(consultants::GetConsultantRequest {
            consultant_id: id.to_string(),
        });
        let mut client = self.consultants();
        let found = client.get_consultant(request).await?.into_inner();
        is_it(&found.consultant.unwrap_or_default().id, id)
    }

    async fn list_projects(&self) -> Result<(), Status> {
        let request = self.user.request(projects::ListProjectsRequest {
            page_size: PAGE,
            ..Default::default()
        });
        let page = self.projects().list_projects(request).await?.into_inner();
        is_full(page.projects.len())
    }

    async fn list_time_entries(&self) -> Result<(), Status> {
        let request = self.user.request(time_entries::ListTimeEntriesRequest {
            page_size: PAGE,
            ..Default::default()
        });
        let mut client = self.time_entries();
        let page = client.list_time_entries(request).await?.into_inner();
        is_full(page.time_entries.len())
    }

    async fn create_project(&self, client: Uuid) -> Result<(), Status> {
        let project = projects::Project {
            client_id: client.to_string(),
            code: self.code(),
            display_name: "New".to_owned(),
            billable: true,
            ..Default::default()
        };
        let request = self.user.request(projects::CreateProjectRequest {
            project: Some(project),
            request_id: self.request_id.clone(),
        });
        self.projects().create_project(request).await.map(drop)
    }

    async fn create_consultant(&self) -> Result<(), Status> {
        let consultant = consultants::Consultant {
            code: self.code(),
            display_name: "Kim".to_owned(),
            weekly_capacity_minutes: 2_400,
            ..Default::default()
        };
        let request = self.user.request(consultants::CreateConsultantRequest {
            consultant: Some(consultant),
            request_id: self.request_id.clone(),
        });
        let mut client = self.consultants();
        client.create_consultant(request).await.map(drop)
    }

    async fn create_time_entry(&self, entry: &Entry) -> Result<(), Status> {
        let at = |time: time::OffsetDateTime| {
            Some(Timestamp {
                seconds: time.unix_timestamp(),
                nanos: 0,
            })
        };
        let entry = time_entries::TimeEntry {
            project_id: entry.project.to_string(),
            consultant_id: entry.consultant.to_string(),
            started_at: at(entry.started_at),
            ended_at: at(entry.ended_at),
            time_zone: "UTC".to_owned(),
            ..Default::default()
        };
        let request = self.user.request(time_entries::CreateTimeEntryRequest {
            time_entry: Some(entry),
            request_id: self.request_id.clone(),
        });
        let mut client = self.time_entries();
        client.create_time_entry(request).await.map(drop)
    }

    async fn update_project(&self, id: Uuid) -> Result<(), Status> {
        let project = projects::Project {
            id: id.to_string(),
            display_name: format!("Renamed {}", self.code()),
            ..Default::default()
        };
        let request = self.user.request(projects::UpdateProjectRequest {
            project: Some(project),
            update_mask: Some(FieldMask {
                paths: vec!["display_name".to_owned()],
            }),
            request_id: self.request_id.clone(),
        });
        self.projects().update_project(request).await.map(drop)
    }

    /// One that nothing else has.
    fn code(&self) -> String {
        self.request_id.replace('-', "")
    }

    fn projects(&self) -> ProjectServiceClient<Channel> {
        ProjectServiceClient::new(self.channel.clone())
    }

    fn consultants(&self) -> ConsultantServiceClient<Channel> {
        ConsultantServiceClient::new(self.channel.clone())
    }

    fn time_entries(&self) -> TimeEntryServiceClient<Channel> {
        TimeEntryServiceClient::new(self.channel.clone())
    }
}

/// Whether it was the connection that ended: the service is unavailable, or the client's own transport has cancelled a
/// call that it had not sent, or was told to go away while it sent one. A service's own status has no source.
fn is_of_the_connection(status: &Status) -> bool {
    let mut source = status.source();
    let cancelled = status.code() == Code::Cancelled && source.is_some();
    if status.code() == Code::Unavailable || cancelled {
        return true;
    }
    while let Some(error) = source {
        if error.downcast_ref().is_some_and(h2::Error::is_go_away) {
            return true;
        }
        source = error.source();
    }
    false
}

fn is_it(found: &str, asked: Uuid) -> Result<(), Status> {
    if found == asked.to_string() {
        Ok(())
    } else {
        Err(Status::data_loss("the answer holds something else"))
    }
}

fn is_full(rows: usize) -> Result<(), Status> {
    if i32::try_from(rows) == Ok(PAGE) {
        Ok(())
    } else {
        Err(Status::data_loss("the answer is no full page"))
    }
}
