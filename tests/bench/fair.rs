//! Fairness: what other firms feel while one asks for many times what they do, and what that one is told.
//!
//! Invariant: calls are made when they are due, whether answers come or not, and their time counts from then: a system
//! that slows its callers down hides nothing by it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kit::ctx::Clock;
use kit::settings::LimitSettings;
use proto::projects::v1::{
    CreateProjectRequest, CreateProjectResponse, GetProjectRequest, GetProjectResponse,
    ListProjectsRequest, Project,
};
use tokio::task::JoinSet;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::load::{Load, Pace, User, count};
use crate::report::{OURS, Report};
use crate::seed::Firm;
use crate::system::System;
use crate::wire::{CREATE_PROJECT, GET_PROJECT, LIST_PROJECTS, Wire};

/// Calls a second that a firm may make here.
const LIMIT: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
/// Calls a second of each other firm.
const RATE: u32 = 50;
/// How many times as often the noisy firm calls as another one.
const NOISE: u32 = 20;
/// Firms beside the noisy one.
const OTHERS: usize = 7;

/// An answer counts as one call, and as one more for so many bytes of it.
const BYTES_OF_A_CALL: usize = 8 * 1024;

pub(crate) const REFUSED: &str = "fair: others' calls refused beside the noise";
pub(crate) const P50: &str = "fair: others' p50 beside the noise, ms";
pub(crate) const P99: &str = "fair: others' p99 beside the noise, ms";
const READS: &str = "fair: others' reads beside the noise, p99 ms";
const WRITES: &str = "fair: others' writes beside the noise, p99 ms";
pub(crate) const ALONE: &str = "without it";
pub(crate) const ADMITTED: &str = "fair: the noisy firm, what its calls count a second";
pub(crate) const ITS_LIMIT: &str = "its limit";
pub(crate) const TOLD: &str = "fair: p99 until told of a limit, ms";

/// The limits of a product that is smaller than this machine, so that one firm can be far past its own.
pub(crate) fn limits() -> LimitSettings {
    LimitSettings {
        tenant_calls_per_second: LIMIT,
        tenant_concurrent_calls: NonZeroU32::MIN.saturating_add(63),
    }
}

/// Others alone, then the same beside a firm that asks for pages of 500 and creates projects at twenty times their rate.
pub(crate) async fn round(
    system: &System,
    firms: &[Arc<Firm>],
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut ordinary = firms.iter().filter(|firm| firm.is_ordinary());
    let noisy = ordinary.next().context("there are firms")?;
    let others = lines(system, ordinary.take(OTHERS)).await?;
    let rate = RATE * u32::try_from(others.len())?;
    let quiet = open_loop(&others, rate, time, neighbor).await?;
    system.settle().await?;
    let noisy = lines(system, [noisy]).await?;
    let counts = Arc::new(AtomicU64::new(0));
    let (beside, noise) = tokio::join!(
        open_loop(&others, rate, time, neighbor),
        open_loop(&noisy, RATE * NOISE, time, |line, number| heavy(
            line,
            number,
            Arc::clone(&counts)
        )),
    );
    let (beside, noise) = (beside?, noise?);
    system.settle().await?;

    if let Some(status) = quiet.refusals.first() {
        bail!("a firm within its limits is refused although nobody else calls: {status}");
    }
    report.record(REFUSED, OURS, count(beside.refusals.len()));
    for (percent, measure) in [(50, P50), (99, P99)] {
        report.record(measure, OURS, beside.ok.percentile(percent));
        report.record(measure, ALONE, quiet.ok.percentile(percent));
    }
    for (measure, writes) in [(READS, false), (WRITES, true)] {
        report.record(measure, OURS, beside.of_kind(writes, time).percentile(99));
        report.record(measure, ALONE, quiet.of_kind(writes, time).percentile(99));
    }
    report.record("fair: others, calls/s", OURS, beside.ok.per_second);
    let seconds = time.as_secs_f64();
    // The burst that is full at the beginning counts once.
    let allowed = f64::from(LIMIT.get()) * (seconds + 1.0) / seconds;
    let counts = f64::from(u32::try_from(counts.load(Ordering::Relaxed))?);
    report.record(ADMITTED, OURS, counts / seconds);
    report.record(ADMITTED, ITS_LIMIT, allowed);
    report.record(
        "fair: the noisy firm, calls/s",
        OURS,
        noise.ok.calls / seconds,
    );
    report.record(
        "fair: the noisy firm, limited calls/s",
        OURS,
        noise.limited.calls / seconds,
    );
    let not_for_a_limit = noise.refusals.iter().filter(|it| !is_limit(it)).count();
    report.record(
        "fair: the noisy firm, calls refused otherwise",
        OURS,
        count(not_for_a_limit),
    );
    report.record(TOLD, OURS, noise.limited.percentile(99));
    Ok(())
}

/// A connection of a user of a firm, which no other firm shares.
#[derive(Clone)]
pub(crate) struct Line {
    user: Arc<User>,
    wire: Wire,
}

pub(crate) async fn lines(
    system: &System,
    firms: impl IntoIterator<Item = &Arc<Firm>>,
) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for firm in firms {
        lines.push(Line {
            user: Arc::new(User::of(system, firm)?),
            wire: Wire::connect(&system.url).await?,
        });
    }
    Ok(lines)
}

/// How calls ended, and when after they were due.
pub(crate) struct Seen {
    pub(crate) ok: Load,
    /// The number of each of these, and how long it took.
    took: Vec<(u64, Duration)>,
    /// The numbers of calls that were done while others were made.
    pub(crate) in_time: Vec<u64>,
    limited: Load,
    /// Limited or not.
    pub(crate) refused: Load,
    pub(crate) refusals: Vec<Status>,
    /// When the last call was due that was refused.
    pub(crate) last_refusal: Duration,
}

impl Seen {
    /// The writes of neighbors, or their reads, that were done within this time.
    fn of_kind(&self, writes: bool, time: Duration) -> Load {
        let kind = self
            .took
            .iter()
            .filter(|(number, _)| is_write(*number) == writes);
        Load::of(kind.map(|(_, took)| *took).collect(), time)
    }
}

/// Whether a call was refused for its firm's own limits.
fn is_limit(status: &Status) -> bool {
    let details = status.get_error_details();
    details.quota_failure().is_some()
}

/// Calls at a rate, whether answers come or not; returns when all are answered.
pub(crate) async fn open_loop<F>(
    lines: &[Line],
    rate: u32,
    time: Duration,
    call: impl Fn(Line, u64) -> F,
) -> anyhow::Result<Seen>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    make(lines, rate, time, call).await?.ended().await
}

/// Calls that have been made, not all of them answered.
pub(crate) struct Made {
    /// The number of a call, how it ended, how long after it was due, and when that was.
    running: JoinSet<(u64, Result<(), Status>, Duration, Duration)>,
    time: Duration,
}

/// Calls at a rate, whether answers come or not; returns when all are made.
pub(crate) async fn make<F>(
    lines: &[Line],
    rate: u32,
    time: Duration,
    call: impl Fn(Line, u64) -> F,
) -> anyhow::Result<Made>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let mut pace = Pace::of(rate)?;
    let mut running = JoinSet::new();
    let started = Instant::now();
    for (number, line) in (0..).zip(lines.iter().cycle()) {
        let due = pace.next().await?;
        if due.saturating_duration_since(started) >= time {
            break;
        }
        let calling = call(line.clone(), number);
        running.spawn(async move {
            let outcome = calling.await;
            let due_after = due.saturating_duration_since(started);
            (number, outcome, due.elapsed(), due_after)
        });
    }
    Ok(Made { running, time })
}

impl Made {
    /// Waits until all are answered.
    pub(crate) async fn ended(mut self) -> anyhow::Result<Seen> {
        let (mut took_by_number, mut in_time) = (Vec::new(), Vec::new());
        let (mut limited, mut refused, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        let mut last_refusal = Duration::ZERO;
        while let Some(done) = self.running.join_next().await {
            match done? {
                (number, Ok(()), took, due) => {
                    if due + took <= self.time {
                        in_time.push(number);
                    }
                    took_by_number.push((number, took));
                }
                (_, Err(status), took, due) => {
                    last_refusal = last_refusal.max(due);
                    if is_limit(&status) {
                        limited.push(took);
                    }
                    refused.push(took);
                    refusals.push(status);
                }
            }
        }
        let ok = took_by_number.iter().map(|(_, took)| *took).collect();
        Ok(Seen {
            ok: Load::of(ok, self.time),
            took: took_by_number,
            in_time,
            limited: Load::of(limited, self.time),
            refused: Load::of(refused, self.time),
            refusals,
            last_refusal,
        })
    }
}

/// Whether the call of this number is a write, among four reads.
pub(crate) fn is_write(number: u64) -> bool {
    number.is_multiple_of(5)
}

/// Four reads and a write.
pub(crate) async fn neighbor(line: Line, number: u64) -> Result<(), Status> {
    if is_write(number) {
        create(line, number).await
    } else {
        get(line, number).await
    }
}

/// A great page and a write. What is done is added to `counts`, a large answer as several calls.
async fn heavy(line: Line, number: u64, counts: Arc<AtomicU64>) -> Result<(), Status> {
    if number.is_multiple_of(2) {
        create(line, number).await?;
        counts.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let message = ListProjectsRequest {
        page_size: 500,
        ..ListProjectsRequest::default()
    };
    let page = line
        .wire
        .answer(&line.user, LIST_PROJECTS, &message)
        .await?;
    let calls = 1 + u64::try_from(page.len() / BYTES_OF_A_CALL).unwrap_or(u64::MAX);
    counts.fetch_add(calls, Ordering::Relaxed);
    Ok(())
}

pub(crate) async fn get(line: Line, number: u64) -> Result<(), Status> {
    let firm = &line.user.firm;
    let message = GetProjectRequest {
        project_id: firm.project(number % firm.projects).to_string(),
    };
    let answer = line.wire.call(&line.user, GET_PROJECT, &message).await;
    answer.map(|_: GetProjectResponse| ())
}

pub(crate) async fn create(line: Line, number: u64) -> Result<(), Status> {
    let firm = &line.user.firm;
    let project = Project {
        client_id: firm.client(number % firm.clients()).to_string(),
        code: Clock::system().new_uuid().simple().to_string(),
        display_name: "New".to_owned(),
        billable: true,
        ..Project::default()
    };
    let message = CreateProjectRequest {
        project: Some(project),
        ..CreateProjectRequest::default()
    };
    let answer = line.wire.call(&line.user, CREATE_PROJECT, &message).await;
    answer.map(|_: CreateProjectResponse| ())
}
