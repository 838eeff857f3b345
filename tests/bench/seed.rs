//! The data of a run: firms of very different sizes through the control plane, their rows as superuser, the same in
//! every run. Both the sizes of the firms and how often each is asked follow one Zipf distribution.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kit::TenantId;
use proto::projects::v1::ListProjectsRequest;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::tenants::v1::tenant_service_client::TenantServiceClient;
use proto::tenants::v1::{CreateTenantRequest, Tenant, TenantPlan};
use proto::time_entries::v1::ListTimeEntriesRequest;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use sqlx::{AssertSqlSafe, Connection as _};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::load::{connect, metadata};
use crate::system::System;

/// Of sizes and of calls: with 300 firms the first is a whale with a fifth of everything.
pub(crate) const EXPONENT: f64 = 1.1;
/// What the smallest firm has at least: more than a page of projects, and a time entry for each.
const LEAST_PROJECTS: u32 = 60;
const LEAST_CONSULTANTS: u32 = 10;
const LEAST_ENTRIES: u32 = 300;
/// Projects of one client.
pub(crate) const PROJECTS_PER_CLIENT: u64 = 20;
/// When the first time entries begin.
const FIRST_START: OffsetDateTime = datetime!(2020-01-01 0:00 UTC);
/// Of so many firms the greatest has the large plan, as its operator would give it. All others have the standard one.
const ONE_LARGE_OF: u32 = 100;
/// Tenants that are created at the same time, below the part of the pool that one tenant, the platform, may hold.
const AT_ONCE: usize = 4;

/// How much data a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// 12 firms, 6,000 projects, 1,000 consultants, 30,000 time entries.
    Small,
    /// 3,000 firms of one size, each with 60 projects, 10 consultants and 300 time entries: what `tenants` loads.
    Many,
    /// 300 firms, 100,000 projects, 30,000 consultants, 3,000,000 time entries; takes minutes to load.
    Large,
}

impl Profile {
    pub(crate) fn firms(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Many => 3_000,
            Self::Large => 300,
        }
    }

    /// What the firm of a rank has, the greatest being the first.
    fn plan(self, rank: u32) -> TenantPlan {
        if rank < self.firms().div_ceil(ONE_LARGE_OF) {
            TenantPlan::Large
        } else {
            TenantPlan::Standard
        }
    }

    /// Projects, consultants and time entries of all firms together, each with the least of a firm.
    fn rows(self) -> [(u32, u32); 3] {
        let [projects, consultants, entries] = match self {
            Self::Small => [6_000, 1_000, 30_000],
            Self::Many => {
                [LEAST_PROJECTS, LEAST_CONSULTANTS, LEAST_ENTRIES].map(|least| least * self.firms())
            }
            Self::Large => [100_000, 30_000, 3_000_000],
        };
        [
            (projects, LEAST_PROJECTS),
            (consultants, LEAST_CONSULTANTS),
            (entries, LEAST_ENTRIES),
        ]
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(projects, _), _, (entries, _)] = self.rows();
        let firms = self.firms();
        write!(
            f,
            "{firms} firms with {projects} projects and {entries} time entries"
        )
    }
}

/// One of the tenants.
pub(crate) struct Firm {
    pub(crate) tenant: TenantId,
    plan: TenantPlan,
    /// Zero is the greatest of those that were loaded with it.
    rank: u32,
    /// No other firm of the deployment has it.
    number: u32,
    pub(crate) projects: u64,
    pub(crate) consultants: u64,
    pub(crate) entries: u64,
    /// The number of the next time entry.
    next_entry: AtomicU64,
}

/// A time entry to record: no two of a firm overlap.
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) project: Uuid,
    pub(crate) consultant: Uuid,
    pub(crate) started_at: OffsetDateTime,
    /// A quarter of an hour later.
    pub(crate) ended_at: OffsetDateTime,
}

/// What an id of the data belongs to.
#[derive(Clone, Copy)]
enum Kind {
    Client = 1,
    Project = 2,
    Consultant = 3,
    TimeEntry = 4,
}

impl Firm {
    /// How often it is asked, beside the first.
    pub(crate) fn weight(&self) -> f64 {
        weight(self.rank)
    }

    /// Whether it has the standard plan.
    pub(crate) fn is_ordinary(&self) -> bool {
        self.plan == TenantPlan::Standard
    }

    pub(crate) fn clients(&self) -> u64 {
        self.projects / PROJECTS_PER_CLIENT
    }

    /// The client of a number below [`Firm::clients`].
    pub(crate) fn client(&self, number: u64) -> Uuid {
        self.id(Kind::Client, number)
    }

    /// The project of a number below [`Firm::projects`].
    pub(crate) fn project(&self, number: u64) -> Uuid {
        self.id(Kind::Project, number)
    }

    /// The consultant of a number below [`Firm::consultants`].
    pub(crate) fn consultant(&self, number: u64) -> Uuid {
        self.id(Kind::Consultant, number)
    }

    /// The time entry of a number below [`Firm::entries`].
    pub(crate) fn entry(&self, number: u64) -> Uuid {
        self.id(Kind::TimeEntry, number)
    }

    /// New time entries.
    pub(crate) fn new_entries(&self, count: u64) -> impl Iterator<Item = Entry> {
        let first = self.next_entry.fetch_add(count, Ordering::Relaxed);
        (first..first + count).map(|number| {
            let quarters = i32::try_from(number / self.consultants).unwrap_or(i32::MAX);
            let started_at = FIRST_START + time::Duration::minutes(15) * quarters;
            Entry {
                number,
                project: self.id(Kind::Project, number % self.projects),
                consultant: self.id(Kind::Consultant, number % self.consultants),
                started_at,
                ended_at: started_at + time::Duration::minutes(15),
            }
        })
    }

    fn id(&self, kind: Kind, number: u64) -> Uuid {
        let kind = u128::from(kind as u32) << 96;
        Uuid::from_u128(kind | 0x7000_8000_0000_0000_0000 | hex(self.digits(number)))
    }

    /// Fifteen digits: [`FIRST_DIGITS`], and a billion for each firm.
    fn digits(&self, number: u64) -> u64 {
        FIRST_DIGITS + u64::from(self.number) * DIGITS_OF_FIRM + number
    }
}

/// Digits read as hexadecimal: PostgreSQL makes the same id by writing them as text.
fn hex(mut digits: u64) -> u128 {
    let mut value = 0;
    for place in 0..15 {
        value |= u128::from(digits % 10) << (4 * place);
        digits /= 10;
    }
    value
}

/// What the ids of projects and of clients begin with; fifteen digits follow.
pub(crate) const PROJECT_PREFIX: &str = "00000002-0000-7000-8";
pub(crate) const CLIENT_PREFIX: &str = "00000001-0000-7000-8";
/// The digits of the first firm's first row of each kind.
pub(crate) const FIRST_DIGITS: u64 = 100_000_000_000_000;
/// As many are one firm's.
pub(crate) const DIGITS_OF_FIRM: u64 = 1_000_000_000;

/// How often the firm of a number is asked, beside the first.
fn weight(number: u32) -> f64 {
    f64::from(number + 1).powf(-EXPONENT)
}

/// What each firm has of `total`: the least, and of the rest by its weight; what is left over is the first's.
fn shares(total: u32, least: u32, firms: u32) -> Vec<u64> {
    let all: f64 = (0..firms).map(weight).sum();
    let rest = f64::from(total - least * firms);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number that fits, rounded down"
    )]
    let share = |firm| u64::from(least) + (rest * weight(firm) / all) as u64;
    let mut shares: Vec<u64> = (0..firms).map(share).collect();
    let left_over = u64::from(total) - shares.iter().sum::<u64>();
    if let Some(first) = shares.first_mut() {
        *first += left_over;
    }
    shares
}

/// Makes the firms, waits until the services know them, and loads their rows. The first is the greatest. Firms that are
/// there already are so many.
pub(crate) async fn load(
    system: &System,
    profile: Profile,
    there: u32,
    say: &dyn Fn(&str),
) -> anyhow::Result<Vec<Arc<Firm>>> {
    let channel = connect(system).await?;
    let create = |rank| create_tenant(system, channel.clone(), there + rank, profile.plan(rank));
    let tenants: Vec<TenantId> = stream::iter((0..profile.firms()).map(create))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let [projects, consultants, entries] = profile
        .rows()
        .map(|(total, least)| shares(total, least, profile.firms()));
    let rows = projects.into_iter().zip(consultants).zip(entries);
    let firms: Vec<Arc<Firm>> = (0..)
        .zip(tenants.into_iter().zip(rows))
        .map(
            |(rank, (tenant, ((projects, consultants), entries)))| Firm {
                tenant,
                plan: profile.plan(rank),
                rank,
                number: there + rank,
                projects,
                consultants,
                entries,
                next_entry: AtomicU64::new(entries),
            },
        )
        .map(Arc::new)
        .collect();
    for (number, firm) in firms.iter().enumerate() {
        say(&format!("loading the rows of firm {}", number + 1));
        insert_rows(system, firm).await?;
    }
    say("vacuuming");
    let mut admin = system.admin().await?;
    sqlx::raw_sql("vacuum analyze").execute(&mut admin).await?;
    sqlx::raw_sql("checkpoint").execute(&mut admin).await?;
    let channel = connect(system).await?;
    let let_in = |firm| is_let_in(system, channel.clone(), firm);
    let () = stream::iter(firms.iter().map(let_in))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    system.settle().await?;
    Ok(firms)
}

async fn insert_rows(system: &System, firm: &Firm) -> anyhow::Result<()> {
    let rows = format!(
        include_str!("seed.sql"),
        tenant = firm.tenant,
        digits = firm.digits(0),
        clients = firm.clients(),
        projects = firm.projects,
        consultants = firm.consultants,
        entries = firm.entries,
        first_start = FIRST_START.unix_timestamp(),
    );
    let mut admin = system.admin().await?;
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut admin)
        .await
        .context("the rows of a firm are refused")?;
    Ok(admin.close().await?)
}

async fn create_tenant(
    system: &System,
    channel: Channel,
    number: u32,
    plan: TenantPlan,
) -> anyhow::Result<TenantId> {
    let tenant = Tenant {
        plan: plan.into(),
        slug: format!("bench-{number}"),
        display_name: format!("Bench {number}"),
        time_zone: "UTC".to_owned(),
        currency_code: "EUR".to_owned(),
        ..Tenant::default()
    };
    let mut request = Request::new(CreateTenantRequest {
        tenant: Some(tenant),
        ..CreateTenantRequest::default()
    });
    *request.metadata_mut() = metadata(system, TenantId::PLATFORM, "bench", "platform_operator")?;
    let created = TenantServiceClient::new(channel)
        .create_tenant(request)
        .await?;
    let tenant = created
        .into_inner()
        .tenant
        .context("the answer holds no tenant")?;
    TenantId::parse_strict(&tenant.id).context("the tenant's id is none")
}

/// Services learn of a new tenant by the bus, each in its own time.
async fn is_let_in(system: &System, channel: Channel, firm: &Arc<Firm>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let metadata = metadata(system, firm.tenant, "bench", "admin")?;
    loop {
        let mut projects = Request::new(ListProjectsRequest::default());
        projects.metadata_mut().clone_from(&metadata);
        let mut entries = Request::new(ListTimeEntriesRequest::default());
        entries.metadata_mut().clone_from(&metadata);
        let projects = ProjectServiceClient::new(channel.clone())
            .list_projects(projects)
            .await;
        let entries = TimeEntryServiceClient::new(channel.clone())
            .list_time_entries(entries)
            .await;
        match projects.err().or(entries.err()) {
            None => return Ok(()),
            Some(status)
                if status.code() == Code::PermissionDenied && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(50)).await;
            }
            Some(status) => bail!("a new firm is not let in: {status}"),
        }
    }
}
