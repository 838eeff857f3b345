//! The harness: the real system, started once for all tests of a process, driven over gRPC.
//!
//! Servers are the embedded ones in a temporary folder; the services run in this process and connect as their own
//! unprivileged roles. A watchdog ends the servers and removes the folder when the process ends, however it ends.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a fixture that fails ends its test"
)]

mod alertmanager;
mod backlog;
mod callers;
mod firm;
mod host;
mod issuer;
mod own;
mod port;
mod probe;
mod program;
mod replica;
mod refusals;
mod wait;
mod webhook;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::Context as _;
use catalyst::deployment::Deployment;
use catalyst::keys::Issuer;
use catalyst::services;
use catalyst::stack::{NatsChoice, PostgresChoice, StackOptions};
use kit::ctx::Clock;
use kit::host::Host;
use kit::settings::{ListenSettings, Settings};

pub use alertmanager::Alertmanager;
pub use backlog::unconsumed;
pub use callers::{Caller, channel_from, token_with, workload_token_of};
pub use firm::Firm;
pub use host::{host, host_with, own_source, settings};
pub use issuer::{Answer, JwksServer};
pub use own::OwnDeployment;
pub use port::{free_address, free_port};
pub use probe::{Probe, RawMessages, probe};
pub use program::{binary, environment};
pub use refusals::refusals_of;
pub use replica::Replica;
pub use wait::{eventually, within};
pub use webhook::{Delivery, Webhook};

/// The running system.
pub struct World {
    /// Where gRPC is served: `http://127.0.0.1:PORT`.
    pub url: String,
    /// Where metrics and probes are served.
    pub admin_url: String,
    /// PostgreSQL as superuser, for preparing and looking; never for what a test proves.
    pub postgres_admin_url: String,
    /// PostgreSQL without a user.
    pub database_url: String,
    /// The folder of the roles' passwords.
    pub password_dir: PathBuf,
    /// NATS.
    pub nats_url: String,
    /// Where the broker answers what it is.
    pub nats_monitor_url: String,
    /// The folder of `<user>.creds`.
    pub credentials_dir: PathBuf,
    /// The folder of the bus's keys.
    pub identity_dir: PathBuf,
    /// The folder of the services' private keys.
    pub workload_dir: PathBuf,
    /// The development issuer's public keys.
    pub issuer_jwks: PathBuf,
    /// The public half of the key that signs checkpoints of the audit logs.
    pub checkpoint_jwks: PathBuf,
    /// The development issuer.
    pub issuer: Issuer,
    /// What the alert webhook received, the sink of the built-in rules.
    pub webhook: Webhook,
    /// What another webhook received, a sink that the file of rules names.
    pub pager: Webhook,
    /// Another sink that the file of rules names.
    pub alertmanager: Alertmanager,
    /// The file of alert rules, which the services read again when it changes.
    pub alert_rules: PathBuf,
    /// Held by a test that changes the file.
    pub changing_rules: tokio::sync::Mutex<()>,
    /// What a process of these services has in its environment.
    pub environment: Vec<(&'static str, String)>,
    /// What the services were started with.
    pub settings: Settings,
    /// What single services were started with.
    pub services: services::ServiceSettings,
    /// What the services log, unless it is shown to the one who runs the tests.
    pub log: Option<PathBuf>,
}

static WORLD: OnceLock<Result<World, String>> = OnceLock::new();

/// The system that all tests of this process share. What does not start once is not tried again for each test.
pub fn world() -> &'static World {
    WORLD
        .get_or_init(|| start().map_err(|error| format!("{error:#}")))
        .as_ref()
        .unwrap_or_else(|error| panic!("the system does not start: {error}"))
}

/// A superuser's URL of the test server, where a test may create databases of its own.
#[expect(
    clippy::unused_async,
    reason = "starting the system blocks; its callers await"
)]
pub async fn admin_url() -> String {
    world().postgres_admin_url.clone()
}

/// Runs the system on a runtime of its own: each test has another, and ends with it.
fn start() -> anyhow::Result<World> {
    let (ready, started) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("world".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(ready)),
                Err(error) => drop(ready.send(Err(error.into()))),
            }
        })?;
    started
        .recv()
        .context("the system ended while it started")?
}

async fn run(ready: std::sync::mpsc::Sender<anyhow::Result<World>>) {
    match bring_up().await {
        Ok((world, deployment, host)) => {
            // The receiver waits for this.
            let _ = ready.send(Ok(world));
            std::future::pending::<()>().await;
            drop((deployment, host));
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

async fn bring_up() -> anyhow::Result<(World, Deployment, Host)> {
    // Installing it twice is harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(log) = log_filter() {
        kit::telemetry::start(&kit::settings::TelemetrySettings {
            otlp_endpoint: None,
            log,
            log_format: kit::settings::LogFormat::Text,
        })?;
    }
    let dir = temporary_folder()?;
    let log = match log_filter() {
        Some(_) => None,
        None => Some(keep_log(&dir)?),
    };
    let options = StackOptions {
        dir: dir.clone(),
        postgres: postgres_choice()?,
        nats: NatsChoice::Auto,
        durable: false,
        cells: Vec::new(),
    };
    let deployment = Deployment::start(options, &|_| {}).await?;
    let webhook = Webhook::start(&deployment.keys.webhook_secret()).await?;
    let pager = Webhook::start(&deployment.keys.webhook_secret()).await?;
    let alertmanager = Alertmanager::start(&dir).await?;
    watch_over(&deployment, &alertmanager, &dir)?;
    let alert_rules = dir.join("alert-rules.toml");
    let sinks = format!(
        "[[sink]]\nname = \"pager\"\ntype = \"webhook\"\nurl = \"{}\"\nsecret_file = \"{}\"\n\n\
         [[sink]]\nname = \"alertmanager\"\ntype = \"alertmanager\"\nurl = \"{}\"\n",
        pager.url,
        deployment.keys.webhook_secret().display(),
        alertmanager.url,
    );
    std::fs::write(&alert_rules, rules_for_tests(&sinks))?;

    let listen = ListenSettings {
        listen: "127.0.0.1:0".parse()?,
        admin_listen: "127.0.0.1:0".parse()?,
        reflection: true,
        limits: kit::settings::LimitSettings::NONE,
        connections: kit::settings::ConnectionSettings::default(),
    };
    let mut settings = deployment.settings(listen);
    // Debug builds and hundreds of tests at a time: no call is shed for the machine's sake.
    settings.database.database_wait_milliseconds = 10_000;
    let mut service_settings = services::ServiceSettings::default();
    service_settings.audit.alert_webhook_url = Some(webhook.url.clone());
    service_settings.audit.alert_webhook_secret_file = Some(deployment.keys.webhook_secret());
    service_settings.checkpoints = audit::CheckpointSettings {
        // So that no test waits a minute.
        audit_checkpoint_seconds: 1,
        ..deployment.checkpoint_settings()
    };
    service_settings.audit.alert_rules = Some(alert_rules.clone());
    // A window that a test can wait for.
    service_settings.audit.audit_flood_window_seconds = std::num::NonZeroU16::MIN.saturating_add(2);
    let services = services::all(&service_settings);
    let host = Host::start(
        &settings,
        services,
        prometheus::Registry::new(),
        Clock::system(),
    )
    .await?;
    let world = World {
        url: format!("http://{}", host.address),
        admin_url: format!("http://{}", host.admin_address),
        postgres_admin_url: deployment.stack.postgres_admin_url.clone(),
        database_url: deployment.stack.database_url.clone(),
        password_dir: deployment.keys.password_dir(),
        nats_url: deployment.stack.nats_url.clone(),
        nats_monitor_url: deployment.stack.nats_monitor_url.clone(),
        credentials_dir: deployment.stack.credentials_dir.clone(),
        identity_dir: deployment.stack.identity_dir.clone(),
        workload_dir: deployment.keys.workload_dir(),
        issuer_jwks: deployment.keys.issuer_jwks(),
        checkpoint_jwks: deployment.keys.checkpoint_jwks(),
        issuer: deployment.keys.development_issuer()?,
        webhook,
        pager,
        alertmanager,
        alert_rules,
        changing_rules: tokio::sync::Mutex::new(()),
        environment: environment(&deployment),
        settings,
        services: service_settings,
        log,
    };
    Ok((world, deployment, host))
}

/// The built-in rules, all for the one webhook, and a rule for the sinks beside it: metadata that is repeated.
fn rules_for_tests(sinks: &str) -> String {
    let rules =
        audit::rules::file::DEFAULT.replace("\n[[rule]]\n", "\n[[rule]]\nroutes = [\"webhook\"]\n");
    let doubled = r#"
[[rule]]
name = "repeated-metadata"
title = "Metadata was repeated"
description = "Told to two sinks."
severity = "LOW"
match = { types = ["TenantMetadataTampered"], reasons = ["REPEATED"] }
routes = ["pager", "alertmanager"]
"#;
    format!("{rules}\n{sinks}{doubled}")
}

/// `CATALYST_TEST_POSTGRES=bundled` (or `system`) runs the suite on that PostgreSQL in place of the first one found.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests have no settings of their own"
)]
pub fn postgres_choice() -> anyhow::Result<PostgresChoice> {
    match std::env::var("CATALYST_TEST_POSTGRES") {
        Ok(choice) => choice.parse().map_err(anyhow::Error::msg),
        Err(_) => Ok(PostgresChoice::Auto),
    }
}

/// Logs are shown when the one who runs the tests asks for them.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests have no settings of their own"
)]
fn log_filter() -> Option<String> {
    std::env::var("CATALYST_LOG").ok()
}

/// Writes the logs of the services into a file, as they would be written in operation.
fn keep_log(dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("services.log");
    let file = std::fs::File::create(&path)?;
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .with_writer(std::sync::Mutex::new(file))
        .try_init()
        .map_err(|error| anyhow::anyhow!("the log cannot be kept: {error}"))?;
    Ok(path)
}

/// A folder that PostgreSQL's user may pass through when the tests run as root.
pub fn temporary_folder() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let name = format!("catalyst-test-{}", Clock::system().new_uuid().simple());
    let dir = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o711).create(&dir)?;
    Ok(dir)
}

/// Ends the servers of the world with this process.
fn watch_over(
    deployment: &Deployment,
    alertmanager: &Alertmanager,
    dir: &std::path::Path,
) -> anyhow::Result<()> {
    let postgres = deployment.stack.postgres.as_ref();
    let pids = [
        postgres.and_then(catalyst::stack::postgres::Postgres::pid),
        deployment.stack.nats.pid(),
        alertmanager.pid(),
    ];
    // The pipe stays open until the process ends.
    std::mem::forget(end_with_this_process(pids, dir)?);
    Ok(())
}

/// Starts a shell that waits for the end of this process, which closes its pipe, and then ends these servers and removes
/// their folder. Whoever has ended the servers itself kills the shell first.
fn end_with_this_process(
    pids: impl IntoIterator<Item = Option<u32>>,
    dir: &std::path::Path,
) -> anyhow::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    let pids = pids.into_iter().flatten().map(|pid| pid.to_string());
    let script = "dir=$1; shift; cat >/dev/null; kill -INT \"$@\"; \
                  for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 \"$@\" 2>/dev/null || break; sleep 0.2; done; \
                  kill -KILL \"$@\"; rm -rf \"$dir\"";
    let watchdog = std::process::Command::new("sh")
        .args(["-c", script, "watchdog"])
        .arg(dir)
        .args(pids)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok(watchdog)
}
