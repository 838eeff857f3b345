//! A firm: a tenant of its own for one test, and the verbs of its people.

use std::ops::Deref;

use kit::TenantId;
use kit::ctx::Clock;
use proto::consultants::v1 as consultants;
use proto::projects::v1 as projects;
use proto::tenants::v1 as tenants;
use proto::time_entries::v1 as time_entries;
use tonic::Code;
use tonic::transport::Channel;

use crate::{Caller, eventually};

/// A tenant, used as its admin.
#[derive(Clone, Debug)]
pub struct Firm {
    /// The tenant.
    pub id: TenantId,
    admin: Caller,
}

impl Deref for Firm {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.admin
    }
}

/// A code that no other test uses.
fn unique(prefix: &str) -> String {
    let id = Clock::system().new_uuid().simple().to_string();
    format!("{prefix}-{}", id.get(20..).unwrap_or(&id))
}

fn request_id() -> String {
    Clock::system().new_uuid().to_string()
}

impl Firm {
    /// Creates a tenant and waits until the services know it.
    pub async fn new(name: &str) -> Self {
        Self::over(Caller::operator().channel(), name).await
    }

    /// As [`Firm::new`], at the services that answer on `channel`.
    pub async fn over(channel: Channel, name: &str) -> Self {
        Self::placed(channel, name, "").await
    }

    /// As [`Firm::over`], with its rows in a cell.
    pub async fn placed(channel: Channel, name: &str, cell: &str) -> Self {
        let tenant = tenants::Tenant {
            slug: unique(&name.to_lowercase()),
            display_name: name.to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            currency_code: "EUR".to_owned(),
            cell: cell.to_owned(),
            ..Default::default()
        };
        let request = tenants::CreateTenantRequest {
            tenant: Some(tenant),
            request_id: request_id(),
        };
        let created = Caller::operator()
            .over(channel.clone())
            .tenants()
            .create_tenant(request)
            .await
            .expect("the tenant is created");
        let id = created.into_inner().tenant.expect("the tenant").id;
        let id = TenantId::parse_strict(&id).expect("a tenant id");
        let firm = Self {
            id,
            admin: Caller::user(id, "admin", &["admin"]).over(channel),
        };
        firm.is_let_in().await;
        firm
    }

    /// The same firm, at the services that answer on `channel`.
    #[must_use]
    pub fn at(&self, channel: Channel) -> Self {
        Self {
            id: self.id,
            admin: self.admin.clone().over(channel),
        }
    }

    /// Waits until every service lets the firm in.
    pub async fn is_let_in(&self) {
        eventually("the services know the tenant", async || {
            let consultants = self
                .consultants()
                .list_consultants(consultants::ListConsultantsRequest::default())
                .await;
            let projects = self
                .projects()
                .list_projects(projects::ListProjectsRequest::default())
                .await;
            let entries = self
                .time_entries()
                .list_time_entries(time_entries::ListTimeEntriesRequest::default())
                .await;
            let audit = self
                .audit()
                .list_alerts(proto::audit::v1::ListAlertsRequest::default())
                .await;
            let codes = [
                consultants.err(),
                projects.err(),
                entries.err(),
                audit.err(),
            ];
            let refused = codes
                .iter()
                .flatten()
                .any(|status| status.code() == Code::PermissionDenied);
            (!refused).then_some(())
        })
        .await;
    }

    /// Someone of this firm with other roles.
    pub fn user(&self, subject: &str, roles: &[&str]) -> Caller {
        Caller::user(self.id, subject, roles)
    }

    /// Creates a consultant; the code is made unique.
    pub async fn hires(&self, name: &str) -> consultants::Consultant {
        self.hires_subject(name, "").await
    }

    /// Creates a consultant whose tokens carry `subject`.
    pub async fn hires_subject(&self, name: &str, subject: &str) -> consultants::Consultant {
        let consultant = consultants::Consultant {
            code: unique("c"),
            display_name: name.to_owned(),
            subject: subject.to_owned(),
            weekly_capacity_minutes: 2_400,
            ..Default::default()
        };
        let request = consultants::CreateConsultantRequest {
            consultant: Some(consultant),
            request_id: request_id(),
        };
        let created = self
            .consultants()
            .create_consultant(request)
            .await
            .expect("the consultant is created");
        created.into_inner().consultant.expect("the consultant")
    }

    /// Creates a client; the code is made unique.
    pub async fn wins_client(&self, name: &str) -> projects::Client {
        let client = projects::Client {
            code: unique("k"),
            display_name: name.to_owned(),
            ..Default::default()
        };
        let request = projects::CreateClientRequest {
            client: Some(client),
            request_id: request_id(),
        };
        let created = self
            .projects()
            .create_client(request)
            .await
            .expect("the client is created");
        created.into_inner().client.expect("the client")
    }

    /// Creates a project for a new client; the code is made unique.
    pub async fn creates_project(&self, name: &str) -> projects::Project {
        let client = self.wins_client(&format!("client of {name}")).await;
        let project = projects::Project {
            client_id: client.id,
            code: unique("p"),
            display_name: name.to_owned(),
            billable: true,
            ..Default::default()
        };
        let request = projects::CreateProjectRequest {
            project: Some(project),
            request_id: request_id(),
        };
        let created = self
            .projects()
            .create_project(request)
            .await
            .expect("the project is created");
        created.into_inner().project.expect("the project")
    }

    /// Assigns a consultant to a project for the year 2030.
    pub async fn assigns(&self, project: &str, consultant: &str) -> projects::Assignment {
        let assignment = projects::Assignment {
            project_id: project.to_owned(),
            consultant_id: consultant.to_owned(),
            role: "engineer".to_owned(),
            allocation_percent: 100,
            start_date: "2030-01-01".to_owned(),
            end_date: "2030-12-31".to_owned(),
            ..Default::default()
        };
        let request = projects::AssignConsultantRequest {
            assignment: Some(assignment),
            request_id: request_id(),
        };
        let created = self
            .projects()
            .assign_consultant(request)
            .await
            .expect("the consultant is assigned");
        created.into_inner().assignment.expect("the assignment")
    }

    /// A time entry of an hour that begins at `hour` o'clock UTC on 2 March 2026, not yet created.
    pub fn hour_on(&self, project: &str, consultant: &str, hour: i64) -> time_entries::TimeEntry {
        // 2026-03-02T00:00:00Z
        let start = 1_772_409_600 + hour * 3_600;
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        time_entries::TimeEntry {
            project_id: project.to_owned(),
            consultant_id: consultant.to_owned(),
            started_at: at(start),
            ended_at: at(start + 3_600),
            time_zone: "Europe/Berlin".to_owned(),
            ..Default::default()
        }
    }

    /// Creates the time entry of [`Firm::hour_on`].
    pub async fn logs_hour(
        &self,
        project: &str,
        consultant: &str,
        hour: i64,
    ) -> time_entries::TimeEntry {
        let entry = self.hour_on(project, consultant, hour);
        let request = time_entries::CreateTimeEntryRequest {
            time_entry: Some(entry),
            request_id: request_id(),
        };
        let created = self
            .time_entries()
            .create_time_entry(request)
            .await
            .expect("the time entry is created");
        created.into_inner().time_entry.expect("the time entry")
    }

    /// Assigns and unassigns a consultant, and records an hour at six and deletes it: what is deleted stays known.
    pub async fn deletes_some(&self, project: &str, consultant: &str) {
        let request = projects::UnassignConsultantRequest {
            assignment_id: self.assigns(project, consultant).await.id,
            ..Default::default()
        };
        let unassigned = self.projects().unassign_consultant(request).await;
        unassigned.expect("the assignment is removed");
        let request = time_entries::DeleteTimeEntryRequest {
            time_entry_id: self.logs_hour(project, consultant, 6).await.id,
            ..Default::default()
        };
        let deleted = self.time_entries().delete_time_entry(request).await;
        deleted.expect("the time entry is deleted");
    }
}
