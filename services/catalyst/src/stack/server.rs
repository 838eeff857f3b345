//! One child server: started in its own group, watched until ready, stopped in order.
//! No signal is ever sent to a number alone: what runs under it must be our server on our own files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::files;

const POLL: Duration = Duration::from_millis(20);

/// A running child; dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// The signals that end a server, each with the time it is given to work.
pub(super) type Farewell = [(&'static str, Duration)];

impl Server {
    /// Starts a server that writes to `log`; the log of the run before is kept beside it.
    pub(super) fn spawn(
        name: &'static str,
        mut command: Command,
        log: &Path,
    ) -> anyhow::Result<Self> {
        if log.exists() {
            fs::rename(log, before(log))?;
        }
        let output =
            File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in the terminal reaches this program alone, which drains before it stops the servers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// The process id, until the server has been seen to end.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until `answers` says yes; fails with the end of the log when the server ends before.
    pub(super) async fn ready(
        &mut self,
        within: Duration,
        answers: impl AsyncFn() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended at start ({status}): {}",
                    self.name,
                    self.last_lines()
                );
            }
            if answers().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready within {} s: {}",
                    self.name,
                    within.as_secs(),
                    self.last_lines()
                );
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the server ends by itself; how it ended, and what it said last.
    pub(super) async fn ended(&mut self) -> anyhow::Result<String> {
        let status = self.child.wait().await?;
        let log = before(&self.log);
        Ok(format!(
            "{} ended ({status}) and is started again: {} (more in {})",
            self.name,
            self.last_lines(),
            log.display()
        ))
    }

    /// Ends the server: each signal in turn until it is gone, at last `KILL`.
    pub(super) async fn stop(&mut self, farewell: &Farewell) -> anyhow::Result<()> {
        for (name, patience) in farewell {
            let Some(pid) = self.pid() else { return Ok(()) };
            signal(pid, name).await?;
            if let Ok(ended) = tokio::time::timeout(*patience, self.child.wait()).await {
                ended?;
                return Ok(());
            }
            tracing::warn!(
                server = self.name,
                signal = name,
                "server did not end in time"
            );
        }
        self.child.kill().await?;
        Ok(())
    }

    fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().map(str::trim).collect();
        lines
            .get(lines.len().saturating_sub(4)..)
            .unwrap_or_default()
            .join("; ")
    }
}

/// Where the log of the run before is.
fn before(log: &Path) -> PathBuf {
    log.with_added_extension("before")
}

/// Ends the servers that an earlier, killed run of this program left behind:
/// those of this program's name that have `mark`, a path of ours, among their arguments.
pub(super) async fn end_leftovers(
    program: &str,
    mark: &Path,
    farewell: &Farewell,
) -> anyhow::Result<()> {
    for pid in running() {
        for (name, patience) in farewell.iter().chain(&[("KILL", Duration::from_secs(10))]) {
            if !runs(pid, program, mark) {
                break;
            }
            tracing::info!(
                server.pid = pid,
                signal = name,
                "ending a server of an earlier run"
            );
            signal(pid, name).await?;
            let deadline = Instant::now() + *patience;
            while runs(pid, program, mark) && Instant::now() < deadline {
                sleep(POLL).await;
            }
        }
        if runs(pid, program, mark) {
            bail!("a server of an earlier run does not end: kill process {pid}");
        }
    }
    Ok(())
}

fn running() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether the process lives, runs this program and names `mark` as an argument; a zombie names nothing.
pub(super) fn runs(pid: u32, program: &str, mark: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut arguments = line.split(|byte| *byte == 0).map(OsStr::from_bytes);
    arguments.next().map(Path::new).and_then(Path::file_name) == Some(OsStr::new(program))
        && arguments.any(|argument| argument == mark)
}

/// Sends a signal through the shell, whose `kill` is always there.
async fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    // It fails when the process has just ended, which is what the caller waits for.
    Command::new("sh")
        .args(["-c", &format!("kill -s {name} {pid}")])
        .stderr(Stdio::null())
        .status()
        .await
        .context("cannot run sh")?;
    Ok(())
}

/// A port of the loopback address that is free now.
///
/// It lies below the range that the kernel gives to outgoing connections: a client that keeps
/// reconnecting to a stopped server within that range can be given the server's own port.
pub(super) fn free_port() -> anyhow::Result<u16> {
    for _ in 0..64 {
        let port = 15_000 + u16::from_le_bytes(files::random_bytes()?) % 17_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 15000 and 32000 on 127.0.0.1")
}
