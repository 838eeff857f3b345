//! What one can do with tenants, a verb a file.

mod change_tenant_plan;
mod create_tenant;
mod get_tenant;
mod list_tenants;
mod place_tenant;
mod resume_tenant;
mod suspend_tenant;

pub(crate) use change_tenant_plan::{PlanChange, change_tenant_plan};
pub(crate) use create_tenant::create_tenant;
pub(crate) use get_tenant::get_tenant;
pub(crate) use list_tenants::list_tenants;
pub(crate) use place_tenant::{Placing, place_tenant};
pub(crate) use resume_tenant::resume_tenant;
pub(crate) use suspend_tenant::{Suspension, suspend_tenant};
