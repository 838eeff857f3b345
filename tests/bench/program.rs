//! All services as one process of the program, so that its memory, threads and descriptors are theirs alone.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use catalyst::deployment::Deployment;
use harness::free_address;
use kit::settings::LimitSettings;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::rollout::spawn;

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// `catalyst serve all` with the settings of the product, but for the limits of a tenant's calls.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(
        deployment: &Deployment,
        limits: LimitSettings,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let address = free_address();
        let admin_address = free_address();
        let mut environment = harness::environment(deployment);
        environment.extend([
            ("CATALYST_LISTEN", address.to_string()),
            ("CATALYST_ADMIN_LISTEN", admin_address.to_string()),
            // The default, where the tests choose less.
            ("CATALYST_DATABASE_MAX_CONNECTIONS", "12".to_owned()),
            (
                "CATALYST_TENANT_CALLS_PER_SECOND",
                limits.tenant_calls_per_second.to_string(),
            ),
            (
                "CATALYST_TENANT_CONCURRENT_CALLS",
                limits.tenant_concurrent_calls.to_string(),
            ),
            ("CATALYST_LOG", "warn".to_owned()),
        ]);
        let mut program = Self {
            child: spawn("all", &environment, &log)?,
            address,
            admin_address,
            log,
        };
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{admin_address}/readyz");
        let ready = harness::within(READY_WITHIN, async || {
            if let Err(ended) = program.runs() {
                return Some(Err(ended));
            }
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(Ok(()))
        });
        let ready = ready.await;
        let log = program.log.display();
        ready.with_context(|| format!("the services do not become ready: {log}"))??;
        Ok(program)
    }

    /// Fails when it has ended by itself.
    pub(crate) fn runs(&mut self) -> anyhow::Result<()> {
        let log = self.log.display();
        match self.child.try_wait()? {
            Some(status) => bail!("the services ended with {status}: {log}"),
            None => Ok(()),
        }
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the services have ended")
    }

    /// SIGTERM, and an orderly end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        stop(&mut self.child).await
    }
}

/// Ends a process of the program by SIGTERM.
pub(crate) async fn stop(child: &mut Child) -> anyhow::Result<()> {
    let pid = child.id().context("it has ended")?;
    let sent = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status();
    ensure!(sent.await?.success(), "it cannot be told to stop");
    let ended = timeout(STOP_WITHIN, child.wait()).await;
    let status = ended.context("it does not stop")??;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// What of a process's memory is in RAM, pages of the program included, in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    Ok(status(pid, "VmRSS:")? * 1_024.0)
}

/// The memory of a process that is no part of a file, in bytes: all but the program itself, which processes share.
pub(crate) fn own(pid: u32) -> anyhow::Result<f64> {
    Ok(status(pid, "RssAnon:")? * 1_024.0)
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> anyhow::Result<f64> {
    status(pid, "Threads:")
}

/// How many file descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> anyhow::Result<f64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(crate::load::count(open))
}

/// A number of the kernel's about a process.
fn status(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number = number.with_context(|| format!("the kernel tells no {name}"))?;
    Ok(number.parse()?)
}
