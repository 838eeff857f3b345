//! Who may do what with tenants: operators of the platform, and nobody else.

use kit::permission::{Permission, Rpc};

/// Admit a firm.
pub const CREATE: Permission = Permission::operator("tenants.create_tenant");
/// Read one tenant.
pub const GET: Permission = Permission::operator("tenants.get_tenant");
/// List tenants.
pub const LIST: Permission = Permission::operator("tenants.list_tenants");
/// Shut a firm out.
pub const SUSPEND: Permission = Permission::operator("tenants.suspend_tenant");
/// Let a suspended firm in again.
pub const RESUME: Permission = Permission::operator("tenants.resume_tenant");
/// Give a firm another share of the deployment.
pub const CHANGE_PLAN: Permission = Permission::operator("tenants.change_tenant_plan");

/// Say in which cell a firm's rows are to be.
pub const PLACE: Permission = Permission::operator("tenants.place_tenant");

/// The permission of each RPC.
pub const TABLE: &[Rpc] = &[
    Rpc::new("catalyst.tenants.v1.TenantService/CreateTenant", CREATE),
    Rpc::new("catalyst.tenants.v1.TenantService/GetTenant", GET),
    Rpc::new("catalyst.tenants.v1.TenantService/ListTenants", LIST),
    Rpc::new("catalyst.tenants.v1.TenantService/SuspendTenant", SUSPEND),
    Rpc::new("catalyst.tenants.v1.TenantService/ResumeTenant", RESUME),
    Rpc::new(
        "catalyst.tenants.v1.TenantService/ChangeTenantPlan",
        CHANGE_PLAN,
    ),
    Rpc::new("catalyst.tenants.v1.TenantService/PlaceTenant", PLACE),
];
