//! The data of a run: a few firms through the control plane, their rows as superuser, the same in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kit::TenantId;
use proto::projects::v1::ListProjectsRequest;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::tenants::v1::tenant_service_client::TenantServiceClient;
use proto::tenants::v1::{CreateTenantRequest, Tenant};
use proto::time_entries::v1::ListTimeEntriesRequest;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::load::{connect, metadata};
use crate::system::System;

const FIRMS: u64 = 4;
/// Of each firm.
pub(crate) const PROJECTS: u64 = 5_000;
/// Of each firm; time is recorded on as many of its projects.
const CONSULTANTS: u64 = 50;
/// Of each firm.
const TIME_ENTRIES: u64 = 5_000;
/// When the first time entries begin.
const FIRST_START: OffsetDateTime = datetime!(2020-01-01 0:00 UTC);

/// One of the tenants.
pub(crate) struct Firm {
    pub(crate) tenant: TenantId,
    number: u64,
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
    /// The client of every project.
    pub(crate) fn client(&self) -> Uuid {
        self.id(Kind::Client, 0)
    }

    /// The project of a number below [`PROJECTS`].
    pub(crate) fn project(&self, number: u64) -> Uuid {
        self.id(Kind::Project, number)
    }

    /// The time entry of a number below [`TIME_ENTRIES`], which are as many as projects.
    pub(crate) fn entry(&self, number: u64) -> Uuid {
        self.id(Kind::TimeEntry, number)
    }

    /// The first and the last digits of its projects' ids: what `pgbench` puts after [`PROJECT_PREFIX`].
    pub(crate) fn project_digits(&self) -> (u64, u64) {
        (self.digits(0), self.digits(PROJECTS - 1))
    }

    /// New time entries.
    pub(crate) fn entries(&self, count: u64) -> impl Iterator<Item = Entry> {
        let first = self.next_entry.fetch_add(count, Ordering::Relaxed);
        (first..first + count).map(|number| {
            let quarters = i32::try_from(number / CONSULTANTS).unwrap_or(i32::MAX);
            let started_at = FIRST_START + time::Duration::minutes(15) * quarters;
            Entry {
                number,
                project: self.id(Kind::Project, number % CONSULTANTS),
                consultant: self.id(Kind::Consultant, number % CONSULTANTS),
                started_at,
                ended_at: started_at + time::Duration::minutes(15),
            }
        })
    }

    fn id(&self, kind: Kind, number: u64) -> Uuid {
        let kind = u128::from(kind as u32) << 96;
        Uuid::from_u128(kind | 0x7000_8000_0000_0000_0000 | hex(self.digits(number)))
    }

    /// Fifteen digits.
    fn digits(&self, number: u64) -> u64 {
        100_000_000_000_000 + self.number * 1_000_000_000 + number
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

/// What the ids of projects begin with; fifteen digits follow.
pub(crate) const PROJECT_PREFIX: &str = "00000002-0000-7000-8";

/// Makes the firms, waits until the services know them, and loads their rows.
pub(crate) async fn load(system: &System) -> anyhow::Result<Vec<Arc<Firm>>> {
    let mut admin = system.admin().await?;
    let mut firms = Vec::new();
    for number in 0..FIRMS {
        let tenant = create_tenant(system, number).await?;
        let firm = Firm {
            tenant,
            number,
            next_entry: AtomicU64::new(TIME_ENTRIES),
        };
        let rows = format!(
            include_str!("seed.sql"),
            tenant = firm.tenant,
            client = firm.client(),
            digits = firm.digits(0),
            projects = PROJECTS,
            consultants = CONSULTANTS,
            entries = TIME_ENTRIES,
            first_start = FIRST_START.unix_timestamp(),
        );
        sqlx::raw_sql(AssertSqlSafe(rows))
            .execute(&mut admin)
            .await
            .context("the rows of a firm are refused")?;
        firms.push(Arc::new(firm));
    }
    sqlx::raw_sql("vacuum analyze").execute(&mut admin).await?;
    for firm in &firms {
        is_let_in(system, firm).await?;
    }
    system.settle().await?;
    Ok(firms)
}

async fn create_tenant(system: &System, number: u64) -> anyhow::Result<TenantId> {
    let tenant = Tenant {
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
    let created = TenantServiceClient::new(connect(system)?)
        .create_tenant(request)
        .await?;
    let tenant = created
        .into_inner()
        .tenant
        .context("the answer holds no tenant")?;
    TenantId::parse_strict(&tenant.id).context("the tenant's id is none")
}

/// Services learn of a new tenant by the bus, each in its own time.
async fn is_let_in(system: &System, firm: &Firm) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let metadata = metadata(system, firm.tenant, "bench", "admin")?;
    loop {
        let mut projects = Request::new(ListProjectsRequest::default());
        projects.metadata_mut().clone_from(&metadata);
        let mut entries = Request::new(ListTimeEntriesRequest::default());
        entries.metadata_mut().clone_from(&metadata);
        let projects = ProjectServiceClient::new(connect(system)?)
            .list_projects(projects)
            .await;
        let entries = TimeEntryServiceClient::new(connect(system)?)
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
