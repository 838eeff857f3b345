//! Who may do what with clients, projects and assignments.

use kit::permission::Role::{self, Admin, Auditor, Consultant, Manager, Viewer};
use kit::permission::{Permission, Rpc};

/// Everyone in the firm reads what there is to work on.
const READERS: &[Role] = &[Admin, Manager, Consultant, Viewer, Auditor];
/// Who plans and staffs.
const WRITERS: &[Role] = &[Admin, Manager];

/// Create a client.
pub const CREATE_CLIENT: Permission = Permission::roles("projects.create_client", WRITERS);
/// Read one client.
pub const GET_CLIENT: Permission = Permission::roles("projects.get_client", READERS);
/// List clients.
pub const LIST_CLIENTS: Permission = Permission::roles("projects.list_clients", READERS);
/// Change a client.
pub const UPDATE_CLIENT: Permission = Permission::roles("projects.update_client", WRITERS);
/// Create a project.
pub const CREATE_PROJECT: Permission = Permission::roles("projects.create_project", WRITERS);
/// Read one project.
pub const GET_PROJECT: Permission = Permission::roles("projects.get_project", READERS);
/// List projects.
pub const LIST_PROJECTS: Permission = Permission::roles("projects.list_projects", READERS);
/// Change a project.
pub const UPDATE_PROJECT: Permission = Permission::roles("projects.update_project", WRITERS);
/// Archive a project.
pub const ARCHIVE_PROJECT: Permission = Permission::roles("projects.archive_project", WRITERS);
/// Assign a consultant to a project.
pub const ASSIGN_CONSULTANT: Permission = Permission::roles("projects.assign_consultant", WRITERS);
/// Remove an assignment.
pub const UNASSIGN_CONSULTANT: Permission =
    Permission::roles("projects.unassign_consultant", WRITERS);
/// List assignments.
pub const LIST_ASSIGNMENTS: Permission = Permission::roles("projects.list_assignments", READERS);
/// Look a project up for another service.
pub const LOOKUP_PROJECT: Permission =
    Permission::services("projects.lookup_project", &["time-entries"]);

/// The permission of each RPC.
pub const TABLE: &[Rpc] = &[
    Rpc::new(
        "catalyst.projects.v1.ProjectService/CreateClient",
        CREATE_CLIENT,
    ),
    Rpc::new("catalyst.projects.v1.ProjectService/GetClient", GET_CLIENT),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/ListClients",
        LIST_CLIENTS,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/UpdateClient",
        UPDATE_CLIENT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/CreateProject",
        CREATE_PROJECT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/GetProject",
        GET_PROJECT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/ListProjects",
        LIST_PROJECTS,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/UpdateProject",
        UPDATE_PROJECT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/ArchiveProject",
        ARCHIVE_PROJECT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/AssignConsultant",
        ASSIGN_CONSULTANT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/UnassignConsultant",
        UNASSIGN_CONSULTANT,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectService/ListAssignments",
        LIST_ASSIGNMENTS,
    ),
    Rpc::new(
        "catalyst.projects.v1.ProjectLookupService/LookupProject",
        LOOKUP_PROJECT,
    ),
];
