//! `catalyst projects assign`, `unassign` and `assignments`: who is planned on which project.

use clap::Subcommand;
use proto::projects::v1 as pb;

use super::arguments::{Current, Repeatable, day};
use super::connection::Client;
use super::error::{Usage, answer, present};
use super::output::{Output, Shown, note};
use super::paging::{Limit, Listed};
use super::{consultants, pages, projects};

/// What can be done with assignments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plan a consultant on a project for some days.
    Assign {
        /// The project, by code or id.
        project: String,
        /// The consultant, by code or id.
        consultant: String,
        /// What the consultant does there.
        #[arg(long = "as", value_name = "ROLE", default_value = "")]
        position: String,
        /// Share of the weekly capacity.
        #[arg(long, value_name = "PERCENT", default_value_t = 100)]
        allocation: i32,
        /// The first day.
        #[arg(long, value_name = "DAY", value_parser = day)]
        from: String,
        /// The last day [default: open].
        #[arg(long, value_name = "DAY", value_parser = day)]
        until: Option<String>,
        #[command(flatten)]
        repeatable: Repeatable,
    },
    /// Remove an assignment. Recorded time stays.
    Unassign {
        /// The id of the assignment.
        assignment: String,
        #[command(flatten)]
        current: Current,
    },
    /// List the assignments of a project, of a consultant, or of one to the other.
    Assignments {
        /// The project, by code or id.
        #[arg(long)]
        project: Option<String>,
        /// The consultant, by code or id.
        #[arg(long)]
        consultant: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

impl Shown for pb::Assignment {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "project",
        "consultant",
        "as",
        "percent",
        "from",
        "until",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.project_id.clone(),
            self.consultant_id.clone(),
            self.role.clone(),
            self.allocation_percent.to_string(),
            self.start_date.clone(),
            self.end_date.clone(),
        ]
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &Client, out: &Output) -> anyhow::Result<()> {
        let mut service = client.projects();
        match self {
            Self::Assign {
                project,
                consultant,
                position,
                allocation,
                from,
                until,
                repeatable,
            } => {
                let assignment = pb::Assignment {
                    project_id: projects::id_of(client, &project).await?,
                    consultant_id: consultants::id_of(client, &consultant).await?,
                    role: position,
                    allocation_percent: allocation,
                    start_date: from,
                    end_date: until.unwrap_or_default(),
                    ..Default::default()
                };
                let request = pb::AssignConsultantRequest {
                    assignment: Some(assignment),
                    request_id: repeatable.id(),
                };
                let assigned = answer(service.assign_consultant(request).await)?;
                out.one(&present(assigned.assignment)?)
            }
            Self::Unassign {
                assignment,
                current,
            } => {
                let request = pb::UnassignConsultantRequest {
                    assignment_id: assignment,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                answer(service.unassign_consultant(request).await)?;
                note("the assignment is removed");
                Ok(())
            }
            Self::Assignments {
                project,
                consultant,
                limit,
            } => {
                if project.is_none() && consultant.is_none() {
                    return Err(Usage::new("name a --project, a --consultant, or both").into());
                }
                let project_id = match project {
                    Some(project) => projects::id_of(client, &project).await?,
                    None => String::new(),
                };
                let consultant_id = match consultant {
                    Some(consultant) => consultants::id_of(client, &consultant).await?,
                    None => String::new(),
                };
                let listed = list(client, limit.count(), &project_id, &consultant_id).await?;
                out.list(&listed.told())
            }
        }
    }
}

pub(crate) async fn list(
    client: &Client,
    limit: usize,
    project_id: &str,
    consultant_id: &str,
) -> anyhow::Result<Listed<pb::Assignment>> {
    let mut service = client.projects();
    let listed = pages(limit, async |page_size, page_token| {
        let request = pb::ListAssignmentsRequest {
            page_size,
            page_token,
            project_id: project_id.to_owned(),
            consultant_id: consultant_id.to_owned(),
        };
        let page = answer(service.list_assignments(request).await)?;
        Ok((page.assignments, page.next_page_token))
    });
    Ok(listed.await?)
}
