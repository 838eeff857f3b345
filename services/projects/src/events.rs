//! From the model to published events.

use kit::Ctx;
use kit::events::Emitted;
use kit::fields::date_text;
use proto::projects::v1 as pb;

use crate::assignment::Assignment;
use crate::client::Client;
use crate::project::Project;

pub(crate) fn client_created(ctx: &Ctx, client: &Client) -> Emitted {
    let event = pb::ClientCreated {
        client_id: client.id.to_string(),
        code: client.profile.code.clone(),
        display_name: client.profile.display_name.clone(),
    };
    Emitted::new(ctx, client.id.uuid(), client.version, &event)
}

pub(crate) fn client_updated(ctx: &Ctx, client: &Client, changed: &[&str]) -> Emitted {
    let event = pb::ClientUpdated {
        client_id: client.id.to_string(),
        code: client.profile.code.clone(),
        display_name: client.profile.display_name.clone(),
        changed_fields: names(changed),
    };
    Emitted::new(ctx, client.id.uuid(), client.version, &event)
}

pub(crate) fn project_created(ctx: &Ctx, project: &Project) -> Emitted {
    let event = pb::ProjectCreated {
        project_id: project.id.to_string(),
        client_id: project.client_id.to_string(),
        code: project.profile.code.clone(),
        display_name: project.profile.display_name.clone(),
        state: state(project).into(),
        billable: project.profile.billable,
    };
    Emitted::new(ctx, project.id.uuid(), project.version, &event)
}

pub(crate) fn project_updated(ctx: &Ctx, project: &Project, changed: &[&str]) -> Emitted {
    let event = pb::ProjectUpdated {
        project_id: project.id.to_string(),
        client_id: project.client_id.to_string(),
        code: project.profile.code.clone(),
        display_name: project.profile.display_name.clone(),
        state: state(project).into(),
        billable: project.profile.billable,
        changed_fields: names(changed),
    };
    Emitted::new(ctx, project.id.uuid(), project.version, &event)
}

pub(crate) fn project_archived(ctx: &Ctx, project: &Project) -> Emitted {
    let event = pb::ProjectArchived {
        project_id: project.id.to_string(),
        client_id: project.client_id.to_string(),
        code: project.profile.code.clone(),
        display_name: project.profile.display_name.clone(),
        state: state(project).into(),
        billable: project.profile.billable,
    };
    Emitted::new(ctx, project.id.uuid(), project.version, &event)
}

pub(crate) fn consultant_assigned(ctx: &Ctx, assignment: &Assignment) -> Emitted {
    let plan = &assignment.plan;
    let event = pb::ConsultantAssigned {
        assignment_id: assignment.id.to_string(),
        project_id: plan.project_id.to_string(),
        consultant_id: plan.consultant_id.to_string(),
        role: plan.role.clone(),
        allocation_percent: plan.allocation_percent,
        start_date: date_text(plan.start_date),
        end_date: plan.end_date.map(date_text).unwrap_or_default(),
    };
    Emitted::new(ctx, assignment.id.uuid(), assignment.version, &event)
}

pub(crate) fn consultant_unassigned(ctx: &Ctx, removed: &Assignment) -> Emitted {
    let event = pb::ConsultantUnassigned {
        assignment_id: removed.id.to_string(),
        project_id: removed.plan.project_id.to_string(),
        consultant_id: removed.plan.consultant_id.to_string(),
    };
    Emitted::new(ctx, removed.id.uuid(), removed.version, &event)
}

/// The state on the wire.
pub(crate) fn state(project: &Project) -> pb::ProjectState {
    if project.archived {
        pb::ProjectState::Archived
    } else {
        pb::ProjectState::Active
    }
}

fn names(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}
