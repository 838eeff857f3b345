//! The system of a run: PostgreSQL and nats-server that sync, and each service as processes of its own.
//!
//! Invariant: ports and folders stay the same over every restart, so that what comes back is what went away. When this
//! program ends, however it ends, a watchdog ends all of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use catalyst::deployment::Deployment;
use catalyst::services;
use catalyst::stack::postgres::Postgres;
use catalyst::stack::{NatsChoice, PostgresChoice, StackOptions};
use harness::free_port;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::process::Command;

use crate::cells::Ground;
use crate::client::Lines;
use crate::devices::net::NODE_ADDRESSES;
use crate::front::Front;
use crate::ground::Devices;
use crate::program::{Program, Variables, family, signal};

/// A file that keeps the folder of a run when the program ends.
const KEEP: &str = "keep";
/// How long a process may take to end in order.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How a system is set up.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) ground: Ground,
    /// The network in whose hub this program runs.
    pub(crate) network: Option<String>,
    pub(crate) postgres: PostgresChoice,
}

/// What this machine does not permit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPermitted(pub(crate) String);

/// A server beside the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    Nats,
}

/// How a system came to rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest {
    pub(crate) is_settled: bool,
    /// What was seen under way last.
    pub(crate) last: Vec<String>,
}

impl Rest {
    /// What did not come to rest.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        if self.is_settled {
            Vec::new()
        } else {
            self.last.clone()
        }
    }
}

/// The running system.
pub(crate) struct Stack {
    pub(crate) dir: PathBuf,
    pub(crate) deployment: Deployment,
    /// By name, `projects-1`.
    pub(crate) programs: BTreeMap<String, Program>,
    /// What callers know.
    pub(crate) lines: Lines,
    /// What services know of each other, by name.
    fronts: BTreeMap<&'static str, Front>,
    /// Below the servers, and taken away after them.
    pub(crate) devices: Devices,
}

impl Stack {
    /// Starts servers and one process of each service.
    pub(crate) async fn start(layout: &Layout) -> anyhow::Result<Self> {
        let dir = harness::temporary_folder()?;
        watch_over(&dir)?;
        let devices = Devices::lay(layout.ground, &dir, layout.network.as_deref())?;
        // This very program, called as `catalyst`, is the product's, with moments to stop at. It stays the one that
        // runs now, whatever is built meanwhile.
        let own = format!("/proc/{}/exe", std::process::id());
        symlink(own, dir.join("catalyst"))?;
        let options = StackOptions {
            dir: dir.clone(),
            postgres: layout.postgres.clone(),
            nats: NatsChoice::Auto,
            durable: true,
            cells: Vec::new(),
        };
        let deployment = Deployment::start(options, &|_| {}).await?;
        let mut stack = Self {
            dir,
            deployment,
            programs: BTreeMap::new(),
            lines: Lines::default(),
            fronts: BTreeMap::new(),
            devices,
        };
        if layout.ground == Ground::Network {
            stack.admit_nodes().await?;
        }
        for definition in &services::ALL {
            stack.fronts.insert(definition.name, Front::open().await?);
        }
        let mut names = Vec::new();
        for definition in &services::ALL {
            names.push(stack.add(definition.name, 1, &[])?);
        }
        for name in names {
            stack.open(&name).await?;
        }
        Ok(stack)
    }

    /// Lets the nodes of the network, whose callers keep their addresses, come to the database.
    async fn admit_nodes(&self) -> anyhow::Result<()> {
        let rules = self.dir.join("postgres/data/pg_hba.conf");
        let mut file = File::options().append(true).open(rules)?;
        writeln!(file, "host all all {NODE_ADDRESSES} scram-sha-256")?;
        let mut admin = self.admin().await?;
        sqlx::query("select pg_reload_conf()")
            .execute(&mut admin)
            .await?;
        Ok(())
    }

    /// Starts one more process of a service, which nobody calls yet; `changes` are variables of its own.
    pub(crate) fn add(
        &mut self,
        service: &'static str,
        replica: u8,
        changes: &[(&str, String)],
    ) -> anyhow::Result<String> {
        let mut variables = self.variables();
        variables.extend(
            changes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        let ports = [free_port(), free_port()];
        let begin = if replica == 1 {
            self.devices.carry(service, &self.ports()?, &ports)?;
            self.devices.begin(service, self.dir.join("catalyst"))
        } else {
            let program = self.dir.join("catalyst");
            Box::new(move || Ok(Command::new(&program)))
        };
        let folder = self.dir.join("programs");
        let program = Program::start(service, replica, ports, &folder, variables, begin)?;
        let name = program.name.clone();
        self.programs.insert(name.clone(), program);
        Ok(name)
    }

    /// Waits until a process is ready, and lets callers come to it.
    pub(crate) async fn open(&mut self, name: &str) -> anyhow::Result<()> {
        let program = self.program(name)?;
        program.revive().await?;
        let (service, url) = (program.service, program.url.clone());
        if let Some(front) = self.fronts.get(service) {
            front.add(&url);
        }
        self.lines.add(service, name, &url)
    }

    /// From now on nobody comes to a process anew.
    pub(crate) fn close(&self, name: &str) {
        self.lines.remove(name);
        if let Some(program) = self.programs.get(name)
            && let Some(front) = self.fronts.get(program.service)
        {
            front.remove(&program.url);
        }
    }

    /// A process by its name.
    pub(crate) fn program(&mut self, name: &str) -> anyhow::Result<&mut Program> {
        self.programs
            .get_mut(name)
            .with_context(|| format!("no {name} runs"))
    }

    /// Ends one process for good, in order.
    pub(crate) async fn retire(&mut self, name: &str) -> anyhow::Result<()> {
        self.close(name);
        if let Some(mut program) = self.programs.remove(name) {
            let (status, took) = program.terminate().await?;
            ensure!(status.success(), "{name} ended with {status}");
            ensure!(took < STOP_WITHIN, "{name} took {took:?} to end");
        }
        Ok(())
    }

    /// Ports that services ask.
    fn ports(&self) -> anyhow::Result<Vec<u16>> {
        let stack = &self.deployment.stack;
        let servers = [
            &stack.database_url,
            &stack.nats_url,
            &stack.nats_monitor_url,
        ];
        let fronts = self.fronts.values().map(|front| &front.url);
        servers
            .into_iter()
            .chain(fronts)
            .map(|url| port_of(url))
            .collect()
    }

    /// What every service is configured with, ports aside.
    fn variables(&self) -> Variables {
        let Deployment { stack, keys } = &self.deployment;
        let text = |path: &Path| path.display().to_string();
        let url_of = |service: &str| {
            let front = self.fronts.get(service);
            front.map(|front| front.url.clone()).unwrap_or_default()
        };
        [
            ("CATALYST_DATABASE_URL", stack.database_url.clone()),
            ("CATALYST_DATABASE_PASSWORD_DIR", text(&keys.password_dir())),
            ("CATALYST_DATABASE_MAX_CONNECTIONS", "8".to_owned()),
            ("CATALYST_NATS_URL", stack.nats_url.clone()),
            (
                "CATALYST_NATS_CREDENTIALS_DIR",
                text(&stack.credentials_dir),
            ),
            ("CATALYST_NATS_MONITOR_URLS", stack.nats_monitor_url.clone()),
            ("CATALYST_AUTH_ISSUER", "catalyst-development".to_owned()),
            ("CATALYST_AUTH_JWKS", text(&keys.issuer_jwks())),
            ("CATALYST_WORKLOAD_JWKS", text(&keys.workload_jwks())),
            ("CATALYST_WORKLOAD_KEY_DIR", text(&keys.workload_dir())),
            ("CATALYST_PAGE_TOKEN_KEY_FILE", text(&keys.page_token_key())),
            (
                "CATALYST_AUDIT_CHECKPOINT_KEY_FILE",
                text(&keys.checkpoint_key()),
            ),
            ("CATALYST_AUDIT_CHECKPOINT_SECONDS", "1".to_owned()),
            ("CATALYST_TENANT_CALLS_PER_SECOND", "1000000".to_owned()),
            ("CATALYST_TENANT_CONCURRENT_CALLS", "1000000".to_owned()),
            ("CATALYST_DATABASE_WAIT_MILLISECONDS", "2000".to_owned()),
            ("CATALYST_CONSULTANTS_URL", url_of("consultants")),
            ("CATALYST_PROJECTS_URL", url_of("projects")),
            ("CATALYST_LOG", "warn".to_owned()),
            // For what starts the process, where that is another program.
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// A connection as superuser, past every policy.
    pub(crate) async fn admin(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.deployment.stack.postgres_admin_url).await?)
    }

    /// The processes of a server.
    pub(crate) fn pids(&self, server: Server) -> anyhow::Result<Vec<u32>> {
        let stack = &self.deployment.stack;
        let first = match server {
            Server::Postgres => stack.postgres.as_ref().and_then(Postgres::pid),
            Server::Nats => stack.nats.pid(),
        };
        Ok(family(
            first.with_context(|| format!("{server:?} does not run"))?,
        ))
    }

    /// `kill -9` of a server: of its first process, as the kernel would when memory is out. PostgreSQL's others then
    /// end by themselves.
    pub(crate) async fn kill(&self, server: Server) -> anyhow::Result<()> {
        let first = self.pids(server)?;
        signal(first.get(..1).unwrap_or_default(), "KILL").await
    }

    /// Starts a server again on its port and folder, and waits until it serves.
    pub(crate) async fn restart(&mut self, server: Server) -> anyhow::Result<()> {
        let stack = &mut self.deployment.stack;
        match (server, stack.postgres.as_mut()) {
            (Server::Postgres, Some(postgres)) => postgres.restart().await,
            (Server::Postgres, None) => Ok(()),
            (Server::Nats, _) => stack.nats.restart().await,
        }
    }

    /// Runs a command of the product to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        finished(self.command(arguments)?).await
    }

    /// A command of the product, with what an operator's shell knows of this system.
    pub(crate) fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let audit = self.programs.get("audit-1").context("there is no audit")?;
        let mut command = Command::new(self.dir.join("catalyst"));
        command
            .arg("--data-dir")
            .arg(&self.dir)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .envs(self.variables())
            .env("CATALYST_URL", &audit.url)
            .env(
                "CATALYST_DATABASE_ADMIN_URL",
                &self.deployment.stack.postgres_admin_url,
            );
        Ok(command)
    }

    /// Rows that wait in the outboxes of domain events.
    pub(crate) async fn waiting(&self) -> anyhow::Result<i64> {
        let mut admin = self.admin().await?;
        let counts = services::ALL
            .map(|definition| format!("(select count(*) from {}.outbox)", definition.schema));
        let sum: Arc<str> = format!("select {}", counts.join(" + ")).into();
        let sum = sqlx::query_scalar(AssertSqlSafe(sum));
        Ok(sum.fetch_one(&mut admin).await?)
    }

    /// Waits until nothing is under way, outbox rows and events that a consumer has not acknowledged, or the time is
    /// over.
    pub(crate) async fn settle(&self, bound: Duration) -> Rest {
        let mut rest = Rest::default();
        let settled = harness::within(bound, async || {
            let under_way = match self.under_way().await {
                Ok(under_way) => under_way,
                Err(error) => vec![format!("it cannot be asked: {error:#}")],
            };
            if under_way.is_empty() {
                return Some(());
            }
            rest.last = under_way;
            None
        });
        rest.is_settled = settled.await.is_some();
        rest
    }

    async fn under_way(&self) -> anyhow::Result<Vec<String>> {
        let mut admin = self.admin().await?;
        let mut found = Vec::new();
        let mut tables = Vec::new();
        for definition in &services::ALL {
            let schema = definition.schema;
            tables.extend([
                format!("{schema}.outbox"),
                format!("{schema}.security_outbox"),
            ]);
        }
        for table in tables {
            let count: Arc<str> = format!("select count(*) from {table}").into();
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
                .fetch_one(&mut admin)
                .await?;
            if rows > 0 {
                found.push(format!("{table} has {rows} rows"));
            }
        }
        let monitor = &self.deployment.stack.nats_monitor_url;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()?;
        let answer = http
            .get(format!("{monitor}/jsz?consumers=true"))
            .send()
            .await?;
        let pending = harness::unconsumed(&serde_json::from_slice(&answer.bytes().await?)?);
        if pending > 0 {
            found.push(format!("{pending} events are not applied"));
        }
        Ok(found)
    }

    /// Ends everything in order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for program in self.programs.values_mut() {
            program.kill().await?;
        }
        let ended = self.deployment.stack.stop().await;
        drop(self.devices);
        if !self.dir.join(KEEP).exists() {
            fs::remove_dir_all(&self.dir)?;
        }
        ended
    }

    /// Keeps the folder of a failed run, for whoever looks for the reason.
    pub(crate) fn keep(&self) {
        // Without it the folder goes, and the seed still replays the run.
        drop(fs::write(self.dir.join(KEEP), ""));
    }
}

/// Waits for the end of a command; what it said when it failed.
pub(crate) async fn finished(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().await?;
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    let said = said.join(" ");
    ensure!(output.status.success(), "{command:?} says: {}", said.trim());
    Ok(())
}

/// The port of a URL.
pub(crate) fn port_of(url: &str) -> anyhow::Result<u16> {
    reqwest::Url::parse(url)?
        .port()
        .with_context(|| format!("{url} has no port"))
}

/// A shell that waits for the end of this program, which closes the pipe, and then ends whatever names the folder.
/// The folder stays when a file `keep` is in it.
fn watch_over(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let script = "cat >/dev/null; \
        for round in 1 2 3; do for it in /proc/[0-9]*; do pid=${it#/proc/}; \
            if [ $pid != $$ ] && { grep -aqsF \"$1\" $it/cmdline || grep -aqsF \"$1\" $it/environ; }; \
            then kill -KILL $pid; fi; done; done; \
        [ -e \"$1/keep\" ] || rm -rf \"$1\"";
    let mut watchdog = std::process::Command::new("sh")
        .args(["-c", script, "watchdog"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    // The pipe stays open until the program ends.
    std::mem::forget(watchdog.stdin.take());
    Ok(())
}
