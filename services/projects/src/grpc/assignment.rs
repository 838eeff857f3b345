//! Assignments on the wire.

use kit::change;
use kit::fields::{Fields, date_text, timestamp};
use kit::once::Repeat;
use proto::projects::v1 as pb;

use crate::assignment::{Assignment, AssignmentId, Filter, Plan};
use crate::project::ends_before_start;

pub(super) fn read_filter(request: &pb::ListAssignmentsRequest) -> Result<Filter, kit::Error> {
    let mut fields = Fields::new();
    if request.project_id.is_empty() && request.consultant_id.is_empty() {
        fields.reject("project_id", "is required unless consultant_id is set");
    }
    let project_id = fields.optional_id("project_id", &request.project_id);
    let consultant_id = fields.optional_id("consultant_id", &request.consultant_id);
    let filter = match (project_id, consultant_id) {
        (Some(project_id), Some(consultant_id)) => Some(Filter::Both(project_id, consultant_id)),
        (Some(project_id), None) => Some(Filter::Project(project_id)),
        (None, Some(consultant_id)) => Some(Filter::Consultant(consultant_id)),
        (None, None) => None,
    };
    fields.finish(filter)
}

pub(super) fn read_assign(
    request: &pb::AssignConsultantRequest,
) -> Result<(Repeat, Plan), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let assignment = request.assignment.clone().unwrap_or_default();
    let plan = read_plan(&mut fields, &assignment);
    Ok((repeat, fields.finish(plan)?))
}

pub(super) fn read_unassign(
    request: &pb::UnassignConsultantRequest,
) -> Result<(Repeat, AssignmentId, Option<i64>), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("assignment_id", &request.assignment_id);
    let etag = fields.etag(&request.etag);
    Ok((repeat, fields.finish(id)?, etag))
}

fn read_plan(fields: &mut Fields, assignment: &pb::Assignment) -> Option<Plan> {
    let project_id = fields.id("assignment.project_id", &assignment.project_id);
    let consultant_id = fields.id("assignment.consultant_id", &assignment.consultant_id);
    let role = fields.optional_text("assignment.role", &assignment.role, 200);
    if !(1..=100).contains(&assignment.allocation_percent) {
        fields.reject("assignment.allocation_percent", "is required: 1 to 100");
    }
    if assignment.start_date.is_empty() {
        fields.reject("assignment.start_date", "is required: a date as YYYY-MM-DD");
    }
    let start_date = fields.optional_date("assignment.start_date", &assignment.start_date);
    let end_date = fields.optional_date("assignment.end_date", &assignment.end_date);
    if ends_before_start(start_date, end_date) {
        fields.reject("assignment.end_date", "must not be before start_date");
    }
    Some(Plan {
        project_id: project_id?,
        consultant_id: consultant_id?,
        role: role?,
        allocation_percent: assignment.allocation_percent,
        start_date: start_date?,
        end_date,
    })
}

impl From<Assignment> for pb::Assignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            id: assignment.id.to_string(),
            project_id: assignment.plan.project_id.to_string(),
            consultant_id: assignment.plan.consultant_id.to_string(),
            role: assignment.plan.role,
            allocation_percent: assignment.plan.allocation_percent,
            start_date: date_text(assignment.plan.start_date),
            end_date: assignment.plan.end_date.map(date_text).unwrap_or_default(),
            etag: change::etag(assignment.version),
            create_time: Some(timestamp(assignment.created_at)),
            update_time: Some(timestamp(assignment.updated_at)),
        }
    }
}
