//! From a commit to the stream: projects created at a steady rate, and when a subscriber hears of each.
//!
//! The rate does not wait for answers. A subscriber hears what the stream has stored and synced, so the time from the
//! answer of a call, which follows its commit, to the event is an upper bound of the relay's delay.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::ConnectOptions;
use futures::StreamExt as _;
use kit::ctx::Clock;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, Project};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Status;

use crate::Bench;
use crate::load::{Caller, Load};
use crate::report::{OURS, Report};

const CREATED: &str = "catalyst.*.projects.project_created";
/// How long the last events may need.
const PATIENCE: Duration = Duration::from_mins(1);

/// Calls at the rate for the time of a round, then waits for every event.
pub(crate) async fn round(bench: &Bench<'_>, rate: u32, report: &mut Report) -> anyhow::Result<()> {
    let (heard, mut arrivals) = mpsc::unbounded_channel();
    let stack = &bench.system.deployment.stack;
    let subscriber =
        ConnectOptions::with_credentials_file(stack.credentials_dir.join("operator.creds"))
            .await?
            .custom_inbox_prefix("_INBOX_operator")
            .subscription_capacity(1 << 20)
            .connect(&stack.nats_url)
            .await?;
    let mut events = subscriber.subscribe(CREATED).await?;
    subscriber.flush().await?;
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        while let Some(event) = events.next().await {
            let arrived = Instant::now();
            let project = event
                .headers
                .as_ref()
                .and_then(|headers| headers.get("ce-subject"))
                .map(ToString::to_string);
            if project.is_some_and(|project| heard.send((project, arrived)).is_err()) {
                return;
            }
        }
    });

    let callers = bench.callers.each(|caller| caller);
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let started = Instant::now();
    let mut running = JoinSet::new();
    for caller in callers.iter().cycle() {
        let due = ticks.tick().await.into_std();
        if started.elapsed() >= bench.time {
            break;
        }
        running.spawn(create(caller.clone(), due));
    }
    let mut answered = HashMap::new();
    let mut calls = Vec::new();
    while let Some(done) = running.join_next().await {
        let (project, due, at) = done?.context("a call failed")?;
        calls.push(at - due);
        answered.insert(project, at);
    }
    let elapsed = started.elapsed();
    let mut lags = Vec::new();
    while lags.len() < answered.len() {
        let (project, arrived) = timeout(PATIENCE, arrivals.recv())
            .await
            .context("an event did not arrive")?
            .context("the subscriber ended")?;
        if let Some(at) = answered.get(&project) {
            lags.push(arrived.saturating_duration_since(*at));
        }
    }
    ensure!(!lags.is_empty(), "no call was made");
    let (calls, lags) = (Load::of(calls, elapsed), Load::of(lags, elapsed));
    report.record("lag: creates/s", OURS, calls.per_second);
    for (percent, name) in [(50, "p50"), (99, "p99"), (100, "max")] {
        report.record(
            &format!("lag: create {name}, ms"),
            OURS,
            calls.percentile(percent),
        );
        report.record(
            &format!("lag: answer to subscriber {name}, ms"),
            OURS,
            lags.percentile(percent),
        );
    }
    bench.system.settle().await
}

/// The project, when its call was due and when it was answered.
async fn create(caller: Caller, due: Instant) -> Result<(String, Instant, Instant), Status> {
    let project = Project {
        client_id: caller.firm.client().to_string(),
        code: Clock::system().new_uuid().simple().to_string(),
        display_name: "New".to_owned(),
        billable: true,
        ..Project::default()
    };
    let request = CreateProjectRequest {
        project: Some(project),
        ..CreateProjectRequest::default()
    };
    let mut client = ProjectServiceClient::new(caller.channel.clone());
    let answer = client.create_project(caller.request(request)).await?;
    let answered = Instant::now();
    let project = answer.into_inner().project.unwrap_or_default();
    Ok((project.id, due, answered))
}
