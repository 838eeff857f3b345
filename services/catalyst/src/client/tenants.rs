//! `catalyst tenants`: firms of the deployment, as a platform operator.

use clap::Subcommand;
use proto::tenants::v1 as pb;

use super::arguments::{Current, Repeatable, shown};
use super::contract::word;
use super::error::{answer, present};
use super::output::{Output, Shown};
use super::paging::Limit;
use super::{ClientOptions, credentials, pages};

/// What can be done with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Admit a firm.
    Create(Create),
    /// Show one.
    Get {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
    },
    /// List them, oldest first.
    List {
        /// Only those in this state.
        #[arg(long)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Shut a firm out, within 5 s, its subscribers on NATS too. Its rows stay.
    Suspend {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
        /// Why; the tenant's auditors can read it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        current: Current,
        #[command(flatten)]
        place: credentials::Place,
    },
    /// Let a suspended firm in again.
    Resume {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
        #[command(flatten)]
        current: Current,
        #[command(flatten)]
        place: credentials::Place,
    },
    /// Give a firm another share of the deployment, within 5 s.
    Plan {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
        /// The plan from now on.
        plan: Plan,
        #[command(flatten)]
        current: Current,
    },
    /// Say in which cell the rows of a new firm are to be, before it is let in for the first time.
    Place {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
        /// `shared`, or a dedicated cell of the deployment.
        cell: String,
        #[command(flatten)]
        current: Current,
    },
    /// Credentials with which a firm hears its own events on NATS.
    Credentials(credentials::CredentialsOptions),
}

/// A firm to admit.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its short name: 3 to 63 lowercase letters, digits and inner hyphens.
    #[arg(long)]
    slug: String,
    /// Its name.
    #[arg(long)]
    name: String,
    /// IANA time zone of its home office.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// ISO 4217 code of the currency of its books.
    #[arg(long, value_name = "CODE", default_value = "EUR")]
    currency: String,
    /// How much of the deployment it may use.
    #[arg(long, default_value = "standard")]
    plan: Plan,
    /// The cell that its rows are to be in.
    #[arg(long, default_value = "shared")]
    cell: String,
    /// Do not let it in yet: it can still be placed, until it is resumed.
    #[arg(long)]
    suspended: bool,
    #[command(flatten)]
    repeatable: Repeatable,
}

impl Create {
    fn request(self) -> pb::CreateTenantRequest {
        let state = if self.suspended {
            pb::TenantState::Suspended
        } else {
            pb::TenantState::Active
        };
        let tenant = pb::Tenant {
            slug: self.slug,
            display_name: self.name,
            time_zone: self.time_zone,
            currency_code: self.currency,
            plan: pb::TenantPlan::from(self.plan).into(),
            cell: self.cell,
            state: state.into(),
            ..Default::default()
        };
        pb::CreateTenantRequest {
            tenant: Some(tenant),
            request_id: self.repeatable.id(),
        }
    }
}

/// A state of tenants.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum State {
    /// Served.
    Active,
    /// Shut out.
    Suspended,
}

impl From<State> for pb::TenantState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Suspended => Self::Suspended,
        }
    }
}

/// A plan of tenants.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Plan {
    /// A quarter of the deployment's limits.
    Small,
    /// The limits as the deployment sets them.
    Standard,
    /// Four times the limits.
    Large,
}

impl From<Plan> for pb::TenantPlan {
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::Small => Self::Small,
            Plan::Standard => Self::Standard,
            Plan::Large => Self::Large,
        }
    }
}

impl Shown for pb::Tenant {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "slug",
        "name",
        "time zone",
        "currency",
        "state",
        "plan",
        "cell",
        "created",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.slug.clone(),
            self.display_name.clone(),
            self.time_zone.clone(),
            self.currency_code.clone(),
            word(self.state().as_str_name(), "TENANT_STATE_"),
            word(self.plan().as_str_name(), "TENANT_PLAN_"),
            self.cell.clone(),
            shown(self.create_time.as_ref()),
        ]
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let service = async || anyhow::Ok(client.as_operator().await?.tenants());
        let tenant = match self {
            Self::Create(new) => {
                answer(service().await?.create_tenant(new.request()).await)?.tenant
            }
            Self::Get { firm } => {
                let tenant_id = client.find_tenant(&firm).await?.to_string();
                let request = pb::GetTenantRequest { tenant_id };
                answer(service().await?.get_tenant(request).await)?.tenant
            }
            Self::List { state, limit } => {
                let state = state.map_or(pb::TenantState::Unspecified, Into::into);
                let mut service = service().await?;
                let listed = pages(limit.count(), async |page_size, page_token| {
                    let request = pb::ListTenantsRequest {
                        page_size,
                        page_token,
                        state: state.into(),
                    };
                    let page = answer(service.list_tenants(request).await)?;
                    Ok((page.tenants, page.next_page_token))
                })
                .await?;
                return out.list(&listed.told());
            }
            Self::Suspend {
                firm,
                reason,
                current,
                place,
            } => {
                let firm = client.find_tenant(&firm).await?;
                let request = pb::SuspendTenantRequest {
                    tenant_id: firm.to_string(),
                    reason,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                let tenant = answer(service().await?.suspend_tenant(request).await)?.tenant;
                place.follow(client, firm, true).await?;
                tenant
            }
            Self::Resume {
                firm,
                current,
                place,
            } => {
                let firm = client.find_tenant(&firm).await?;
                let request = pb::ResumeTenantRequest {
                    tenant_id: firm.to_string(),
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                let tenant = answer(service().await?.resume_tenant(request).await)?.tenant;
                place.follow(client, firm, false).await?;
                tenant
            }
            Self::Plan {
                firm,
                plan,
                current,
            } => {
                let firm = client.find_tenant(&firm).await?;
                let request = pb::ChangeTenantPlanRequest {
                    tenant_id: firm.to_string(),
                    plan: pb::TenantPlan::from(plan).into(),
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                answer(service().await?.change_tenant_plan(request).await)?.tenant
            }
            Self::Place {
                firm,
                cell,
                current,
            } => {
                let firm = client.find_tenant(&firm).await?;
                let request = pb::PlaceTenantRequest {
                    tenant_id: firm.to_string(),
                    cell,
                    request_id: current.repeatable.id(),
                    etag: current.etag,
                };
                answer(service().await?.place_tenant(request).await)?.tenant
            }
            Self::Credentials(options) => return options.run(client, out).await,
        };
        out.one(&present(tenant)?)
    }
}
