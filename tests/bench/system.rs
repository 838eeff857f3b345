//! The system under measure: servers of the bench's own that sync every commit, and all services, in this process or as
//! one of their own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use catalyst::deployment::Deployment;
use catalyst::services;
use catalyst::stack::postgres::Postgres;
use catalyst::stack::{NatsChoice, PostgresChoice, StackOptions};
use kit::ctx::Clock;
use kit::host::Host;
use kit::settings::{CacheSettings, LimitSettings, ListenSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::time::{Instant, sleep};

use crate::cores::Cores;
use crate::program::Program;

/// How long consumers may need to catch up with what a measure wrote.
const CATCH_UP: Duration = Duration::from_mins(10);

/// The running system.
pub(crate) struct System {
    /// Servers and secrets.
    pub(crate) deployment: Deployment,
    /// Where gRPC is served.
    pub(crate) url: String,
    /// Where metrics are served.
    pub(crate) admin_url: String,
    /// What was measured where, in a line.
    pub(crate) description: String,
    /// PostgreSQL's first process.
    pub(crate) postmaster: u32,
    /// A folder for files of the measures, gone with the system.
    pub(crate) dir: PathBuf,
    services: Services,
}

/// Where the services run.
enum Services {
    Here(Host),
    There(Program),
}

/// What the services need.
struct Servers {
    deployment: Deployment,
    postmaster: u32,
    dir: PathBuf,
    description: String,
}

impl System {
    /// Starts servers, and the services in this process.
    pub(crate) async fn start(
        postgres: PostgresChoice,
        limits: LimitSettings,
        cache: CacheSettings,
        registry: prometheus::Registry,
        say: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Self> {
        let servers = Servers::start(postgres, &Cores::shared()?, say).await?;
        let listen = ListenSettings {
            listen: "127.0.0.1:0".parse()?,
            admin_listen: "127.0.0.1:0".parse()?,
            reflection: true,
            limits,
            connections: kit::settings::ConnectionSettings::default(),
        };
        let mut settings = servers.deployment.settings(listen);
        settings.cache = cache;
        let services = services::all(&services::ServiceSettings {
            checkpoints: servers.deployment.checkpoint_settings(),
            ..Default::default()
        });
        let host = Host::start(&settings, services, registry, Clock::system()).await?;
        let (address, admin_address) = (host.address, host.admin_address);
        Ok(servers.with(address, admin_address, Services::Here(host)))
    }

    /// Starts servers, and the services as a process of their own.
    pub(crate) async fn start_apart(
        postgres: PostgresChoice,
        limits: LimitSettings,
        cores: Cores,
        say: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Self> {
        say("building the program");
        harness::binary();
        // What is started runs where its parent does then.
        cores.run_with_servers()?;
        let servers = Servers::start(postgres, &cores, say).await?;
        say("starting the services");
        let log = servers.dir.join("services.log");
        let program = Program::start(&servers.deployment, limits, log).await?;
        cores.run_with_callers()?;
        let (address, admin_address) = (program.address, program.admin_address);
        Ok(servers.with(address, admin_address, Services::There(program)))
    }

    /// The services' process, when it is one of its own.
    pub(crate) fn program(&mut self) -> Option<&mut Program> {
        match &mut self.services {
            Services::Here(_) => None,
            Services::There(program) => Some(program),
        }
    }

    /// A connection as superuser, for loading and looking.
    pub(crate) async fn admin(&self) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.deployment.stack.postgres_admin_url.parse()?;
        // Loading rows takes its time, and no one reads the statements.
        Ok(options.disable_statement_logging().connect().await?)
    }

    /// Waits until every event is published and consumed, so that one measure does not burden the next.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        settle(&self.deployment).await
    }

    /// Ends services and servers and removes their data.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.conclude(Ok(())).await
    }

    /// The same with the outcome of what was done here: when that failed, the folder with the logs stays.
    pub(crate) async fn conclude<T>(self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        let stopped = match self.services {
            Services::Here(host) => {
                host.stop().await;
                Ok(())
            }
            Services::There(program) => program.stop().await,
        };
        self.deployment.stack.stop().await?;
        let dir = self.dir.display();
        let outcome = outcome.with_context(|| format!("logs are in {dir}"))?;
        stopped.with_context(|| format!("logs are in {dir}"))?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("cannot remove {dir}"))?;
        Ok(outcome)
    }
}

impl Servers {
    async fn start(
        postgres: PostgresChoice,
        cores: &Cores,
        say: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Self> {
        let dir = harness::temporary_folder()?;
        let options = StackOptions {
            dir: dir.clone(),
            postgres,
            nats: NatsChoice::Auto,
            durable: true,
            cells: Vec::new(),
        };
        let deployment = Deployment::start(options, say).await?;
        let postmaster = deployment.stack.postgres.as_ref().and_then(Postgres::pid);
        let postmaster = postmaster
            .context("the bench needs a server of its own: --postgres system or bundled")?;

        let mut admin = PgConnection::connect(&deployment.stack.postgres_admin_url).await?;
        let (version, synced): (String, bool) = sqlx::query_as(
            "select current_setting('server_version'), \
                    current_setting('fsync')::bool and current_setting('synchronous_commit') = 'on'",
        )
        .fetch_one(&mut admin)
        .await?;
        ensure!(
            synced,
            "PostgreSQL does not sync its commits: its figures would mean nothing"
        );
        Ok(Self {
            deployment,
            postmaster,
            dir,
            description: format!("{cores}, PostgreSQL {version} and NATS synced to disk"),
        })
    }

    fn with(self, address: SocketAddr, admin_address: SocketAddr, services: Services) -> System {
        System {
            deployment: self.deployment,
            url: format!("http://{address}"),
            admin_url: format!("http://{admin_address}"),
            description: self.description,
            postmaster: self.postmaster,
            dir: self.dir,
            services,
        }
    }
}

/// Waits until every event is published and consumed.
pub(crate) async fn settle(deployment: &Deployment) -> anyhow::Result<()> {
    let mut admin = PgConnection::connect(&deployment.stack.postgres_admin_url).await?;
    let rows =
        services::ALL.map(|service| format!("exists (select from {}.outbox)", service.schema));
    let rows: Arc<str> = format!("select {}", rows.join(" or ")).into();
    let monitor = format!("{}/jsz?consumers=true", deployment.stack.nats_monitor_url);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let unpublished: bool = sqlx::query_scalar(AssertSqlSafe(Arc::clone(&rows)))
            .fetch_one(&mut admin)
            .await?;
        let answer = http.get(&monitor).send().await?.bytes().await?;
        if !unpublished && harness::unconsumed(&serde_json::from_slice(&answer)?) == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the consumers did not catch up within {} s",
                CATCH_UP.as_secs()
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
}
