//! Projects on the wire.

use kit::change;
use kit::fields::{Fields, date_text, timestamp};
use kit::once::Repeat;
use proto::projects::v1 as pb;

use crate::events;
use crate::operations::{NewProject, ProjectUpdate};
use crate::project::{Filter, MUTABLE, Profile, Project, ProjectId, ends_before_start};

pub(super) fn read_id(text: &str) -> Result<ProjectId, kit::Error> {
    let mut fields = Fields::new();
    let id = fields.id("project_id", text);
    fields.finish(id)
}

pub(super) fn read_filter(request: &pb::ListProjectsRequest) -> Result<Filter, kit::Error> {
    let mut fields = Fields::new();
    let client_id = fields.optional_id("client_id", &request.client_id);
    let archived = match pb::ProjectState::try_from(request.state) {
        Ok(pb::ProjectState::Unspecified) => None,
        Ok(pb::ProjectState::Active) => Some(false),
        Ok(pb::ProjectState::Archived) => Some(true),
        Err(_) => {
            fields.reject("state", "must be a known state, or none for all");
            None
        }
    };
    fields.finish(Some(Filter {
        client_id,
        archived,
    }))
}

pub(super) fn read_create(
    request: &pb::CreateProjectRequest,
) -> Result<(Repeat, NewProject), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let project = request.project.clone().unwrap_or_default();
    let client_id = fields.id("project.client_id", &project.client_id);
    let profile = read_profile(&mut fields, &project, MUTABLE);
    let new = client_id.map(|client_id| NewProject { client_id, profile });
    Ok((repeat, fields.finish(new)?))
}

pub(super) fn read_update(
    request: &pb::UpdateProjectRequest,
) -> Result<(Repeat, ProjectUpdate), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let project = request.project.clone().unwrap_or_default();
    let id = fields.id("project.id", &project.id);
    let etag = fields.etag(&project.etag);
    let named = fields.mask(request.update_mask.as_ref(), MUTABLE, |name| match name {
        "code" => !project.code.is_empty(),
        "display_name" => !project.display_name.is_empty(),
        "billable" => project.billable,
        "budget_minutes" => project.budget_minutes.is_some(),
        "budget" => project.budget.is_some(),
        "start_date" => !project.start_date.is_empty(),
        "end_date" => !project.end_date.is_empty(),
        _ => false,
    });
    let wished = read_profile(&mut fields, &project, &named);
    let update = id.map(|id| ProjectUpdate {
        id,
        etag,
        named,
        wished,
    });
    Ok((repeat, fields.finish(update)?))
}

pub(super) fn read_archive(
    request: &pb::ArchiveProjectRequest,
) -> Result<(Repeat, ProjectId, Option<i64>), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("project_id", &request.project_id);
    let etag = fields.etag(&request.etag);
    Ok((repeat, fields.finish(id)?, etag))
}

/// Reads the fields of `names`; the others keep an empty value that nobody looks at.
fn read_profile(fields: &mut Fields, project: &pb::Project, names: &[&str]) -> Profile {
    let reads = |name: &str| names.contains(&name);
    let mut profile = Profile {
        code: String::new(),
        display_name: String::new(),
        billable: project.billable,
        budget_minutes: project.budget_minutes,
        budget: None,
        start_date: None,
        end_date: None,
    };
    if reads("code") {
        profile.code = fields
            .code("project.code", &project.code, 64)
            .unwrap_or_default();
    }
    if reads("display_name") {
        profile.display_name = fields
            .text("project.display_name", &project.display_name, 200)
            .unwrap_or_default();
    }
    if reads("budget_minutes") && project.budget_minutes.is_some_and(|minutes| minutes < 0) {
        fields.reject("project.budget_minutes", "must not be negative");
    }
    if reads("budget") {
        profile.budget = fields.optional_money("project.budget", project.budget.as_ref());
    }
    if reads("start_date") {
        profile.start_date = fields.optional_date("project.start_date", &project.start_date);
    }
    if reads("end_date") {
        profile.end_date = fields.optional_date("project.end_date", &project.end_date);
    }
    // Where only one of the two is named, the model holds it against the other one that is stored.
    if ends_before_start(profile.start_date, profile.end_date) {
        fields.reject("project.end_date", "must not be before start_date");
    }
    profile
}

impl From<Project> for pb::Project {
    fn from(project: Project) -> Self {
        let state = events::state(&project);
        Self {
            id: project.id.to_string(),
            client_id: project.client_id.to_string(),
            code: project.profile.code,
            display_name: project.profile.display_name,
            state: state.into(),
            billable: project.profile.billable,
            budget_minutes: project.profile.budget_minutes,
            budget: project.profile.budget.map(Into::into),
            start_date: project
                .profile
                .start_date
                .map(date_text)
                .unwrap_or_default(),
            end_date: project.profile.end_date.map(date_text).unwrap_or_default(),
            etag: change::etag(project.version),
            create_time: Some(timestamp(project.created_at)),
            update_time: Some(timestamp(project.updated_at)),
        }
    }
}

impl From<Project> for pb::ProjectReference {
    fn from(project: Project) -> Self {
        Self {
            id: project.id.to_string(),
            client_id: project.client_id.to_string(),
            state: events::state(&project).into(),
            code: project.profile.code,
            display_name: project.profile.display_name,
            billable: project.profile.billable,
            version: project.version,
        }
    }
}
