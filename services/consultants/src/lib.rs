//! Consultants: the people whose time is planned and recorded.
//!
//! Emits `ConsultantCreated`, `ConsultantUpdated` and `ConsultantDeactivated`; hears nothing.

pub mod consultant;
mod operations;
mod store;
mod events;
pub mod permissions;
mod grpc;
mod error;

use kit::aggregate::Aggregate;
use kit::host::{App, Definition, StartError};
use kit::kit::Kit;
use proto::consultants::v1::consultant_lookup_service_server::ConsultantLookupServiceServer;
use proto::consultants::v1::consultant_service_server::ConsultantServiceServer;

/// What is known of this service without running it.
pub const DEFINITION: Definition = Definition {
    name: "consultants",
    schema: "consultants",
    migrations: &[
        (
            100,
            "consultant",
            include_str!("../migrations/0100_consultant.sql"),
        ),
        (
            101,
            "get_consultant",
            include_str!("../migrations/0101_get_consultant.sql"),
        ),
    ],
    grpc_services: &[
        "catalyst.consultants.v1.ConsultantService",
        "catalyst.consultants.v1.ConsultantLookupService",
    ],
    permissions: permissions::TABLE,
    subscriptions: &[],
    exempt_roles: &[],
    exemptions: &[],
    aggregates: &[Aggregate {
        table: "consultant",
        version: "version",
    }],
    copies: &[],
    in_cells: true,
};

/// Wires the service.
pub fn build(kit: Kit) -> Result<App, StartError> {
    let mut app = App::default();
    let consultants = kit.caches.of::<consultant::ConsultantKind, _>();
    let service = grpc::Service { kit, consultants };
    app.routes
        .add_service(ConsultantServiceServer::new(service.clone()))
        .add_service(ConsultantLookupServiceServer::new(service));
    Ok(app)
}
