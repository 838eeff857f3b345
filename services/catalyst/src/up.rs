//! `catalyst up`: the whole system on this machine.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use kit::cells::CellName;
use kit::ctx::Clock;
use kit::host::Host;
use kit::settings::{ListenSettings, TelemetrySettings};
use kit::wire::Plaintext;
use proto::tenants::v1 as pb;
use proto::tenants::v1::tenant_service_client::TenantServiceClient;
use serde::{Deserialize, Serialize};
use tonic::Request;

use crate::client::output;
use crate::deployment::Deployment;
use crate::keys::Keys;
use crate::stack::{NatsChoice, PostgresChoice, StackOptions};
use crate::{serve, services};

/// What `up` starts, and where.
#[derive(Debug, clap::Args)]
pub struct UpOptions {
    /// Keep nothing: data in a temporary folder that goes with the process.
    #[arg(long)]
    ephemeral: bool,
    /// Which PostgreSQL: auto, system, bundled, or a postgres:// URL of an administrator.
    #[arg(long, default_value = "auto")]
    postgres: PostgresChoice,
    /// Also start a dedicated cell of this name, a PostgreSQL of its own; may be repeated. It is there again at each start.
    #[arg(long = "cell", value_name = "NAME", value_parser = read_cell)]
    cells: Vec<CellName>,
    /// Which nats-server: auto, system or bundled.
    #[arg(long, default_value = "auto")]
    nats: NatsChoice,
    #[command(flatten)]
    listen: ListenSettings,
    #[command(flatten)]
    plaintext: Plaintext,
    #[command(flatten)]
    alerts: audit::Settings,
    /// OTLP/gRPC endpoint for traces: http://HOST:4317.
    #[arg(long, env = "CATALYST_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Log filter; logs go to standard error.
    #[arg(long, env = "CATALYST_LOG", default_value = "warn")]
    log: String,
}

fn read_cell(text: &str) -> Result<CellName, String> {
    CellName::parse(text)
        .filter(|cell| !cell.is_shared())
        .ok_or_else(|| {
            "use lowercase letters, digits and inner hyphens, and not `shared`".to_owned()
        })
}

/// Where a running `catalyst up` is found, in `running.json` of its data folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    /// gRPC.
    pub url: String,
    /// Metrics and probes.
    pub admin_url: String,
    /// NATS clients.
    pub nats_url: String,
    /// PostgreSQL, without a user.
    pub database_url: String,
    /// Where nats-server answers what it is.
    pub nats_monitor_url: String,
}

impl Running {
    /// Reads it from a data folder.
    pub fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("running.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "nothing runs on {}: start it with `catalyst up`",
                data_dir.display()
            )
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: restart `catalyst up`", path.display()))
    }
}

/// Shows what is being done, and how long each step took.
struct Progress {
    bar: ProgressBar,
    step: Mutex<Option<(String, Instant)>>,
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            bar,
            step: Mutex::new(None),
        }
    }

    fn say(&self, message: &str) {
        self.finish_step();
        self.bar.set_message(message.to_owned());
        if let Ok(mut step) = self.step.lock() {
            *step = Some((message.to_owned(), Instant::now()));
        }
    }

    fn finish_step(&self) {
        let done = self.step.lock().ok().and_then(|mut step| step.take());
        if let Some((message, since)) = done {
            let line = format!("  {message} ({:.1} s)", since.elapsed().as_secs_f64());
            if self.bar.is_hidden() {
                output::note(&line);
            } else {
                self.bar.println(line);
            }
        }
    }

    fn done(&self) {
        self.finish_step();
        self.bar.finish_and_clear();
    }
}

/// Starts everything, says where it is, and runs until Ctrl-C or SIGTERM.
pub async fn run(options: UpOptions, data_dir: &Path) -> anyhow::Result<()> {
    let telemetry = kit::telemetry::start(&TelemetrySettings {
        otlp_endpoint: options.otlp_endpoint.clone(),
        log: options.log.clone(),
        log_format: kit::settings::LogFormat::Text,
    })?;
    let temporary = if options.ephemeral {
        Some(Temporary::create()?)
    } else {
        None
    };
    let dir: PathBuf = temporary
        .as_ref()
        .map_or_else(|| data_dir.to_owned(), |temporary| temporary.0.clone());
    // A Ctrl-C while the servers start must not leave any of them behind.
    let started = tokio::select! {
        started = start(&options, &dir, telemetry.registry()) => started?,
        signal = serve::stop_signal() => {
            signal?;
            anyhow::bail!("stopped before everything was up; start it again at any time");
        }
    };
    let (mut deployment, host) = started;
    let outcome = tokio::select! {
        signal = serve::stop_signal() => signal,
        kept = deployment.stack.keep(&output::note) => kept,
    };
    output::note("stopping");
    let stopped = serve::stop_within(host.stop()).await;
    // Gone from here on; a leftover of a killed process is overwritten by the next start.
    let _ = std::fs::remove_file(dir.join("running.json"));
    let ended = deployment.stack.stop().await;
    serve::flush(telemetry).await;
    outcome.and(stopped).and(ended)
}

async fn start(
    options: &UpOptions,
    dir: &Path,
    registry: prometheus::Registry,
) -> anyhow::Result<(Deployment, Host)> {
    if let PostgresChoice::Url(url) = &options.postgres {
        options.plaintext.check_database_url("--postgres", url)?;
    }
    let progress = Progress::new();
    let stack = StackOptions {
        dir: dir.to_owned(),
        postgres: options.postgres.clone(),
        nats: options.nats,
        durable: true,
        cells: options.cells.clone(),
    };
    let deployment = Deployment::start(stack, &|message| progress.say(message)).await?;
    progress.say("starting the services");
    let mut settings = deployment.settings(options.listen.clone());
    settings.wire.plaintext = options.plaintext;
    let service_settings = services::ServiceSettings {
        audit: options.alerts.clone(),
        checkpoints: deployment.checkpoint_settings(),
        ..Default::default()
    };
    let host = Host::start(
        &settings,
        services::all(&service_settings),
        registry,
        Clock::system(),
    )
    .await?;
    let url = format!("http://{}", host.address);
    progress.say("creating two demo tenants");
    let tenants = demo_tenants(&url, &deployment.keys).await?;
    progress.done();

    let running = Running {
        url,
        admin_url: format!("http://{}", host.admin_address),
        nats_url: deployment.stack.nats_url.clone(),
        database_url: deployment.stack.database_url.clone(),
        nats_monitor_url: deployment.stack.nats_monitor_url.clone(),
    };
    std::fs::write(
        dir.join("running.json"),
        serde_json::to_vec_pretty(&running)?,
    )
    .with_context(|| format!("cannot write to {}", dir.display()))?;
    greet(&running, dir, &tenants, options.ephemeral)?;
    Ok((deployment, host))
}

/// Creates `acme` and `globex` unless they are there.
async fn demo_tenants(url: &str, keys: &Keys) -> anyhow::Result<Vec<(String, String)>> {
    let token = keys.development_issuer()?.token(
        "catalyst-up",
        kit::TenantId::PLATFORM,
        &["platform_operator"],
        Clock::system().now(),
        300,
    )?;
    let mut client = TenantServiceClient::connect(url.to_owned()).await?;
    let mut tenants = Vec::new();
    let listed = client
        .list_tenants(as_operator(
            pb::ListTenantsRequest {
                page_size: 500,
                ..Default::default()
            },
            &token,
        )?)
        .await?;
    let existing = listed.into_inner().tenants;
    for (slug, name) in [("acme", "Acme Consulting"), ("globex", "Globex Partners")] {
        let tenant = match existing.iter().find(|tenant| tenant.slug == slug) {
            Some(tenant) => tenant.clone(),
            None => {
                let wished = pb::Tenant {
                    slug: slug.to_owned(),
                    display_name: name.to_owned(),
                    time_zone: "Europe/Berlin".to_owned(),
                    currency_code: "EUR".to_owned(),
                    ..Default::default()
                };
                let request = pb::CreateTenantRequest {
                    tenant: Some(wished),
                    ..Default::default()
                };
                let created = client
                    .create_tenant(as_operator(request, &token)?)
                    .await?
                    .into_inner();
                created
                    .tenant
                    .context("the created tenant is missing in the answer")?
            }
        };
        tenants.push((tenant.slug, tenant.id));
    }
    Ok(tenants)
}

fn as_operator<T>(message: T, token: &str) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    request
        .metadata_mut()
        .insert("x-tenant-id", kit::TenantId::PLATFORM.to_string().parse()?);
    Ok(request)
}

fn greet(
    running: &Running,
    dir: &Path,
    tenants: &[(String, String)],
    ephemeral: bool,
) -> anyhow::Result<()> {
    let Running {
        url,
        admin_url,
        nats_url,
        database_url,
        ..
    } = running;
    let data = if ephemeral {
        format!("{} (goes with the process)", dir.display())
    } else {
        dir.display().to_string()
    };
    let mut lines = vec![
        "Catalyst is up.".to_owned(),
        String::new(),
        format!(
            "  gRPC        {url}  (tenants, consultants, projects, time-entries, audit; reflection on)"
        ),
        format!("  metrics     {admin_url}/metrics"),
        format!("  PostgreSQL  {database_url}"),
        format!("  NATS        {nats_url}"),
        format!("  data        {data}"),
    ];
    for (slug, id) in tenants {
        lines.push(format!("  tenant      {slug:<8} {id}"));
    }
    let program = std::env::current_exe()
        .map_or_else(|_| "catalyst".to_owned(), |path| path.display().to_string());
    let dir_flag = format!(" --data-dir {}", dir.display());
    lines.extend([
        String::new(),
        "Try next, in another terminal:".to_owned(),
        format!("  {program}{dir_flag} token --tenant acme --role admin"),
        format!(
            "  {program}{dir_flag} --tenant acme clients create --code NORTH --name \"North Ltd\""
        ),
        format!("  {program}{dir_flag} events tail --tenant acme"),
        String::new(),
        "Ctrl-C stops everything.".to_owned(),
    ]);
    output::Output::new(false).line(&lines.join("\n"))
}

/// A folder that goes with the process.
struct Temporary(PathBuf);

impl Temporary {
    fn create() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("catalyst-{}", Clock::system().new_uuid().simple());
        let path = std::env::temp_dir().join(name);
        // Others may pass through, since PostgreSQL runs as another user when we are root; nothing below is readable to them.
        std::fs::DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's temporary folder, which is cleaned by others.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
