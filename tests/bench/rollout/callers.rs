//! Callers with real tokens of several firms, who read and write at every service and never repeat a call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catalyst::deployment::Deployment;
use kit::TenantId;
use kit::ctx::Clock;
use prost_types::Timestamp;
use proto::audit::v1 as audit;
use proto::audit::v1::audit_service_client::AuditServiceClient;
use proto::consultants::v1 as consultants;
use proto::consultants::v1::consultant_service_client::ConsultantServiceClient;
use proto::projects::v1 as projects;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::tenants::v1 as tenants;
use proto::tenants::v1::tenant_service_client::TenantServiceClient;
use proto::time_entries::v1 as time_entries;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use uuid::Uuid;

use super::balance::{Line, Places};
use crate::load::{metadata_of, told};

const FIRMS: usize = 4;
/// Callers that share their connections, one to each service.
const CALLERS_PER_CLIENT: usize = 4;
/// How long a firm may be unknown to a service after it was admitted.
const NEWS: Duration = Duration::from_secs(30);
/// So many failures are told in full.
const TOLD: usize = 100;
/// 2020-01-01T00:00:00Z, when the first time entry of each caller begins; each takes a quarter of an hour.
const FIRST_START: i64 = 1_577_836_800;
const QUARTER: i64 = 900;

/// Callers that are ready to begin.
pub(super) struct Load(Vec<Caller>);

/// Callers at work.
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    callers: JoinSet<Outcome>,
}

#[derive(Debug, Default)]
struct Tally {
    calls: AtomicUsize,
    failed: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What the callers saw.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From the shortest to the longest, of calls that succeeded.
    latencies: Vec<Duration>,
    /// Ids of what was created, as the answers told them.
    pub(super) written: Vec<Uuid>,
    failed: usize,
    /// The first of the failures.
    pub(super) failures: Vec<String>,
}

/// One caller of one firm.
struct Caller {
    user: MetadataMap,
    operator: MetadataMap,
    tenant: TenantId,
    consultants: ConsultantServiceClient<Line>,
    projects: ProjectServiceClient<Line>,
    time_entries: TimeEntryServiceClient<Line>,
    audit: AuditServiceClient<Line>,
    tenants: TenantServiceClient<Line>,
    client_id: String,
    project_id: String,
    consultant_id: String,
    turn: usize,
    quarters: i64,
}

impl Load {
    /// Admits the firms, with a project and a consultant for each caller, which every service has heard of.
    pub(super) async fn prepare(
        deployment: &Deployment,
        places: &Places,
        callers: u16,
    ) -> anyhow::Result<Self> {
        let operator = metadata_of(
            deployment,
            TenantId::PLATFORM,
            "rollout",
            "platform_operator",
        )?;
        let mut firms = Vec::new();
        for number in 0..FIRMS {
            let mut client = TenantServiceClient::new(places.line("tenants")?);
            let tenant = tenants::Tenant {
                slug: format!("rollout-{number}"),
                display_name: format!("Rollout {number}"),
                time_zone: "UTC".to_owned(),
                currency_code: "EUR".to_owned(),
                ..Default::default()
            };
            let request = tenants::CreateTenantRequest {
                tenant: Some(tenant),
                ..Default::default()
            };
            let created = client.create_tenant(with(&operator, request)).await?;
            let tenant = created.into_inner().tenant.context("no tenant")?;
            firms.push(TenantId::parse_strict(&tenant.id).context("the tenant's id is none")?);
        }
        let mut all: Vec<Caller> = Vec::new();
        for (number, tenant) in firms.iter().cycle().take(usize::from(callers)).enumerate() {
            let user = metadata_of(deployment, *tenant, &format!("caller-{number}"), "admin")?;
            let shared = all.last().filter(|_| number % CALLERS_PER_CLIENT > 0);
            let mut caller = match shared {
                Some(beside) => beside.of_another(*tenant, user),
                None => Caller::new(places, *tenant, user, operator.clone())?,
            };
            caller.settle_in().await?;
            all.push(caller);
        }
        Ok(Self(all))
    }

    /// Begins, with so many calls a second of all callers together.
    pub(super) fn start(self, rate: u32) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let mut callers = JoinSet::new();
        let pause = Duration::from_secs(1)
            .saturating_mul(u32::try_from(self.0.len()).unwrap_or(u32::MAX))
            / rate.max(1);
        for caller in self.0 {
            callers.spawn(caller.work(pause, Arc::clone(&stop), Arc::clone(&tally)));
        }
        Running {
            stop,
            tally,
            callers,
        }
    }
}

impl Running {
    pub(super) fn calls(&self) -> usize {
        self.tally.calls.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> usize {
        self.tally.failed.load(Ordering::Relaxed)
    }

    /// Lets every caller end its call.
    pub(super) async fn stop(mut self) -> anyhow::Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcome {
            failed: 0,
            ..Outcome::default()
        };
        while let Some(outcome) = self.callers.join_next().await {
            let outcome = outcome.context("a caller ended by a panic")?;
            all.latencies.extend(outcome.latencies);
            all.written.extend(outcome.written);
        }
        all.latencies.sort_unstable();
        all.failed = self.failed();
        let failures = self.tally.failures.lock();
        all.failures
            .clone_from(&failures.unwrap_or_else(PoisonError::into_inner));
        ensure!(!all.latencies.is_empty(), "no call was made");
        Ok(all)
    }
}

impl Outcome {
    pub(super) fn calls(&self) -> usize {
        self.latencies.len() + self.failed
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// In milliseconds: as long or shorter was this share of the calls, in percent.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let index = self.latencies.len().saturating_sub(1) * percent / 100;
        self.latencies
            .get(index)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1_000.0)
    }
}

impl Caller {
    fn new(
        places: &Places,
        tenant: TenantId,
        user: MetadataMap,
        operator: MetadataMap,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            user,
            operator,
            tenant,
            consultants: ConsultantServiceClient::new(places.line("consultants")?),
            projects: ProjectServiceClient::new(places.line("projects")?),
            time_entries: TimeEntryServiceClient::new(places.line("time-entries")?),
            audit: AuditServiceClient::new(places.line("audit")?),
            tenants: TenantServiceClient::new(places.line("tenants")?),
            client_id: String::new(),
            project_id: String::new(),
            consultant_id: String::new(),
            turn: 0,
            quarters: 0,
        })
    }

    /// Somebody else on the same connections.
    fn of_another(&self, tenant: TenantId, user: MetadataMap) -> Self {
        Self {
            user,
            operator: self.operator.clone(),
            tenant,
            consultants: self.consultants.clone(),
            projects: self.projects.clone(),
            time_entries: self.time_entries.clone(),
            audit: self.audit.clone(),
            tenants: self.tenants.clone(),
            client_id: String::new(),
            project_id: String::new(),
            consultant_id: String::new(),
            turn: 0,
            quarters: 0,
        }
    }

    /// Makes what the calls are about, once the services know the firm, and waits until time can be recorded on it.
    async fn settle_in(&mut self) -> anyhow::Result<()> {
        let made = harness::within(NEWS, async || self.make().await.ok());
        let (client, project, consultant) = made.await.context("a firm is not let in")?;
        (self.client_id, self.project_id) = (client, project);
        self.consultant_id = consultant;
        let heard = harness::within(NEWS, async || {
            let entry = self.create_time_entry(0).await.ok()?;
            self.list_records().await.ok()?;
            Some(entry)
        });
        heard.await.context("the services do not hear of a firm")?;
        self.quarters = 1;
        Ok(())
    }

    async fn make(&self) -> Result<(String, String, String), Status> {
        let client = projects::Client {
            code: unique(),
            display_name: "North".to_owned(),
            ..Default::default()
        };
        let request = projects::CreateClientRequest {
            client: Some(client),
            ..Default::default()
        };
        let made = self
            .projects
            .clone()
            .create_client(self.request(request))
            .await?;
        let client = made.into_inner().client.unwrap_or_default().id;
        let project = self.create_project(&client).await?;
        Ok((client, project, self.create_consultant().await?))
    }

    async fn work(mut self, pause: Duration, stop: Arc<AtomicBool>, tally: Arc<Tally>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut pace = interval(pause);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let since = Instant::now();
            let (name, answer) = self.next().await;
            tally.calls.fetch_add(1, Ordering::Relaxed);
            match answer {
                Ok(written) => {
                    outcome.latencies.push(since.elapsed());
                    outcome
                        .written
                        .extend(written.and_then(|id| Uuid::parse_str(&id).ok()));
                }
                Err(status) => {
                    tally.failed.fetch_add(1, Ordering::Relaxed);
                    let failures = tally.failures.lock();
                    let mut failures = failures.unwrap_or_else(PoisonError::into_inner);
                    if failures.len() < TOLD {
                        failures.push(format!(
                            "{name} after {:.1?}: {}",
                            since.elapsed(),
                            told(&status)
                        ));
                    }
                }
            }
        }
        outcome
    }

    /// The next call of a fixed sequence, five reads to three writes; the id of what it created.
    async fn next(&mut self) -> (&'static str, Result<Option<String>, Status>) {
        self.turn += 1;
        match self.turn % 8 {
            0 => ("GetConsultant", self.get_consultant().await.map(|()| None)),
            1 => ("GetProject", self.get_project().await.map(|()| None)),
            2 => {
                self.quarters += 1;
                let created = self.create_time_entry(self.quarters).await;
                ("CreateTimeEntry", created.map(Some))
            }
            3 => ("ListRecords", self.list_records().await.map(|()| None)),
            4 => ("CreateConsultant", self.create_consultant().await.map(Some)),
            5 => ("GetTenant", self.get_tenant().await.map(|()| None)),
            6 => {
                let created = self.create_project(&self.client_id).await;
                ("CreateProject", created.map(Some))
            }
            _ => (
                "ListTimeEntries",
                self.list_time_entries().await.map(|()| None),
            ),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        with(&self.user, message)
    }

    async fn get_consultant(&self) -> Result<(), Status> {
        let request = consultants::GetConsultantRequest {
            consultant_id: self.consultant_id.clone(),
        };
        let mut client = self.consultants.clone();
        client.get_consultant(self.request(request)).await.map(drop)
    }

    async fn get_project(&self) -> Result<(), Status> {
        let request = projects::GetProjectRequest {
            project_id: self.project_id.clone(),
        };
        let mut client = self.projects.clone();
        client.get_project(self.request(request)).await.map(drop)
    }

    async fn get_tenant(&self) -> Result<(), Status> {
        let request = tenants::GetTenantRequest {
            tenant_id: self.tenant.to_string(),
        };
        let mut client = self.tenants.clone();
        client
            .get_tenant(with(&self.operator, request))
            .await
            .map(drop)
    }

    async fn list_records(&self) -> Result<(), Status> {
        let request = audit::ListRecordsRequest {
            page_size: 10,
            ..Default::default()
        };
        let mut client = self.audit.clone();
        client.list_records(self.request(request)).await.map(drop)
    }

    async fn list_time_entries(&self) -> Result<(), Status> {
        let request = time_entries::ListTimeEntriesRequest {
            page_size: 10,
            ..Default::default()
        };
        let mut client = self.time_entries.clone();
        client
            .list_time_entries(self.request(request))
            .await
            .map(drop)
    }

    async fn create_consultant(&self) -> Result<String, Status> {
        let consultant = consultants::Consultant {
            code: unique(),
            display_name: "Kim".to_owned(),
            weekly_capacity_minutes: 2_400,
            ..Default::default()
        };
        let request = consultants::CreateConsultantRequest {
            consultant: Some(consultant),
            ..Default::default()
        };
        let mut client = self.consultants.clone();
        let created = client.create_consultant(self.request(request)).await?;
        Ok(created.into_inner().consultant.unwrap_or_default().id)
    }

    async fn create_project(&self, client_id: &str) -> Result<String, Status> {
        let project = projects::Project {
            client_id: client_id.to_owned(),
            code: unique(),
            display_name: "Apollo".to_owned(),
            billable: true,
            ..Default::default()
        };
        let request = projects::CreateProjectRequest {
            project: Some(project),
            ..Default::default()
        };
        let mut client = self.projects.clone();
        let created = client.create_project(self.request(request)).await?;
        Ok(created.into_inner().project.unwrap_or_default().id)
    }

    async fn create_time_entry(&self, quarter: i64) -> Result<String, Status> {
        let at = |quarter: i64| {
            Some(Timestamp {
                seconds: FIRST_START + QUARTER * quarter,
                nanos: 0,
            })
        };
        let entry = time_entries::TimeEntry {
            project_id: self.project_id.clone(),
            consultant_id: self.consultant_id.clone(),
            started_at: at(quarter),
            ended_at: at(quarter + 1),
            time_zone: "UTC".to_owned(),
            ..Default::default()
        };
        let request = time_entries::CreateTimeEntryRequest {
            time_entry: Some(entry),
            ..Default::default()
        };
        let mut client = self.time_entries.clone();
        let created = client.create_time_entry(self.request(request)).await?;
        Ok(created.into_inner().time_entry.unwrap_or_default().id)
    }
}

fn with<T>(metadata: &MetadataMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().clone_from(metadata);
    request
}

fn unique() -> String {
    Clock::system().new_uuid().simple().to_string()
}
