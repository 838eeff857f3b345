//! `catalyst projects`: the work of a firm.

use anyhow::Context as _;
use clap::Subcommand;
use proto::common::v1::Money;
use proto::projects::v1 as pb;

use super::arguments::{Current, Repeatable, amount, is_id, mask, money};
use super::connection::Client;
use super::contract::word;
use super::error::{answer, present};
use super::output::{Output, Shown};
use super::paging::{Limit, Listed};
use super::{ALL, ClientOptions, assignments, clients, pages};

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add one.
    Create {
        /// The client, by code or id.
        #[arg(long)]
        client: String,
        /// The firm's own key of the project.
        #[arg(long)]
        code: String,
        /// The project's name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        more: More,
        #[command(flatten)]
        repeatable: Repeatable,
    },
    /// Show one.
    Get {
        /// Code or id.
        project: String,
    },
    /// List them, oldest first.
    List {
        /// Only those of this client, by code or id.
        #[arg(long)]
        client: Option<String>,
        /// Only those in this state.
        #[arg(long)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change fields; one that is given as "" is cleared.
    Update {
        /// Code or id.
        project: String,
        /// A new code.
        #[arg(long)]
        code: Option<String>,
        /// A new name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        more: More,
        #[command(flatten)]
        current: Current,
    },
    /// Close one, for good.
    Archive {
        /// Code or id.
        project: String,
        #[command(flatten)]
        current: Current,
    },
    #[command(flatten)]
    Assignments(assignments::Command),
}

/// What need not be known of a project.
#[derive(Debug, clap::Args)]
pub(crate) struct More {
    /// Whether its time is billed to the client unless an entry says otherwise.
    #[arg(long)]
    billable: Option<bool>,
    /// How long the work may take.
    #[arg(long, value_name = "MINUTES")]
    budget_minutes: Option<i64>,
    /// What the work may cost the client, in minor units: "1000000 EUR".
    #[arg(long, value_name = "MONEY", value_parser = money)]
    budget: Option<Money>,
    /// The first day of the work.
    #[arg(long, value_name = "DAY")]
    start_date: Option<String>,
    /// The last day of the work.
    #[arg(long, value_name = "DAY")]
    end_date: Option<String>,
}

/// A state of projects.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum State {
    /// Work goes on.
    Active,
    /// Closed.
    Archived,
}

impl Shown for pb::Project {
    const COLUMNS: &'static [&'static str] = &[
        "id", "code", "name", "client", "state", "billable", "budget", "from", "until", "etag",
    ];

    fn cells(&self) -> Vec<String> {
        let minutes = self.budget_minutes.map(|minutes| format!("{minutes} min"));
        let budget = [minutes.unwrap_or_default(), amount(self.budget.as_ref())];
        vec![
            self.id.clone(),
            self.code.clone(),
            self.display_name.clone(),
            self.client_id.clone(),
            word(self.state().as_str_name(), "PROJECT_STATE_"),
            self.billable.to_string(),
            budget.join(" ").trim().to_owned(),
            self.start_date.clone(),
            self.end_date.clone(),
            self.etag.clone(),
        ]
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let connection = client.in_tenant().await?;
        let mut service = connection.projects();
        let project = match self {
            Self::Create {
                client,
                code,
                name,
                more,
                repeatable,
            } => {
                let project = pb::Project {
                    client_id: clients::id_of(&connection, &client).await?,
                    code,
                    display_name: name,
                    ..more.project()
                };
                let request = pb::CreateProjectRequest {
                    project: Some(project),
                    request_id: repeatable.id(),
                };
                answer(service.create_project(request).await)?.project
            }
            Self::Get { project } => {
                let project_id = id_of(&connection, &project).await?;
                let request = pb::GetProjectRequest { project_id };
                answer(service.get_project(request).await)?.project
            }
            Self::List {
                client,
                state,
                limit,
            } => {
                let state = match state {
                    None => pb::ProjectState::Unspecified,
                    Some(State::Active) => pb::ProjectState::Active,
                    Some(State::Archived) => pb::ProjectState::Archived,
                };
                let client = match client {
                    Some(client) => clients::id_of(&connection, &client).await?,
                    None => String::new(),
                };
                let listed = list(&connection, limit.count(), &client, state).await?;
                return out.list(&listed.told());
            }
            Self::Update {
                project,
                code,
                name,
                more,
                current,
            } => {
                let update_mask = mask(&[
                    ("code", code.is_some()),
                    ("display_name", name.is_some()),
                    ("billable", more.billable.is_some()),
                    ("budget_minutes", more.budget_minutes.is_some()),
                    ("budget", more.budget.is_some()),
                    ("start_date", more.start_date.is_some()),
                    ("end_date", more.end_date.is_some()),
                ])?;
                let project = pb::Project {
                    id: id_of(&connection, &project).await?,
                    code: code.unwrap_or_default(),
                    display_name: name.unwrap_or_default(),
                    etag: current.etag,
                    ..more.project()
                };
                let request = pb::UpdateProjectRequest {
                    project: Some(project),
                    update_mask: Some(update_mask),
                    request_id: current.repeatable.id(),
                };
                answer(service.update_project(request).await)?.project
            }
            Self::Archive { project, current } => {
                let request = pb::ArchiveProjectRequest {
                    project_id: id_of(&connection, &project).await?,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                answer(service.archive_project(request).await)?.project
            }
            Self::Assignments(command) => return command.run(&connection, out).await,
        };
        out.one(&present(project)?)
    }
}

impl More {
    fn project(self) -> pb::Project {
        pb::Project {
            billable: self.billable.unwrap_or_default(),
            budget_minutes: self.budget_minutes,
            budget: self.budget,
            start_date: self.start_date.unwrap_or_default(),
            end_date: self.end_date.unwrap_or_default(),
            ..Default::default()
        }
    }
}

pub(crate) async fn list(
    client: &Client,
    limit: usize,
    client_id: &str,
    state: pb::ProjectState,
) -> anyhow::Result<Listed<pb::Project>> {
    let mut service = client.projects();
    let listed = pages(limit, async |page_size, page_token| {
        let request = pb::ListProjectsRequest {
            page_size,
            page_token,
            client_id: client_id.to_owned(),
            state: state.into(),
        };
        let page = answer(service.list_projects(request).await)?;
        Ok((page.projects, page.next_page_token))
    });
    Ok(listed.await?)
}

/// The id of a project given by id or code.
pub(super) async fn id_of(client: &Client, text: &str) -> anyhow::Result<String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let listed = list(client, ALL, "", pb::ProjectState::Unspecified).await?;
    let found = listed.items.into_iter().find(|one| one.code == text);
    found.map(|one| one.id).with_context(|| {
        format!("no project has the code {text}: `catalyst projects list` shows them")
    })
}
