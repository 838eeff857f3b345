//! One `catalyst serve projects` as a process of its own, with the servers up: how soon it answers and what it holds
//! in memory when nobody calls. Its settings are those of the product.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harness::free_port;
use proto::projects::v1::GetProjectRequest;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use tokio::process::Child;
use tokio::time::sleep;
use tonic::transport::Endpoint;

use crate::Bench;
use crate::program::{own, resident, stop};
use crate::report::{OURS, Report};
use crate::rollout::spawn;

pub(crate) const START: &str = "exec to first answer, ms";
pub(crate) const MEMORY: &str = "idle memory, MB";
/// Without the pages of the program, which all processes of it share.
pub(crate) const OWN: &str = "idle memory of its own, MB";
/// What the report calls it beside the firms of `tenants`.
pub(crate) const WITH_MORE: &str = "with 3,000 more firms";
const SERVICE: &str = "projects";
/// How often a caller tries that waits for the first answer.
const LOOK: Duration = Duration::from_millis(1);
/// How long it may be idle before its memory is read.
const REST: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// Builds the program if it is not built, which is no part of its start.
pub(crate) fn prepare() {
    harness::binary();
}

/// Starts it, has one call answered, lets it rest and ends it.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let idle = once(bench).await?;
    report.record(START, OURS, idle.start);
    report.record(MEMORY, OURS, idle.memory);
    report.record(OWN, OURS, idle.own);
    Ok(())
}

/// Its memory, with more firms than the rounds before had.
pub(crate) async fn round_of_more(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let idle = once(bench).await?;
    report.record(OWN, WITH_MORE, idle.own);
    Ok(())
}

struct Idle {
    /// Milliseconds to the first answer.
    start: f64,
    /// Millions of bytes at rest, pages of the program included, and without them.
    memory: f64,
    own: f64,
}

async fn once(bench: &Bench<'_>) -> anyhow::Result<Idle> {
    let (port, admin_port) = (free_port(), free_port());
    let mut environment = harness::environment(&bench.system.deployment);
    environment.extend([
        ("CATALYST_LISTEN", format!("127.0.0.1:{port}")),
        ("CATALYST_ADMIN_LISTEN", format!("127.0.0.1:{admin_port}")),
        // The default, where the tests choose less.
        ("CATALYST_DATABASE_MAX_CONNECTIONS", "12".to_owned()),
        ("CATALYST_LOG", "warn".to_owned()),
    ]);
    let log = bench.system.dir.join("idle.log");
    let started = Instant::now();
    let mut child = spawn(SERVICE, &environment, &log)?;
    answers(bench, port, &mut child, &log).await?;
    let start = started.elapsed().as_secs_f64() * 1e3;
    sleep(REST).await;
    let pid = child.id().context("it has ended")?;
    let (memory, own) = (resident(pid)? / 1e6, own(pid)? / 1e6);
    stop(&mut child).await?;
    bench.system.settle().await?;
    Ok(Idle { start, memory, own })
}

/// Waits until a project is answered, each time by a new connection.
async fn answers(
    bench: &Bench<'_>,
    port: u16,
    child: &mut Child,
    log: &Path,
) -> anyhow::Result<()> {
    let mut callers = bench.callers.so_many(1, |caller| caller).await?;
    let user = callers.first_mut().context("there is a caller")?.user()?;
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(channel) = endpoint.connect().await {
            let request = user.request(GetProjectRequest {
                project_id: user.firm.project(0).to_string(),
            });
            let answer = ProjectServiceClient::new(channel)
                .get_project(request)
                .await;
            if answer.is_ok() {
                return Ok(());
            }
        }
        let log = log.display();
        ensure!(child.try_wait()?.is_none(), "it ended at its start: {log}");
        ensure!(Instant::now() < deadline, "it does not answer: {log}");
        sleep(LOOK).await;
    }
}
