//! Time entries: who worked when, on which project.
//!
//! Emits `TimeEntryCreated`, `TimeEntryUpdated` and `TimeEntryDeleted`; hears the events of projects and consultants,
//! of which it keeps references.

pub mod time_entry;
pub mod span;
pub mod change;
pub mod refusal;
pub mod reference;
pub mod summary;
mod import;

mod operations;
mod reach;
mod owners;
mod on_reference_changed;
mod store;
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
use proto::time_entries::v1::time_entry_service_server::TimeEntryServiceServer;

use crate::on_reference_changed::OnReferenceChanged;
use crate::owners::Owners;

/// The name of its durable consumer.
const DURABLE: &str = "time-entries";

/// What is known of this service without running it.
pub const DEFINITION: Definition = Definition {
    name: "time-entries",
    schema: "time_entries",
    migrations: &[
        (
            100,
            "reference",
            include_str!("../migrations/0100_reference.sql"),
        ),
        (
            101,
            "time_entry",
            include_str!("../migrations/0101_time_entry.sql"),
        ),
        (
            102,
            "summary_key",
            include_str!("../migrations/0102_summary_key.sql"),
        ),
    ],
    grpc_services: &["catalyst.time_entries.v1.TimeEntryService"],
    permissions: permissions::TABLE,
    subscriptions: &[Subscription {
        durable: DURABLE,
        stream: Stream::Domain,
        types: on_reference_changed::TYPES,
    }],
    exempt_roles: &[],
    exemptions: &[],
    aggregates: &[Aggregate {
        table: "time_entry",
        version: "version",
    }],
    copies: &["project", "consultant"],
    in_cells: true,
};

/// Where the owners of what an entry names are asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// gRPC address of the consultants service, http://HOST:PORT. None: in this process.
    #[arg(long, env = "CATALYST_CONSULTANTS_URL")]
    pub consultants_url: Option<String>,
    /// gRPC address of the projects service, http://HOST:PORT. None: in this process.
    #[arg(long, env = "CATALYST_PROJECTS_URL")]
    pub projects_url: Option<String>,
}

/// Wires the service.
pub fn build(settings: &Settings, kit: Kit) -> Result<App, StartError> {
    let owners = Owners::open(settings, &kit)?;
    let mut app = App::default();
    app.routes
        .add_service(TimeEntryServiceServer::new(grpc::Service::new(kit, owners)));
    app.subscribers
        .push((DURABLE, Arc::new(OnReferenceChanged)));
    Ok(app)
}
