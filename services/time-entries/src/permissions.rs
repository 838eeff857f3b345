//! Who may do what with time entries. To the role `consultant` only the own ones exist.

use kit::permission::Role::{Admin, Auditor, Consultant, Manager, Viewer};
use kit::permission::{Permission, Rpc};

/// Record time.
pub const CREATE: Permission = Permission::roles(
    "time_entries.create_time_entry",
    &[Admin, Manager, Consultant],
);
/// Read one entry.
pub const GET: Permission = Permission::roles(
    "time_entries.get_time_entry",
    &[Admin, Manager, Consultant, Viewer, Auditor],
);
/// List entries.
pub const LIST: Permission = Permission::roles(
    "time_entries.list_time_entries",
    &[Admin, Manager, Consultant, Viewer, Auditor],
);
/// Change an entry.
pub const UPDATE: Permission = Permission::roles(
    "time_entries.update_time_entry",
    &[Admin, Manager, Consultant],
);
/// Remove an entry.
pub const DELETE: Permission = Permission::roles(
    "time_entries.delete_time_entry",
    &[Admin, Manager, Consultant],
);
/// Record many entries, of everyone and beyond the rules of single ones: not for the role `consultant`.
pub const IMPORT: Permission =
    Permission::roles("time_entries.import_time_entries", &[Admin, Manager]);
/// Add entries up.
pub const SUMMARIZE: Permission = Permission::roles(
    "time_entries.summarize_time_entries",
    &[Admin, Manager, Consultant, Viewer, Auditor],
);

/// The permission of each RPC.
pub const TABLE: &[Rpc] = &[
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/CreateTimeEntry",
        CREATE,
    ),
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/GetTimeEntry",
        GET,
    ),
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/ListTimeEntries",
        LIST,
    ),
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/UpdateTimeEntry",
        UPDATE,
    ),
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/DeleteTimeEntry",
        DELETE,
    ),
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/ImportTimeEntries",
        IMPORT,
    ),
    Rpc::new(
        "catalyst.time_entries.v1.TimeEntryService/SummarizeTimeEntries",
        SUMMARIZE,
    ),
];
