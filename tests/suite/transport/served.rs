//! A service in a process of its own, which can be measured, and a well-behaved caller of it.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Firm, free_address, within};
use proto::consultants::v1 as pb;
use proto::consultants::v1::consultant_service_client::ConsultantServiceClient;
use tonic::Request;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use crate::binary::program::serve_command;

/// `catalyst serve consultants`, ended with the test.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Served {
    pub(super) async fn start(changes: &[(&str, &str)]) -> Self {
        let (address, admin) = (free_address(), free_address());
        let (listen, admin_listen) = (address.to_string(), admin.to_string());
        let mut changes = changes.to_vec();
        changes.push(("CATALYST_LISTEN", &listen));
        changes.push(("CATALYST_ADMIN_LISTEN", &admin_listen));
        let child = serve_command("consultants", &changes)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let served = Self {
            address,
            admin,
            child,
        };
        let channel = within(Duration::from_secs(30), async || {
            served.endpoint().connect().await.ok()
        });
        assert!(channel.await.is_some(), "the process does not listen");
        served
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL")
    }

    /// Whether its probe says that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let url = format!("http://{}/readyz", self.admin);
        let answer = reqwest::get(url).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Sends it SIGTERM.
    pub(super) fn terminate(&self) {
        let told = std::process::Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(told.expect("kill runs").success());
    }

    /// Waits for its end, and the code that it ends with.
    pub(super) async fn ends(&mut self) -> Option<i32> {
        let ended = within(Duration::from_secs(30), async || {
            self.child.try_wait().ok().flatten()
        });
        ended.await.expect("it ends").code()
    }

    /// How often the process has counted this kind of abuse.
    pub(super) async fn abuses(&self, kind: &str) -> u64 {
        let url = format!("http://{}/metrics", self.admin);
        let answer = reqwest::get(url).await.expect("the metrics");
        let text = answer.text().await.expect("text");
        let label = format!("abuse=\"{kind}\"");
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with("catalyst_server_abuses") && line.contains(&label));
        lines
            .next()
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Memory in use, in KiB.
    pub(super) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|kib| kib.parse().ok())
            .expect("its size")
    }

    /// Processor time used so far.
    pub(super) fn processor(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("it runs");
        // Behind the name in parentheses the fields of user and system time are the 12th and 13th.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Waits until the process is quiet: less than a quarter of a processor over half a second, within five seconds.
    pub(super) async fn calms_down(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(500));
        looks.tick().await;
        let calm = within(Duration::from_secs(5), async || {
            let before = self.processor();
            looks.tick().await;
            let used = self.processor().saturating_sub(before);
            (used < Duration::from_millis(125)).then_some(())
        });
        assert!(calm.await.is_some(), "the process is still busy");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A caller that reads one consultant again and again, on a connection of its own.
pub(super) struct Beside {
    stop: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Beside {
    pub(super) async fn start(served: &Served, firm: &Firm) -> Self {
        let consultant = firm.hires("Kim").await.id;
        let channel = served.endpoint().connect().await.expect("connected");
        // The first call of a new process waits for the news of the firm.
        read(&channel, firm.metadata(), &consultant)
            .await
            .expect("the firm is let in");
        let stop = Arc::new(AtomicBool::new(false));
        let calls = work(
            channel,
            firm.metadata().clone(),
            consultant,
            Arc::clone(&stop),
        );
        Self {
            stop,
            calls: spawned(calls),
        }
    }

    /// Stops; every call has succeeded, and there were some.
    pub(super) async fn was_served(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, failures) = self.calls.await.expect("the caller ends");
        assert!(
            failures.is_empty(),
            "{} of {calls}: {failures:?}",
            failures.len()
        );
        calls
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a caller beside the test, awaited at its end"
)]
fn spawned<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(task)
}

async fn work(
    channel: Channel,
    metadata: MetadataMap,
    consultant: String,
    stop: Arc<AtomicBool>,
) -> (usize, Vec<String>) {
    let mut calls = 0;
    let mut failures = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    // One at least: what is beside it may be over before the machine comes to it.
    loop {
        calls += 1;
        let since = Instant::now();
        if let Err(status) = read(&channel, &metadata, &consultant).await {
            failures.push(format!("{status:?} after {:?}", since.elapsed()));
        }
        if stop.load(Ordering::Relaxed) {
            return (calls, failures);
        }
        pace.tick().await;
    }
}

async fn read(
    channel: &Channel,
    metadata: &MetadataMap,
    consultant: &str,
) -> Result<(), tonic::Status> {
    let mut request = Request::new(pb::GetConsultantRequest {
        consultant_id: consultant.to_owned(),
    });
    *request.metadata_mut() = metadata.clone();
    let mut client = ConsultantServiceClient::new(channel.clone());
    client.get_consultant(request).await.map(drop)
}
