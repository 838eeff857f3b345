//! One seeded run of one cell: firms of its own, load, fault, rest, judgment.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use fastrand::Rng;
use kit::TenantId;
use prost::Message as _;
use proto::tenants::v1 as tenants;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::cells::{Cell, Fault};
use crate::checker::{Breach, Invariant, Tally, Verdict, check};
use crate::client::{self, call, is_open};
use crate::collect;
use crate::history::{CANARY, CANARY_DIGITS, Firm, Noun};
use crate::inject::{Scene, inject};
use crate::program::NotReached;
use crate::stack::{NotPermitted, Stack};
use crate::workload::Load;
use crate::{Profile, say};

/// Firms of a run.
const FIRMS: usize = 3;
/// Workers of each firm.
const WORKERS: usize = 2;
/// How soon after a fault everything must be at rest. A consumer's events wait five seconds when it was killed.
pub(crate) const REST_WITHIN: Duration = Duration::from_secs(45);
/// What takes longer than a killed consumer's events wait is said.
const LONG: Duration = Duration::from_secs(8);
/// Before a fault, and after it: so many writes must be acknowledged.
const BEFORE: u64 = 20;
const AFTER: u64 = 20;
const GOES_ON_WITHIN: Duration = Duration::from_secs(45);

/// What became of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) cell: Cell,
    pub(crate) seed: u64,
    pub(crate) tally: Tally,
    pub(crate) end: End,
    pub(crate) times: Times,
}

/// How long the parts of a run took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    /// From nothing until the fault.
    pub(crate) before: Duration,
    /// The fault, until everything that was taken away is back.
    pub(crate) fault: Duration,
    /// Until writes went on and every open outcome was known.
    pub(crate) after: Duration,
    /// Until nothing was under way.
    pub(crate) rest: Duration,
    /// The judgment.
    pub(crate) judged: Duration,
}

impl Times {
    /// All of it.
    pub(crate) fn sum(self) -> Duration {
        self.before + self.fault + self.after + self.rest + self.judged
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum End {
    Held,
    Broke(Vec<Breach>),
    /// The fault could not be done, so nothing was shown.
    NotTried(String),
    /// This machine does not permit it.
    Skipped(String),
}

impl Trial {
    /// A run that this machine does not permit.
    pub(crate) fn skipped(cell: Cell, seed: u64, why: String) -> Self {
        Self {
            cell,
            seed,
            tally: Tally::default(),
            end: End::Skipped(why),
            times: Times::default(),
        }
    }
}

/// Runs a cell on a system, which is as it was afterwards unless something broke.
pub(crate) async fn run(stack: &mut Stack, cell: Cell, seed: u64, profile: Profile) -> Trial {
    let mut times = Times::default();
    let outcome = judged(stack, cell, seed, profile, &mut times).await;
    let (tally, end) = match outcome {
        Ok(verdict) if verdict.breaches.is_empty() => (verdict.tally, End::Held),
        Ok(verdict) => (verdict.tally, End::Broke(verdict.breaches)),
        Err(error) if error.is::<NotPermitted>() => {
            (Tally::default(), End::Skipped(format!("{error:#}")))
        }
        Err(error) if error.is::<NotReached>() => {
            (Tally::default(), End::NotTried(format!("{error:#}")))
        }
        // Something that should work after the fault does not.
        Err(error) => {
            let what = format!("{error:#}");
            let breach = Breach {
                invariant: Invariant::I9,
                what,
            };
            (Tally::default(), End::Broke(vec![breach]))
        }
    };
    Trial {
        cell,
        seed,
        tally,
        end,
        times,
    }
}

async fn judged(
    stack: &mut Stack,
    cell: Cell,
    seed: u64,
    profile: Profile,
    times: &mut Times,
) -> anyhow::Result<Verdict> {
    let mut since = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let firms = firms(stack, &mut rng, FIRMS).await?;
    let issuer = stack.deployment.keys.development_issuer()?;
    let hasty = cell.fault == Fault::Cancel;
    let load = Load::start(
        stack.lines.clone(),
        issuer,
        firms,
        WORKERS,
        hasty,
        rng.u64(..),
    )?;
    load.goes_on(BEFORE, GOES_ON_WITHIN).await?;
    let mut scene = Scene {
        stack: &mut *stack,
        load: &load,
        rng: rng.fork(),
        stopped: profile.stopped(),
        is_brief: profile.is_brief(),
        forged: Vec::new(),
    };
    times.before = lap(&mut since);
    let injected = inject(&mut scene, cell).await;
    times.fault = lap(&mut since);
    injected?;
    let forged = scene.forged;
    load.goes_on(AFTER, GOES_ON_WITHIN).await?;
    let mut history = load.stop().await?;
    history.forged = forged;
    times.after = lap(&mut since);
    let rest = stack.settle(REST_WITHIN).await;
    times.rest = lap(&mut since);
    if times.rest > LONG {
        say(&format!("    came to rest late: {}", rest.last.join(", ")));
    }
    let evidence = collect::evidence(stack, &history, rest.unsettled()).await?;
    let verdict = check(&history, &evidence);
    times.judged = lap(&mut since);
    Ok(verdict)
}

fn lap(since: &mut Instant) -> Duration {
    let lap = since.elapsed();
    *since = Instant::now();
    lap
}

/// New firms that every service lets in.
pub(crate) async fn firms(stack: &Stack, rng: &mut Rng, count: usize) -> anyhow::Result<Vec<Firm>> {
    let issuer = stack.deployment.keys.development_issuer()?;
    let operator = client::metadata(&issuer, TenantId::PLATFORM, "faults", "platform_operator")?;
    let mut firms = Vec::new();
    for _ in 0..count {
        let digits: String = (0..CANARY_DIGITS).map(|_| rng.digit(16)).collect();
        let tenant = tenants::Tenant {
            // Not of the seed: a seed may be run twice on one system.
            slug: format!("firm-{}", kit::ctx::Clock::system().new_uuid().simple()),
            display_name: "A firm".to_owned(),
            time_zone: "UTC".to_owned(),
            currency_code: "EUR".to_owned(),
            ..Default::default()
        };
        let request = tenants::CreateTenantRequest {
            tenant: Some(tenant),
            request_id: kit::ctx::Clock::system().new_uuid().to_string(),
        };
        let method = "catalyst.tenants.v1.TenantService/CreateTenant";
        let message = request.encode_to_vec();
        let mut last = String::new();
        let created = harness::within(GOES_ON_WITHIN, async || {
            let channel = stack.lines.to("tenants", 0)?;
            match call(channel, &operator, method, message.clone()).await {
                Ok(answer) => Some(answer),
                Err(status) => {
                    last = status.to_string();
                    None
                }
            }
        });
        let created = created
            .await
            .with_context(|| format!("no firm was created: {last}"))?;
        let created = tenants::CreateTenantResponse::decode(created.as_slice())?;
        let id = created
            .tenant
            .context("the firm is missing in the answer")?
            .id;
        let firm = Firm {
            id: TenantId::parse_strict(&id).context("a firm's id")?,
            canary: format!("{CANARY}{digits}"),
        };
        firms.push(firm);
    }
    for firm in &firms {
        let metadata = client::metadata(&issuer, firm.id, "faults", "admin")?;
        for noun in Noun::ALL {
            let list = noun.list();
            let let_in = harness::within(GOES_ON_WITHIN, async || {
                let channel = stack.lines.to(list.service, 0)?;
                match call(channel, &metadata, list.method, list.message.clone()).await {
                    Ok(_) => Some(()),
                    Err(status) if is_open(&status) => None,
                    Err(status) => (status.code() != Code::PermissionDenied).then_some(()),
                }
            });
            let_in
                .await
                .with_context(|| format!("{} does not let the firm in", list.service))?;
        }
    }
    Ok(firms)
}
