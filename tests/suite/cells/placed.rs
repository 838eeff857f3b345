//! Firms in cells, and what they call.

use harness::{Firm, eventually};
use proto::common::v1::ErrorReason;
use proto::projects::v1 as projects;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::CELLS;
use super::ground::Ground;

/// A firm with a project in a cell.
pub(super) struct Placed {
    pub(super) cell: &'static str,
    pub(super) firm: Firm,
    project: String,
}

impl Placed {
    pub(super) async fn in_cell(ground: &Ground, cell: &'static str) -> Self {
        let firm = ground.firm(cell).await;
        // A connection to a cell is opened when it is needed, which a busy machine may do too late once.
        let request = new_client();
        let client = eventually("the firm has a client", async || {
            let created = firm.projects().create_client(request.clone()).await.ok()?;
            created.into_inner().client
        })
        .await;
        let project = projects::Project {
            client_id: client.id,
            code: unique_code(),
            display_name: "first".to_owned(),
            ..Default::default()
        };
        let request = projects::CreateProjectRequest {
            project: Some(project),
            request_id: kit::ctx::Clock::system().new_uuid().to_string(),
        };
        let project = eventually("the firm has a project", async || {
            let created = firm.projects().create_project(request.clone()).await.ok()?;
            created.into_inner().project
        })
        .await;
        Self {
            cell,
            firm,
            project: project.id,
        }
    }

    /// The same firm, which calls another process.
    pub(super) fn over(&self, channel: Channel) -> Self {
        Self {
            cell: self.cell,
            firm: self.firm.at(channel),
            project: self.project.clone(),
        }
    }

    /// Reads its project.
    pub(super) async fn reads(&self) -> Result<(), Status> {
        let request = projects::GetProjectRequest {
            project_id: self.project.clone(),
        };
        let read = self.firm.projects().get_project(request).await;
        read.map(drop)
    }

    /// Creates a client.
    pub(super) async fn writes(&self) -> Result<(), Status> {
        let created = self.firm.projects().create_client(new_client()).await;
        created.map(drop)
    }

    pub(super) async fn is_served(&self) {
        eventually("the firm is served", async || {
            (self.reads().await.is_ok() && self.writes().await.is_ok()).then_some(())
        })
        .await;
    }

    pub(super) async fn is_unavailable(&self) {
        let refusal = eventually("the firm is not served", async || self.reads().await.err()).await;
        assert_away(&refusal);
    }
}

pub(super) fn new_client() -> projects::CreateClientRequest {
    let client = projects::Client {
        code: unique_code(),
        display_name: "another".to_owned(),
        ..Default::default()
    };
    projects::CreateClientRequest {
        client: Some(client),
        request_id: kit::ctx::Clock::system().new_uuid().to_string(),
    }
}

fn unique_code() -> String {
    let id = kit::ctx::Clock::system().new_uuid().simple().to_string();
    format!("k-{}", &id[20..])
}

pub(super) fn assert_away(refusal: &Status) {
    let reason = refusal.get_details_error_info().expect("a reason").reason;
    let away = ErrorReason::DatabaseUnavailable.as_str_name();
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert!(away.ends_with(&reason), "{reason}");
    assert!(
        !CELLS.iter().any(|cell| refusal.message().contains(cell)),
        "{refusal:?}"
    );
}
