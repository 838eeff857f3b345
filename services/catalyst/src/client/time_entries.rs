//! `catalyst time-entries`: recorded time.

use std::collections::HashMap;

use clap::Subcommand;
use prost_types::Timestamp;
use proto::consultants::v1::ConsultantState;
use proto::projects::v1::ProjectState;
use proto::time_entries::v1 as pb;

use super::arguments::{Repeatable, day, instant, shown, wall_clock};
use super::connection::Client;
use super::error::{answer, present};
use super::output::{Output, Shown, note};
use super::paging::Limit;
use super::{ALL, ClientOptions, consultants, pages, projects};

/// What can be done with time entries.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them by start.
    List {
        #[command(flatten)]
        scope: Scope,
        /// Only those that began then or later.
        #[arg(long, value_name = "INSTANT|DAY", value_parser = instant)]
        from: Option<Timestamp>,
        /// Only those that began before.
        #[arg(long, value_name = "INSTANT|DAY", value_parser = instant)]
        until: Option<Timestamp>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Add them up.
    Summarize {
        #[command(flatten)]
        scope: Scope,
        /// Only those worked on this day or later.
        #[arg(long, value_name = "DAY", value_parser = day)]
        from: Option<String>,
        /// Only those worked before this day.
        #[arg(long, value_name = "DAY", value_parser = day)]
        until: Option<String>,
        /// What to group by, separated by commas.
        #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
        by: Vec<Dimension>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one.
    Get {
        /// Its id.
        time_entry: String,
    },
    /// Record one.
    Create {
        /// The project, by code or id.
        #[arg(long)]
        project: String,
        /// The consultant, by code or id.
        #[arg(long)]
        consultant: String,
        /// When the work began: "2026-11-22 09:00" in the time zone, or with its offset.
        #[arg(long, value_name = "TIME")]
        from: String,
        /// When it ended.
        #[arg(long, value_name = "TIME")]
        until: String,
        /// Where the work was done, an IANA name.
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        time_zone: String,
        /// How long the work paused.
        #[arg(long = "break", value_name = "MINUTES", default_value_t = 0)]
        break_minutes: i32,
        /// Whether it is billed [default: as the project says].
        #[arg(long)]
        billable: Option<bool>,
        /// What was done.
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
        /// Its key in the system that it comes from.
        #[arg(
            long,
            value_name = "KEY",
            default_value = "",
            hide_default_value = true
        )]
        external_id: String,
        #[command(flatten)]
        repeatable: Repeatable,
    },
    /// Remove one.
    Delete {
        /// Its id.
        time_entry: String,
        #[command(flatten)]
        current: super::arguments::Current,
    },
}

/// Whose entries.
#[derive(Debug, clap::Args)]
pub(crate) struct Scope {
    /// Only those of this project, by code or id.
    #[arg(long)]
    project: Option<String>,
    /// Only those of this consultant, by code or id.
    #[arg(long)]
    consultant: Option<String>,
}

/// What entries are grouped by; at most one of the periods.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Dimension {
    /// By project.
    Project,
    /// By consultant.
    Consultant,
    /// By day.
    Day,
    /// By ISO week.
    Week,
    /// By month.
    Month,
}

impl From<Dimension> for pb::SummaryDimension {
    fn from(dimension: Dimension) -> Self {
        match dimension {
            Dimension::Project => Self::Project,
            Dimension::Consultant => Self::Consultant,
            Dimension::Day => Self::Day,
            Dimension::Week => Self::Week,
            Dimension::Month => Self::Month,
        }
    }
}

impl Shown for pb::TimeEntry {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "project",
        "consultant",
        "from",
        "until",
        "worked",
        "day",
        "billable",
        "overlaps",
        "note",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.project_id.clone(),
            self.consultant_id.clone(),
            shown(self.started_at.as_ref()),
            shown(self.ended_at.as_ref()),
            hours(self.worked_minutes.into()),
            format!("{} {}", self.worked_on, self.time_zone),
            self.billable().to_string(),
            if self.overlap_kept { "kept" } else { "" }.to_owned(),
            self.note.clone(),
        ]
    }
}

impl Shown for pb::SummaryRow {
    const COLUMNS: &'static [&'static str] = &[
        "project",
        "consultant",
        "period from",
        "entries",
        "worked",
        "billable",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.project_id.clone(),
            self.consultant_id.clone(),
            self.period_start.clone(),
            self.entries.to_string(),
            hours(self.worked_minutes),
            hours(self.billable_minutes),
        ]
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let client = client.in_tenant().await?;
        let mut service = client.time_entries();
        let time_entry = match self {
            Self::List {
                scope,
                from,
                until,
                limit,
            } => {
                let (project_id, consultant_id) = scope.ids(&client).await?;
                let listed = pages(limit.count(), async |page_size, page_token| {
                    let request = pb::ListTimeEntriesRequest {
                        page_size,
                        page_token,
                        project_id: project_id.clone(),
                        consultant_id: consultant_id.clone(),
                        from_time: from,
                        until_time: until,
                    };
                    let page = answer(service.list_time_entries(request).await)?;
                    Ok((page.time_entries, page.next_page_token))
                });
                return out.list(&listed.await?.told());
            }
            Self::Summarize {
                scope,
                from,
                until,
                by,
                limit,
            } => {
                let (project_id, consultant_id) = scope.ids(&client).await?;
                let dimensions = by.into_iter().map(pb::SummaryDimension::from);
                let request = pb::SummarizeTimeEntriesRequest {
                    project_id,
                    consultant_id,
                    from_date: from.unwrap_or_default(),
                    until_date: until.unwrap_or_default(),
                    group_by: dimensions.map(Into::into).collect(),
                    ..Default::default()
                };
                return summarize(&client, out, request, limit).await;
            }
            Self::Get { time_entry } => {
                let request = pb::GetTimeEntryRequest {
                    time_entry_id: time_entry,
                };
                answer(service.get_time_entry(request).await)?.time_entry
            }
            Self::Create {
                project,
                consultant,
                from,
                until,
                time_zone,
                break_minutes,
                billable,
                note,
                external_id,
                repeatable,
            } => {
                let time_entry = pb::TimeEntry {
                    started_at: Some(wall_clock(&from, &time_zone)?),
                    ended_at: Some(wall_clock(&until, &time_zone)?),
                    project_id: projects::id_of(&client, &project).await?,
                    consultant_id: consultants::id_of(&client, &consultant).await?,
                    time_zone,
                    break_minutes,
                    billable,
                    note,
                    external_id,
                    ..Default::default()
                };
                let request = pb::CreateTimeEntryRequest {
                    time_entry: Some(time_entry),
                    request_id: repeatable.id(),
                };
                answer(service.create_time_entry(request).await)?.time_entry
            }
            Self::Delete {
                time_entry,
                current,
            } => {
                let request = pb::DeleteTimeEntryRequest {
                    time_entry_id: time_entry,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                answer(service.delete_time_entry(request).await)?;
                note("the time entry is removed");
                return Ok(());
            }
        };
        out.one(&present(time_entry)?)
    }
}

async fn summarize(
    client: &Client,
    out: &Output,
    request: pb::SummarizeTimeEntriesRequest,
    limit: Limit,
) -> anyhow::Result<()> {
    let mut service = client.time_entries();
    let listed = pages(limit.count(), async |page_size, page_token| {
        let request = pb::SummarizeTimeEntriesRequest {
            page_size,
            page_token,
            ..request.clone()
        };
        let page = answer(service.summarize_time_entries(request).await)?;
        Ok((page.rows, page.next_page_token))
    });
    let mut rows = listed.await?.told();
    if !out.is_json() {
        name_groups(client, &mut rows).await?;
    }
    out.list(&rows)
}

impl Scope {
    async fn ids(self, client: &Client) -> anyhow::Result<(String, String)> {
        let project = match self.project {
            Some(project) => projects::id_of(client, &project).await?,
            None => String::new(),
        };
        let consultant = match self.consultant {
            Some(consultant) => consultants::id_of(client, &consultant).await?,
            None => String::new(),
        };
        Ok((project, consultant))
    }
}

/// Puts codes in the place of ids, which people cannot tell apart.
async fn name_groups(client: &Client, rows: &mut [pb::SummaryRow]) -> anyhow::Result<()> {
    let mut codes = HashMap::new();
    if rows.iter().any(|row| !row.project_id.is_empty()) {
        let listed = projects::list(client, ALL, "", ProjectState::Unspecified).await?;
        codes.extend(listed.items.into_iter().map(|one| (one.id, one.code)));
    }
    if rows.iter().any(|row| !row.consultant_id.is_empty()) {
        let listed = consultants::list(client, ALL, ConsultantState::Unspecified).await?;
        codes.extend(listed.items.into_iter().map(|one| (one.id, one.code)));
    }
    for row in rows {
        for id in [&mut row.project_id, &mut row.consultant_id] {
            if let Some(code) = codes.get(id) {
                id.clone_from(code);
            }
        }
    }
    Ok(())
}

/// Minutes as people read them: `127:05`.
pub(crate) fn hours(minutes: i64) -> String {
    format!("{}:{:02}", minutes / 60, minutes % 60)
}
