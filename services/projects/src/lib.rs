//! Projects: a firm's clients, their projects, and who is assigned to them.
//!
//! Emits the events of clients, projects and assignments; hears those of consultants, of whom it keeps a reference.

pub mod client;
pub mod project;

pub mod assignment;
pub mod consultant;

mod operations;
mod store;

mod consultant_lookup;
mod on_consultant_changed;

mod events;
pub mod permissions;

mod grpc;

mod error;

use std::sync::Arc;

use kit::aggregate::Aggregate;
use kit::events::Stream;
use kit::host::{App, Definition, StartError};
use kit::kit::Kit;
use kit::subscriber::Subscription;
use proto::projects::v1::project_lookup_service_server::ProjectLookupServiceServer;
use proto::projects::v1::project_service_server::ProjectServiceServer;

use crate::consultant_lookup::ConsultantLookup;
use crate::on_consultant_changed::OnConsultantChanged;

/// The name of its durable consumer.
const DURABLE: &str = "projects";

/// What is known of this service without running it.
pub const DEFINITION: Definition = Definition {
    name: "projects",
    schema: "projects",
    migrations: &[
        (100, "client", include_str!("../migrations/0100_client.sql")),
        (
            101,
            "project",
            include_str!("../migrations/0101_project.sql"),
        ),
        (
            102,
            "consultant",
            include_str!("../migrations/0102_consultant.sql"),
        ),
        (
            103,
            "assignment",
            include_str!("../migrations/0103_assignment.sql"),
        ),
        (
            104,
            "get_project",
            include_str!("../migrations/0104_get_project.sql"),
        ),
        (
            105,
            "assignment_lists",
            include_str!("../migrations/0105_assignment_lists.sql"),
        ),
    ],
    grpc_services: &[
        "catalyst.projects.v1.ProjectService",
        "catalyst.projects.v1.ProjectLookupService",
    ],
    permissions: permissions::TABLE,
    subscriptions: &[Subscription {
        durable: DURABLE,
        stream: Stream::Domain,
        types: &[
            "catalyst.consultants.v1.ConsultantCreated",
            "catalyst.consultants.v1.ConsultantUpdated",
            "catalyst.consultants.v1.ConsultantDeactivated",
        ],
    }],
    exempt_roles: &[],
    exemptions: &[],
    aggregates: &[
        Aggregate {
            table: "client",
            version: "version",
        },
        Aggregate {
            table: "project",
            version: "version",
        },
        Aggregate {
            table: "assignment",
            version: "version",
        },
    ],
    copies: &["consultant"],
    in_cells: true,
};

/// What only this service is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// Where the consultants service answers gRPC: http://HOST:PORT. None: in this process.
    #[arg(long, env = "CATALYST_CONSULTANTS_URL")]
    pub consultants_url: Option<String>,
}

/// Wires the service.
pub fn build(settings: &Settings, kit: Kit) -> Result<App, StartError> {
    let consultants = ConsultantLookup::open(settings.consultants_url.as_deref(), &kit)?;
    let mut app = App::default();
    let projects = kit.caches.of::<project::ProjectKind, _>();
    let service = grpc::Service {
        kit,
        consultants,
        projects,
    };
    app.routes
        .add_service(ProjectServiceServer::new(service.clone()))
        .add_service(ProjectLookupServiceServer::new(service));
    app.subscribers
        .push((DURABLE, Arc::new(OnConsultantChanged)));
    Ok(app)
}
