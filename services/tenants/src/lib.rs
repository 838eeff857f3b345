//! The control plane: which firms use the deployment, how much of it, and which of them are suspended.
//!
//! Operators of the platform alone call it, and they act as the platform's reserved tenant. So the rows of tenants
//! belong to the platform, and their events are the platform's too: `catalyst.<platform>.tenants.tenant_created`,
//! with the firm as the aggregate. Nothing here is under a firm's own id, and no firm hears of another.
//!
//! Emits `TenantCreated`, `TenantSuspended`, `TenantResumed`, `TenantPlanChanged` and `TenantPlaced`, and hears all five
//! itself: its subscriber writes the tenant directory, from which every service learns whom to refuse, how much to let
//! each tenant do, and which cell its rows are in. What that lacks is written from the rows.

mod directory;
mod error;
mod events;
mod grpc;
mod operations;
pub mod permissions;
mod refill;
mod store;
pub mod tenant;

use std::sync::Arc;

use kit::aggregate::Aggregate;
use kit::events::Stream;
use kit::host::{App, Definition, StartError};
use kit::kit::Kit;
use kit::subscriber::{Subscriber, Subscription};
use proto::tenants::v1::tenant_service_server::TenantServiceServer;

pub use crate::store::{Firm, firms};

/// The durable that feeds the tenant directory.
const DURABLE: &str = "tenants";

/// What is known of this service without running it.
pub const DEFINITION: Definition = Definition {
    name: "tenants",
    schema: "tenants",
    migrations: &[
        (100, "tenant", include_str!("../migrations/0100_tenant.sql")),
        (101, "plan", include_str!("../migrations/0101_plan.sql")),
        (
            102,
            "placement",
            include_str!("../migrations/0102_placement.sql"),
        ),
    ],
    grpc_services: &["catalyst.tenants.v1.TenantService"],
    permissions: permissions::TABLE,
    subscriptions: &[Subscription {
        durable: DURABLE,
        stream: Stream::Domain,
        types: &[
            "catalyst.tenants.v1.TenantCreated",
            "catalyst.tenants.v1.TenantSuspended",
            "catalyst.tenants.v1.TenantResumed",
            "catalyst.tenants.v1.TenantPlanChanged",
            "catalyst.tenants.v1.TenantPlaced",
        ],
    }],
    exempt_roles: &[],
    exemptions: &[],
    aggregates: &[Aggregate {
        table: "tenant",
        version: "version",
    }],
    copies: &[],
    in_cells: false,
};

/// Wires the service.
pub fn build(kit: Kit) -> Result<App, StartError> {
    let mut app = App::default();
    let directory = Arc::new(directory::Writer::new(kit.bus.clone()));
    app.subscribers
        .push((DURABLE, Arc::clone(&directory) as Arc<dyn Subscriber>));
    kit.tasks.spawn(refill::run(kit.clone(), directory));
    app.routes
        .add_service(TenantServiceServer::new(grpc::Service { kit }));
    Ok(app)
}
