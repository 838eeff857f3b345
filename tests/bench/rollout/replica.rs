//! One replica: a process of its own, always on the same ports, and a probe that asks whether it is ready.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use catalyst::deployment::Deployment;
use harness::free_port;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::balance::Place;

/// How often the probe asks.
const PROBE: Duration = Duration::from_millis(100);
/// Replicas share the machine with everything else.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Beyond this a stop is no measure any more.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A replica of a service.
pub(super) struct Replica {
    service: &'static str,
    number: u8,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    place: Arc<Place>,
    child: Child,
    _probe: JoinSet<()>,
}

impl Replica {
    /// Starts one and waits until it is ready.
    pub(super) async fn start(
        deployment: &Deployment,
        service: &'static str,
        number: u8,
    ) -> anyhow::Result<Self> {
        let (port, admin_port) = (free_port(), free_port());
        let mut environment = harness::environment(deployment);
        environment.extend([
            ("CATALYST_LISTEN", format!("127.0.0.1:{port}")),
            ("CATALYST_ADMIN_LISTEN", format!("127.0.0.1:{admin_port}")),
            // Twice five services and a server of 200 connections.
            ("CATALYST_DATABASE_MAX_CONNECTIONS", "8".to_owned()),
            ("CATALYST_LOG", "warn".to_owned()),
        ]);
        let place = Arc::new(Place {
            address: ([127, 0, 0, 1], port).into(),
            ready: AtomicBool::new(false),
        });
        let mut probing = JoinSet::new();
        probing.spawn(probe(admin_port, Arc::clone(&place)));
        let log = deployment.stack.identity_dir.with_file_name("");
        let log = log.join(format!("{service}-{number}.log"));
        let child = spawn(service, &environment, &log)?;
        let mut replica = Self {
            service,
            number,
            environment,
            log,
            place,
            child,
            _probe: probing,
        };
        replica.is_ready().await?;
        Ok(replica)
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.service, self.number)
    }

    pub(super) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// SIGTERM, and the time until its end, which must be an orderly one.
    pub(super) async fn stop(&mut self) -> anyhow::Result<Duration> {
        let since = Instant::now();
        let pid = self.child.id().context("it has ended before")?;
        let sent = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status();
        ensure!(
            sent.await?.success(),
            "{} cannot be told to stop",
            self.name()
        );
        let ended = timeout(STOP_WITHIN, self.child.wait()).await;
        let status = ended.with_context(|| format!("{} does not stop", self.name()))??;
        ensure!(status.success(), "{} ended with {status}", self.name());
        Ok(since.elapsed())
    }

    /// Starts it where it was, and the time until its probe says that it is ready.
    pub(super) async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let since = Instant::now();
        self.place.ready.store(false, Ordering::Release);
        self.child = spawn(self.service, &self.environment, &self.log)?;
        self.is_ready().await?;
        Ok(since.elapsed())
    }

    async fn is_ready(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        let mut looks = interval(PROBE);
        while !self.place.ready.load(Ordering::Acquire) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start with {status}", self.name());
            }
            ensure!(
                since.elapsed() < READY_WITHIN,
                "{} does not become ready",
                self.name()
            );
            looks.tick().await;
        }
        Ok(())
    }
}

/// A process that serves one service and writes to a log.
pub(crate) fn spawn(
    service: &str,
    environment: &[(&'static str, String)],
    log: &PathBuf,
) -> anyhow::Result<Child> {
    let output = File::options().create(true).append(true).open(log)?;
    Command::new(harness::binary())
        .args(["serve", service])
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {service}"))
}

/// Asks again and again, as a kubelet does.
async fn probe(admin_port: u16, place: Arc<Place>) {
    let Ok(http) = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
    else {
        return;
    };
    let url = format!("http://127.0.0.1:{admin_port}/readyz");
    let mut pace = interval(PROBE);
    loop {
        pace.tick().await;
        let answer = http.get(&url).send().await;
        let ready = answer.is_ok_and(|answer| answer.status().is_success());
        place.ready.store(ready, Ordering::Release);
    }
}
