//! The client half of the program: commands that call a running deployment, as a tenant's user or as its operator.
//!
//! [`ClientOptions`] says where and as whom; each command is a module; only [`output`] prints.

pub(crate) mod output;
pub(crate) mod error;
pub(crate) mod connection;
mod contract;
mod bearer;
mod paging;
mod retry;
mod arguments;

pub(crate) mod tenants;
pub(crate) mod top;
pub(crate) mod consultants;
pub(crate) mod clients;
pub(crate) mod projects;
pub(crate) mod assignments;
pub(crate) mod time_entries;
pub(crate) mod audit;
pub(crate) mod audit_trail;
mod alert_rules;
pub(crate) mod alerts;
pub(crate) mod events;
mod dead_letters;
pub(crate) mod permissions;
mod credentials;

use std::path::PathBuf;

use anyhow::Context as _;
use kit::TenantId;
use kit::ctx::Clock;
use proto::tenants::v1 as pb;
use uuid::Uuid;

use crate::keys::Keys;
use crate::{deployment, stack, up};

pub(crate) use bearer::TokenOptions;
pub(crate) use error::exit_code;
pub(crate) use paging::{ALL, pages};
pub(crate) use retry::{Backoff, persist};

use bearer::Bearer;
use connection::{Client, Tls};
use error::{Usage, answer};
use output::Output;

/// Where a deployment answers when neither `--url` nor a running `catalyst up` says it.
const DEFAULT_URL: &str = "http://127.0.0.1:7400";
/// Long enough for the longest import and watch; the token goes with the process.
const TOKEN_SECONDS: i64 = 12 * 3_600;
/// The one role that the control plane accepts.
const OPERATOR: &str = "platform_operator";

/// Where the deployment is, and as whom it is called. Every command takes these.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClientOptions {
    /// Where gRPC is served [default: the running `catalyst up`, else http://127.0.0.1:7400].
    #[arg(long, env = "CATALYST_URL", global = true, help_heading = "Client")]
    url: Option<String>,
    #[command(flatten)]
    tls: Tls,
    /// A token of the deployment's issuer; without one, the development issuer of the data folder makes one.
    #[arg(
        long,
        env = "CATALYST_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Client"
    )]
    token: Option<Bearer>,
    /// The tenant, by slug or id; a token of your own says it by itself.
    #[arg(
        long,
        env = "CATALYST_TENANT",
        value_name = "SLUG|ID",
        global = true,
        help_heading = "Client"
    )]
    tenant: Option<String>,
    /// Role of a token that the development issuer makes; may be repeated.
    #[arg(long, global = true, default_value = "admin", help_heading = "Client",
          value_parser = ["admin", "manager", "consultant", "viewer", "auditor", OPERATOR])]
    role: Vec<String>,
    /// Who a token that the development issuer makes is for.
    #[arg(
        long,
        global = true,
        default_value = "developer",
        help_heading = "Client"
    )]
    subject: String,
    /// Print one JSON object a line instead of tables.
    #[arg(long, global = true, help_heading = "Client")]
    json: bool,
    /// Folder of `catalyst up` [default: catalyst in the user's data folder].
    #[arg(
        long,
        env = "CATALYST_DATA_DIR",
        value_name = "DIR",
        global = true,
        help_heading = "Client"
    )]
    data_dir: Option<PathBuf>,
}

impl ClientOptions {
    /// Where the results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// The folder of `catalyst up`.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        self.data_dir.clone().map_or_else(stack::default_dir, Ok)
    }

    /// The tenant as it was named: by slug, by id, or not at all.
    pub(crate) fn named_tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// A connection as a user of the tenant.
    pub(crate) async fn in_tenant(&self) -> anyhow::Result<Client> {
        let tenant = match (&self.tenant, &self.token) {
            (None, Some(token)) => token.tenant()?,
            _ => self.tenant().await?,
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => self.mint(tenant, &self.roles(), TOKEN_SECONDS)?,
        };
        Client::connect(&self.url(), &self.tls, &token, tenant).await
    }

    /// A connection as an operator of the platform.
    pub(crate) async fn as_operator(&self) -> anyhow::Result<Client> {
        match &self.token {
            Some(token) => Client::connect(&self.url(), &self.tls, token, token.tenant()?).await,
            None => self.as_development_operator().await,
        }
    }

    /// The id of the tenant that `--tenant` names.
    pub(crate) async fn tenant(&self) -> anyhow::Result<TenantId> {
        match &self.tenant {
            Some(name) => self.find_tenant(name).await,
            None => Err(Usage::new(
                "name the tenant with --tenant, by its slug or id: `catalyst tenants list` shows them",
            )
            .into()),
        }
    }

    /// The id of a tenant given by id or slug; slugs are looked up as operator.
    pub(crate) async fn find_tenant(&self, name: &str) -> anyhow::Result<TenantId> {
        if let Ok(id) = Uuid::try_parse(name) {
            return Ok(TenantId::new(id));
        }
        if name == "platform" {
            return Ok(TenantId::PLATFORM);
        }
        let tenants = all_tenants(&self.as_development_operator().await?).await?;
        let found = tenants.iter().find(|tenant| tenant.slug == name);
        let id = found
            .and_then(|tenant| TenantId::parse_strict(&tenant.id))
            .with_context(|| {
                format!("no tenant has the slug {name}: `catalyst tenants list` shows them")
            })?;
        Ok(id)
    }

    /// The tenant that an operator asks about: an id, `none` for callers that were not verified, or empty for all.
    async fn optional_tenant(&self) -> anyhow::Result<String> {
        match self.tenant.as_deref() {
            None => Ok(String::new()),
            Some("none") => Ok("none".to_owned()),
            Some(name) => Ok(self.find_tenant(name).await?.to_string()),
        }
    }

    fn url(&self) -> String {
        let running = || {
            let dir = self.data_dir().ok()?;
            up::Running::read(&dir).ok().map(|running| running.url)
        };
        self.url
            .clone()
            .or_else(running)
            .unwrap_or_else(|| DEFAULT_URL.to_owned())
    }

    fn roles(&self) -> Vec<&str> {
        self.role.iter().map(String::as_str).collect()
    }

    /// A token of the development issuer.
    fn mint(&self, tenant: TenantId, roles: &[&str], seconds: i64) -> anyhow::Result<Bearer> {
        let dir = self.data_dir()?;
        let issuer = Keys::at(&deployment::keys_dir(&dir)).development_issuer()?;
        let now = Clock::system().now();
        let token = issuer.token(&self.subject, tenant, roles, now, seconds)?;
        Ok(Bearer::new(token))
    }

    async fn as_development_operator(&self) -> anyhow::Result<Client> {
        let tenant = TenantId::PLATFORM;
        let token = self.mint(tenant, &[OPERATOR], TOKEN_SECONDS).context(
            "this is done as platform operator: give its token with --token; a tenant can also be named by its id",
        )?;
        Client::connect(&self.url(), &self.tls, &token, tenant).await
    }
}

/// Every tenant of the deployment, as its operator.
async fn all_tenants(operator: &Client) -> anyhow::Result<Vec<pb::Tenant>> {
    let mut service = operator.tenants();
    let tenants = pages(ALL, async |page_size, page_token| {
        let request = pb::ListTenantsRequest {
            page_size,
            page_token,
            ..Default::default()
        };
        let page = answer(service.list_tenants(request).await)?;
        Ok((page.tenants, page.next_page_token))
    });
    Ok(tenants.await?.items)
}
