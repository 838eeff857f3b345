//! Who may do what with consultants.

use kit::permission::Role::{Admin, Auditor, Consultant, Manager, Viewer};
use kit::permission::{Permission, Rpc};

/// Create a consultant.
pub const CREATE: Permission =
    Permission::roles("consultants.create_consultant", &[Admin, Manager]);
/// Read one consultant.
pub const GET: Permission = Permission::roles(
    "consultants.get_consultant",
    &[Admin, Manager, Consultant, Viewer, Auditor],
);
/// List consultants.
pub const LIST: Permission = Permission::roles(
    "consultants.list_consultants",
    &[Admin, Manager, Consultant, Viewer, Auditor],
);
/// Change a consultant.
pub const UPDATE: Permission =
    Permission::roles("consultants.update_consultant", &[Admin, Manager]);
/// Deactivate a consultant.
pub const DEACTIVATE: Permission =
    Permission::roles("consultants.deactivate_consultant", &[Admin, Manager]);
/// Look a consultant up for another service.
pub const LOOKUP: Permission = Permission::services(
    "consultants.lookup_consultant",
    &["projects", "time-entries"],
);

/// The permission of each RPC.
pub const TABLE: &[Rpc] = &[
    Rpc::new(
        "catalyst.consultants.v1.ConsultantService/CreateConsultant",
        CREATE,
    ),
    Rpc::new(
        "catalyst.consultants.v1.ConsultantService/GetConsultant",
        GET,
    ),
    Rpc::new(
        "catalyst.consultants.v1.ConsultantService/ListConsultants",
        LIST,
    ),
    Rpc::new(
        "catalyst.consultants.v1.ConsultantService/UpdateConsultant",
        UPDATE,
    ),
    Rpc::new(
        "catalyst.consultants.v1.ConsultantService/DeactivateConsultant",
        DEACTIVATE,
    ),
    Rpc::new(
        "catalyst.consultants.v1.ConsultantLookupService/LookupConsultant",
        LOOKUP,
    ),
];
