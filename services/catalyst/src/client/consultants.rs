//! `catalyst consultants`: the people of a firm.

use anyhow::Context as _;
use clap::Subcommand;
use proto::common::v1::Money;
use proto::consultants::v1 as pb;

use super::arguments::{Current, Repeatable, amount, is_id, mask, money};
use super::connection::Client;
use super::contract::word;
use super::error::{answer, present};
use super::output::{Output, Shown};
use super::paging::Limit;
use super::{ALL, ClientOptions, pages};

/// What can be done with consultants.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add one.
    Create {
        /// The firm's own key of the person.
        #[arg(long)]
        code: String,
        /// The person's name.
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
        consultant: String,
    },
    /// List them, oldest first.
    List {
        /// Only those in this state.
        #[arg(long)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change fields; one that is given as "" is cleared.
    Update {
        /// Code or id.
        consultant: String,
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
    /// End the person's work for the firm, for good.
    Deactivate {
        /// Code or id.
        consultant: String,
        #[command(flatten)]
        current: Current,
    },
}

/// What need not be known of a person.
#[derive(Debug, clap::Args)]
pub(crate) struct More {
    /// E-mail address.
    #[arg(long)]
    email: Option<String>,
    /// The `sub` of the person's tokens, who then works on the own time entries.
    #[arg(long, value_name = "SUB")]
    token_subject: Option<String>,
    /// What the person is called on offers.
    #[arg(long, value_name = "TITLE")]
    job_title: Option<String>,
    /// Agreed work in a week, in minutes.
    #[arg(long, value_name = "MINUTES")]
    weekly_capacity: Option<i32>,
    /// What an hour costs the firm, in minor units: "9500 EUR".
    #[arg(long, value_name = "MONEY", value_parser = money)]
    cost_rate: Option<Money>,
    /// What an hour is sold for, in minor units: "9500 EUR".
    #[arg(long, value_name = "MONEY", value_parser = money)]
    bill_rate: Option<Money>,
}

/// A state of consultants.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum State {
    /// Works for the firm.
    Active,
    /// Did.
    Inactive,
}

impl Shown for pb::Consultant {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "code",
        "name",
        "email",
        "subject",
        "title",
        "min/week",
        "bill rate",
        "state",
        "etag",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.code.clone(),
            self.display_name.clone(),
            self.email.clone(),
            self.subject.clone(),
            self.job_title.clone(),
            self.weekly_capacity_minutes.to_string(),
            amount(self.bill_rate.as_ref()),
            word(self.state().as_str_name(), "CONSULTANT_STATE_"),
            self.etag.clone(),
        ]
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let client = client.in_tenant().await?;
        let mut service = client.consultants();
        let consultant = match self {
            Self::Create {
                code,
                name,
                more,
                repeatable,
            } => {
                let request = pb::CreateConsultantRequest {
                    consultant: Some(more.of(String::new(), code, name, String::new())),
                    request_id: repeatable.id(),
                };
                answer(service.create_consultant(request).await)?.consultant
            }
            Self::Get { consultant } => {
                let consultant_id = id_of(&client, &consultant).await?;
                let request = pb::GetConsultantRequest { consultant_id };
                answer(service.get_consultant(request).await)?.consultant
            }
            Self::List { state, limit } => {
                let state = match state {
                    None => pb::ConsultantState::Unspecified,
                    Some(State::Active) => pb::ConsultantState::Active,
                    Some(State::Inactive) => pb::ConsultantState::Inactive,
                };
                return out.list(&list(&client, limit.count(), state).await?.told());
            }
            Self::Update {
                consultant,
                code,
                name,
                more,
                current,
            } => {
                let update_mask = mask(&[
                    ("code", code.is_some()),
                    ("display_name", name.is_some()),
                    ("email", more.email.is_some()),
                    ("subject", more.token_subject.is_some()),
                    ("job_title", more.job_title.is_some()),
                    ("weekly_capacity_minutes", more.weekly_capacity.is_some()),
                    ("cost_rate", more.cost_rate.is_some()),
                    ("bill_rate", more.bill_rate.is_some()),
                ])?;
                let id = id_of(&client, &consultant).await?;
                let (code, name) = (code.unwrap_or_default(), name.unwrap_or_default());
                let request = pb::UpdateConsultantRequest {
                    request_id: current.repeatable.id(),
                    consultant: Some(more.of(id, code, name, current.etag)),
                    update_mask: Some(update_mask),
                };
                answer(service.update_consultant(request).await)?.consultant
            }
            Self::Deactivate {
                consultant,
                current,
            } => {
                let request = pb::DeactivateConsultantRequest {
                    consultant_id: id_of(&client, &consultant).await?,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                answer(service.deactivate_consultant(request).await)?.consultant
            }
        };
        out.one(&present(consultant)?)
    }
}

impl More {
    fn of(self, id: String, code: String, display_name: String, etag: String) -> pb::Consultant {
        pb::Consultant {
            id,
            code,
            display_name,
            email: self.email.unwrap_or_default(),
            subject: self.token_subject.unwrap_or_default(),
            job_title: self.job_title.unwrap_or_default(),
            weekly_capacity_minutes: self.weekly_capacity.unwrap_or_default(),
            cost_rate: self.cost_rate,
            bill_rate: self.bill_rate,
            etag,
            ..Default::default()
        }
    }
}

pub(crate) async fn list(
    client: &Client,
    limit: usize,
    state: pb::ConsultantState,
) -> anyhow::Result<super::paging::Listed<pb::Consultant>> {
    let mut service = client.consultants();
    let listed = pages(limit, async |page_size, page_token| {
        let request = pb::ListConsultantsRequest {
            page_size,
            page_token,
            state: state.into(),
        };
        let page = answer(service.list_consultants(request).await)?;
        Ok((page.consultants, page.next_page_token))
    });
    Ok(listed.await?)
}

/// The id of a consultant given by id or code.
pub(super) async fn id_of(client: &Client, text: &str) -> anyhow::Result<String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let listed = list(client, ALL, pb::ConsultantState::Unspecified).await?;
    let found = listed.items.into_iter().find(|one| one.code == text);
    found.map(|one| one.id).with_context(|| {
        format!("no consultant has the code {text}: `catalyst consultants list` shows them")
    })
}
