//! `catalyst clients`: whom a firm works for.

use anyhow::Context as _;
use clap::Subcommand;
use proto::projects::v1 as pb;

use super::arguments::{Current, Repeatable, is_id, mask, shown};
use super::connection::Client;
use super::error::{answer, present};
use super::output::{Output, Shown};
use super::paging::{Limit, Listed};
use super::{ALL, ClientOptions, pages};

/// What can be done with clients.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add one.
    Create {
        /// The firm's own key of the client.
        #[arg(long)]
        code: String,
        /// The client's name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        repeatable: Repeatable,
    },
    /// Show one.
    Get {
        /// Code or id.
        client: String,
    },
    /// List them, oldest first.
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Change fields.
    Update {
        /// Code or id.
        client: String,
        /// A new code.
        #[arg(long)]
        code: Option<String>,
        /// A new name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        current: Current,
    },
}

impl Shown for pb::Client {
    const COLUMNS: &'static [&'static str] = &["id", "code", "name", "created", "etag"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.code.clone(),
            self.display_name.clone(),
            shown(self.create_time.as_ref()),
            self.etag.clone(),
        ]
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let connection = client.in_tenant().await?;
        let mut service = connection.projects();
        let client = match self {
            Self::Create {
                code,
                name,
                repeatable,
            } => {
                let client = pb::Client {
                    code,
                    display_name: name,
                    ..Default::default()
                };
                let request = pb::CreateClientRequest {
                    client: Some(client),
                    request_id: repeatable.id(),
                };
                answer(service.create_client(request).await)?.client
            }
            Self::Get { client } => {
                let client_id = id_of(&connection, &client).await?;
                let request = pb::GetClientRequest { client_id };
                answer(service.get_client(request).await)?.client
            }
            Self::List { limit } => {
                return out.list(&list(&connection, limit.count()).await?.told());
            }
            Self::Update {
                client,
                code,
                name,
                current,
            } => {
                let update_mask =
                    mask(&[("code", code.is_some()), ("display_name", name.is_some())])?;
                let client = pb::Client {
                    id: id_of(&connection, &client).await?,
                    code: code.unwrap_or_default(),
                    display_name: name.unwrap_or_default(),
                    etag: current.etag,
                    ..Default::default()
                };
                let request = pb::UpdateClientRequest {
                    client: Some(client),
                    update_mask: Some(update_mask),
                    request_id: current.repeatable.id(),
                };
                answer(service.update_client(request).await)?.client
            }
        };
        out.one(&present(client)?)
    }
}

pub(crate) async fn list(client: &Client, limit: usize) -> anyhow::Result<Listed<pb::Client>> {
    let mut service = client.projects();
    let listed = pages(limit, async |page_size, page_token| {
        let request = pb::ListClientsRequest {
            page_size,
            page_token,
        };
        let page = answer(service.list_clients(request).await)?;
        Ok((page.clients, page.next_page_token))
    });
    Ok(listed.await?)
}

/// The id of a client given by id or code.
pub(super) async fn id_of(client: &Client, text: &str) -> anyhow::Result<String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let listed = list(client, ALL).await?;
    let found = listed.items.into_iter().find(|one| one.code == text);
    found.map(|one| one.id).with_context(|| {
        format!("no client has the code {text}: `catalyst clients list` shows them")
    })
}
