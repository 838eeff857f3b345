//! One service as a process of its own: started, armed, stopped, killed, and seen to be ready.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// A debug build checks the isolation of a whole schema at start, on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// A moment that the load does not come to in this time is not tried.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

/// Environment of a process.
pub(crate) type Variables = Vec<(String, String)>;

/// How a process is begun, wherever it runs.
pub(crate) type Begin = Box<dyn Fn() -> anyhow::Result<Command> + Send + Sync>;

/// A running process of one service.
pub(crate) struct Program {
    /// `projects-1`.
    pub(crate) name: String,
    pub(crate) service: &'static str,
    pub(crate) url: String,
    admin_url: String,
    folder: PathBuf,
    variables: Variables,
    begin: Begin,
    child: Child,
    starts: u32,
}

/// A moment of a process at which the next task stops.
pub(crate) struct Armed {
    armed: PathBuf,
    reached: PathBuf,
}

/// The load did not come to a moment, so that its fault was not tried.
#[derive(Debug, thiserror::Error)]
#[error("no task came to {0}")]
pub(crate) struct NotReached(String);

impl Program {
    /// Starts it on these ports, for gRPC and for its readiness, with its files in `folder`.
    pub(crate) fn start(
        service: &'static str,
        replica: u8,
        [port, admin_port]: [u16; 2],
        folder: &Path,
        mut variables: Variables,
        begin: Begin,
    ) -> anyhow::Result<Self> {
        let name = format!("{service}-{replica}");
        let folder = folder.join(&name);
        fs::create_dir_all(&folder)?;
        let own = [
            ("CATALYST_LISTEN", format!("127.0.0.1:{port}")),
            ("CATALYST_ADMIN_LISTEN", format!("127.0.0.1:{admin_port}")),
            ("CATALYST_FAILPOINTS", folder.display().to_string()),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let child = spawn(begin()?, service, &folder, &variables, 1)?;
        Ok(Self {
            name,
            service,
            url: format!("http://127.0.0.1:{port}"),
            admin_url: format!("http://127.0.0.1:{admin_port}"),
            folder,
            variables,
            begin,
            child,
            starts: 1,
        })
    }

    /// Starts it again on the same ports after it has ended; nothing is armed then.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.disarm();
        self.starts += 1;
        let command = (self.begin)()?;
        self.child = spawn(
            command,
            self.service,
            &self.folder,
            &self.variables,
            self.starts,
        )?;
        Ok(())
    }

    /// Waits until it is ready, and starts it again each time that it ends before.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            match self.ready().await {
                Err(_) if since.elapsed() < READY_WITHIN && self.child.id().is_none() => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    self.restart()?;
                }
                ready => return ready,
            }
        }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()?;
        let ready = format!("{}/readyz", self.admin_url);
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended at start ({status}): {}",
                    self.name,
                    self.last_words()
                );
            }
            let answer = http.get(&ready).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if since.elapsed() > READY_WITHIN {
                bail!("{} is not ready: {}", self.name, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(3)..)
            .unwrap_or_default();
        last.join("; ")
    }

    fn log(&self) -> PathBuf {
        log(&self.folder, self.starts)
    }

    /// Arms a moment: the next task of this process that comes to it stops there.
    pub(crate) fn arm(&self, moment: &str) -> anyhow::Result<Armed> {
        let armed = Armed {
            armed: self.folder.join(moment),
            reached: self.folder.join(format!("{moment}.reached")),
        };
        drop(fs::remove_file(&armed.reached));
        let partial = self.folder.join("arming");
        // Each arming has a text of its own: a task of the one before does not take it for its own.
        fs::write(&partial, format!("{:?}", Instant::now()))?;
        fs::rename(&partial, &armed.armed)?;
        Ok(armed)
    }

    fn disarm(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_none_or(|it| it == "reached") {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    /// `kill -9`, and the end of it.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill")
    }

    /// Sends SIGTERM and waits for the end; how it ended, and how long that took.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<(ExitStatus, Duration)> {
        let since = Instant::now();
        signal(&self.pids(), "TERM").await?;
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        let status = ended.with_context(|| format!("{} does not end", self.name))??;
        Ok((status, since.elapsed()))
    }

    /// The process id; none once it has ended.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.child.id().into_iter().collect()
    }
}

impl Armed {
    /// Waits until a task has stopped there.
    pub(crate) async fn reached(&self) -> anyhow::Result<()> {
        let reached = harness::within(REACHED_WITHIN, async || {
            fs::read_to_string(&self.reached)
                .is_ok_and(|pid| !pid.is_empty())
                .then_some(())
        });
        let moment = self.armed.file_name().unwrap_or_default().to_string_lossy();
        match reached.await {
            Some(()) => Ok(()),
            None => Err(NotReached(moment.into_owned()).into()),
        }
    }

    /// Lets the task go on.
    pub(crate) fn release(self) {
        // It is gone already when the process was started anew.
        drop(fs::remove_file(&self.armed));
    }
}

fn log(folder: &Path, starts: u32) -> PathBuf {
    folder.join(format!("{starts}.log"))
}

fn spawn(
    mut command: Command,
    service: &str,
    folder: &Path,
    variables: &Variables,
    starts: u32,
) -> anyhow::Result<Child> {
    let log = File::create(log(folder, starts))?;
    command
        .args(["serve", service])
        .env_clear()
        .envs(variables.iter().cloned())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .process_group(0);
    command
        .spawn()
        .with_context(|| format!("cannot start {service}"))
}

/// Sends a signal to processes of ours.
pub(crate) async fn signal(pids: &[u32], name: &str) -> anyhow::Result<()> {
    let mut command = Command::new("kill");
    command.args(["-s", name]);
    command.args(pids.iter().map(u32::to_string));
    // It fails for one that has just ended, which harms nothing.
    command
        .stderr(Stdio::null())
        .status()
        .await
        .context("cannot run kill")?;
    Ok(())
}

/// A process and all that it started, the parents first.
pub(crate) fn family(first: u32) -> Vec<u32> {
    let mut family = vec![first];
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may hold anything.
        let after = stat
            .rsplit_once(')')
            .map(|(_, after)| after)
            .unwrap_or_default();
        let parent = after
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (parent, pid)));
    }
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(
            parents
                .iter()
                .filter(|(of, _)| *of == parent)
                .map(|(_, pid)| *pid),
        );
        at += 1;
    }
    family
}
