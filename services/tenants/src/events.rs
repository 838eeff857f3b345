//! From the model to published events.

use kit::Ctx;
use kit::cells::CellName;
use kit::events::Emitted;
use kit::plan::Plan;
use proto::tenants::v1 as pb;

use crate::tenant::Tenant;

pub(crate) fn created(ctx: &Ctx, tenant: &Tenant) -> Emitted {
    let event = pb::TenantCreated {
        tenant_id: tenant.id.to_string(),
        slug: tenant.profile.slug.clone(),
        display_name: tenant.profile.display_name.clone(),
        time_zone: tenant.profile.time_zone.clone(),
        currency_code: tenant.profile.currency.as_str().to_owned(),
        state: state(tenant).into(),
        plan: plan(tenant.plan).into(),
        cell: tenant.placement.cell.to_string(),
        placement_epoch: tenant.placement.epoch,
    };
    Emitted::new(ctx, tenant.id.uuid(), tenant.version, &event)
}

pub(crate) fn suspended(ctx: &Ctx, tenant: &Tenant, reason: &str) -> Emitted {
    let event = pb::TenantSuspended {
        tenant_id: tenant.id.to_string(),
        reason: reason.to_owned(),
        state: state(tenant).into(),
        plan: plan(tenant.plan).into(),
        cell: tenant.placement.cell.to_string(),
        placement_epoch: tenant.placement.epoch,
    };
    Emitted::new(ctx, tenant.id.uuid(), tenant.version, &event)
}

pub(crate) fn resumed(ctx: &Ctx, tenant: &Tenant) -> Emitted {
    let event = pb::TenantResumed {
        tenant_id: tenant.id.to_string(),
        state: state(tenant).into(),
        plan: plan(tenant.plan).into(),
        cell: tenant.placement.cell.to_string(),
        placement_epoch: tenant.placement.epoch,
    };
    Emitted::new(ctx, tenant.id.uuid(), tenant.version, &event)
}

pub(crate) fn plan_changed(ctx: &Ctx, tenant: &Tenant, previous: Plan) -> Emitted {
    let event = pb::TenantPlanChanged {
        tenant_id: tenant.id.to_string(),
        state: state(tenant).into(),
        plan: plan(tenant.plan).into(),
        cell: tenant.placement.cell.to_string(),
        placement_epoch: tenant.placement.epoch,
        previous_plan: plan(previous).into(),
    };
    Emitted::new(ctx, tenant.id.uuid(), tenant.version, &event)
}

pub(crate) fn placed(ctx: &Ctx, tenant: &Tenant, previous: &CellName) -> Emitted {
    let event = pb::TenantPlaced {
        tenant_id: tenant.id.to_string(),
        cell: tenant.placement.cell.to_string(),
        placement_epoch: tenant.placement.epoch,
        previous_cell: previous.to_string(),
        state: state(tenant).into(),
        plan: plan(tenant.plan).into(),
    };
    Emitted::new(ctx, tenant.id.uuid(), tenant.version, &event)
}

/// The plan on the wire.
pub(crate) fn plan(plan: Plan) -> pb::TenantPlan {
    match plan {
        Plan::Small => pb::TenantPlan::Small,
        Plan::Standard => pb::TenantPlan::Standard,
        Plan::Large => pb::TenantPlan::Large,
    }
}

/// The state on the wire.
pub(crate) fn state(tenant: &Tenant) -> pb::TenantState {
    if tenant.active {
        pb::TenantState::Active
    } else {
        pb::TenantState::Suspended
    }
}
