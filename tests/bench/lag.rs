//! From a commit to the stream: projects created at a steady rate, and when a subscriber hears of each, also while
//! another firm's events wait in great number.
//!
//! The rate does not wait for answers. A subscriber hears what the stream has stored and synced. A commit lies between
//! its call and the answer, so the time from it to the event lies between the two that are measured: the goals judge
//! the longer one, from when the call was due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::ConnectOptions;
use futures::StreamExt as _;
use kit::ctx::Clock;
use kit::tasks::Tasks;
use proto::projects::v1::{CreateProjectRequest, CreateProjectResponse, Project};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;

use crate::Bench;
use crate::create;
use crate::load::{Caller, Callers, Load, Pace, User};
use crate::relay::{self, emptied, fill};
use crate::report::{OURS, Report};
use crate::wire::{CREATE_PROJECT, Wire};

const CREATED: &str = "catalyst.*.projects.project_created";
const PERCENTILES: [(usize, &str); 3] = [(50, "p50"), (99, "p99"), (100, "max")];
/// Callers of other firms beside a backlog.
const OTHERS: u16 = 16;
/// How long the last events may need.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const MEDIAN: &str = "lag: call to subscriber p50, ms";
pub(crate) const SLOW: &str = "lag: call to subscriber p99, ms";
/// The limit, as the report calls it.
pub(crate) const ALONE: &str = "commit, then publish, alone";
/// Creates a second where nothing else is said.
const RATE: u32 = 200;

/// What cannot be faster, then calls at the rate for the time of a round, and waits for every event.
pub(crate) async fn round(
    bench: &Bench<'_>,
    rate: Option<u32>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let alone = alone(bench).await?;
    report.record(MEDIAN, ALONE, alone.percentile(50));
    report.record(SLOW, ALONE, alone.percentile(99));
    let mut arrivals = listen(bench).await?;
    let callers = bench.callers.each(|caller| caller).await?;
    let rate = rate.unwrap_or(RATE);
    let way = create_at(rate, callers, &mut arrivals, async {
        tokio::time::sleep(bench.time).await;
        Ok(())
    })
    .await?;
    report.record("lag: creates/s", OURS, way.calls.per_second);
    for (percent, name) in PERCENTILES {
        let measure = format!("lag: create {name}, ms");
        report.record(&measure, OURS, way.calls.percentile(percent));
        let measure = format!("lag: call to subscriber {name}, ms");
        report.record(&measure, OURS, way.since_call.percentile(percent));
        let measure = format!("lag: answer to subscriber {name}, ms");
        report.record(&measure, OURS, way.since_answer.percentile(percent));
    }
    bench.system.settle().await
}

/// The outbox of one firm is full while another's projects are created at ten a second.
pub(crate) async fn backlog(
    bench: &Bench<'_>,
    events: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut arrivals = listen(bench).await?;
    let mut admin = bench.system.admin().await?;
    let whale = bench.firms.first().context("there is a firm")?;
    let (_, others) = bench.firms.split_first().context("there are firms")?;
    let others = Callers::new(bench.system, others, OTHERS)?;
    let others = others.each(|caller| caller).await?;
    fill(whale, events, &mut admin).await?;
    let started = Instant::now();
    let way = create_at(10, others, &mut arrivals, emptied(whale, &mut admin)).await?;
    let measure = format!("backlog of {events}: emptied, events/s");
    report.record(
        &measure,
        OURS,
        f64::from(events) / started.elapsed().as_secs_f64(),
    );
    for (percent, name) in PERCENTILES {
        let measure = format!("backlog of {events}: lag of others {name}, ms");
        report.record(&measure, OURS, way.since_call.percentile(percent));
    }
    bench.system.settle().await
}

type Arrivals = mpsc::UnboundedReceiver<(String, Instant)>;

/// Which project's creation a subscriber hears of, and when.
async fn listen(bench: &Bench<'_>) -> anyhow::Result<Arrivals> {
    let stack = &bench.system.deployment.stack;
    let credentials = stack.credentials_dir.join("operator.creds");
    let subscriber = ConnectOptions::with_credentials_file(credentials)
        .await?
        .custom_inbox_prefix("_INBOX_operator")
        .subscription_capacity(1 << 20)
        .connect(&stack.nats_url)
        .await?;
    let mut events = subscriber.subscribe(CREATED).await?;
    subscriber.flush().await?;
    let (heard, arrivals) = mpsc::unbounded_channel();
    Tasks::new().spawn(async move {
        while let Some(event) = events.next().await {
            let arrived = Instant::now();
            let headers = event.headers.as_ref();
            let project = headers.and_then(|headers| headers.get("ce-subject"));
            let project = project.map(ToString::to_string).unwrap_or_default();
            if heard.send((project, arrived)).is_err() {
                return;
            }
        }
    });
    Ok(arrivals)
}

/// The least that an event needs: a project committed by one client of `pgbench`, without an outbox, and a message
/// stored by a plain client, each time one of both.
async fn alone(bench: &Bench<'_>) -> anyhow::Result<Load> {
    let firm = bench.firms.first().context("there is a firm")?;
    let mut scripts = create::scripts(&bench.pgbench, firm).into_iter();
    let commit = scripts.find(|(name, _)| *name == create::NO_OUTBOX);
    let (_, commit) = commit.context("there is such a script")?;
    let commits = bench.pgbench.alone(&commit).await?;
    let client = relay::connect(bench).await?;
    let mut both = Vec::new();
    let started = Instant::now();
    for commit in commits {
        if started.elapsed() > bench.time {
            break;
        }
        let message = relay::message(firm)?;
        let sent = Instant::now();
        relay::publish(&client, message).await?;
        both.push(commit + sent.elapsed());
    }
    let elapsed = started.elapsed();
    bench.system.settle().await?;
    ensure!(!both.is_empty(), "nothing was committed and published");
    Ok(Load::of(both, elapsed))
}

/// What became of creates: how long the calls took since they were due, and how long it was until a subscriber heard.
struct Way {
    calls: Load,
    since_call: Load,
    since_answer: Load,
}

/// Creates projects at the rate until `end`.
async fn create_at(
    rate: u32,
    mut callers: Vec<Caller>,
    arrivals: &mut Arrivals,
    end: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Way> {
    let mut pace = Pace::of(rate)?;
    let mut turns = (0..callers.len()).cycle();
    let mut running = JoinSet::new();
    let started = Instant::now();
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            ended = &mut end => break ended?,
            due = pace.next() => {
                let due = due?;
                let turn = turns.next().and_then(|turn| callers.get_mut(turn));
                let caller = turn.context("there is a caller")?;
                let user = caller.user()?;
                let number = caller.random(user.firm.clients());
                running.spawn(create(caller.wire.clone(), user, number, due));
            }
        }
    }
    let mut answered = HashMap::new();
    let mut calls = Vec::new();
    while let Some(done) = running.join_next().await {
        let (project, due, at) = done?.context("a call failed")?;
        calls.push(at - due);
        answered.insert(project, (due, at));
    }
    let elapsed = started.elapsed();
    let (mut since_call, mut since_answer) = (Vec::new(), Vec::new());
    while since_call.len() < answered.len() {
        let (project, arrived) = timeout(PATIENCE, arrivals.recv())
            .await
            .context("an event did not arrive")?
            .context("the subscriber ended")?;
        if let Some((due, at)) = answered.get(&project) {
            since_call.push(arrived.saturating_duration_since(*due));
            since_answer.push(arrived.saturating_duration_since(*at));
        }
    }
    ensure!(!since_call.is_empty(), "no call was made");
    Ok(Way {
        calls: Load::of(calls, elapsed),
        since_call: Load::of(since_call, elapsed),
        since_answer: Load::of(since_answer, elapsed),
    })
}

/// The project, when its call was due and when it was answered.
async fn create(
    wire: Wire,
    user: Arc<User>,
    client: u64,
    due: Instant,
) -> Result<(String, Instant, Instant), Status> {
    let project = Project {
        client_id: user.firm.client(client).to_string(),
        code: Clock::system().new_uuid().simple().to_string(),
        display_name: "New".to_owned(),
        billable: true,
        ..Project::default()
    };
    let request = CreateProjectRequest {
        project: Some(project),
        ..CreateProjectRequest::default()
    };
    let answer: CreateProjectResponse = wire.call(&user, CREATE_PROJECT, &request).await?;
    let answered = Instant::now();
    let project = answer.project.unwrap_or_default();
    Ok((project.id, due, answered))
}
