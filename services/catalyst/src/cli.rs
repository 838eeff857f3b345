//! The command line: one enum, one function a command, and the exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kit::bus::BusError;
use kit::cells::CellFolder;
use kit::host::StartError;
use kit::settings::{
    DatabaseSettings, LogFormat, NatsSettings, Settings, SettingsError, TelemetrySettings,
};
use kit::wire::Plaintext;

use crate::client::{self, ClientOptions};
use crate::deployment::{CELLS_ADMIN_DIR, CellsBehind};
use crate::keys::Keys;
use crate::stack::identity::Identities;
use crate::{deployment, doctor, import, reconcile, serve, services, up};

/// Bad usage or a bad setting (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// The database or the broker cannot be used now (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The deployment is not as it must be: pending migrations, a departure from isolation, an unsafe broker (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// Catalyst: the back end of professional-services firms.
///
/// Exit codes: 0 done; 1 failed; 64 bad usage or setting; 65 unreadable input; 69 the database, the broker or the
/// server cannot be reached; 77 the caller may not; 78 the deployment is not as it must be. `doctor` has codes of its own.
#[derive(Debug, Parser)]
#[command(name = "catalyst", version)]
struct Cli {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine: PostgreSQL, NATS and all services, with two demo tenants.
    Up(up::UpOptions),
    /// Run services of a deployment, configured by the environment: names, or `all`.
    Serve(Box<ServeOptions>),
    /// Bring the database and the broker of a deployment up to date.
    Migrate(MigrateOptions),
    /// Make the secrets of a deployment that are missing in a folder.
    Keys {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Check that a running deployment isolates tenants as it must.
    ///
    /// Exit codes: 0 sound, warnings aside; 1 it departs from the rules; 2 not all could be checked; 64 bad usage.
    Doctor(doctor::DoctorOptions),
    /// Make a token of the development issuer.
    Token(client::TokenOptions),
    /// Firms of the deployment, as a platform operator.
    #[command(subcommand)]
    Tenants(client::tenants::Command),
    /// People who do the work.
    #[command(subcommand)]
    Consultants(client::consultants::Command),
    /// Which tenants use how much of the deployment, live.
    Top(client::top::Options),
    /// Whom the work is for.
    #[command(subcommand)]
    Clients(client::clients::Command),
    /// The work, and who is assigned to it.
    #[command(subcommand)]
    Projects(client::projects::Command),
    /// Recorded time.
    #[command(subcommand)]
    TimeEntries(client::time_entries::Command),
    /// The audit trail.
    #[command(subcommand)]
    Audit(client::audit::Command),
    /// Alerts.
    #[command(subcommand)]
    Alerts(client::alerts::Command),
    /// Events on the bus.
    #[command(subcommand)]
    Events(client::events::Command),
    /// The permission and the roles of every RPC.
    Permissions(client::permissions::Options),
    /// Import time entries from a file.
    Import(import::run::ImportOptions),
}

/// What `serve` runs.
#[derive(Debug, clap::Args)]
struct ServeOptions {
    /// Services to run in this process: tenants, consultants, projects, time-entries, audit, or all.
    #[arg(required = true)]
    services: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

/// What `migrate` changes.
#[derive(Debug, clap::Args)]
struct MigrateOptions {
    /// URL of a role that may create roles and schemas, with its password.
    #[arg(long, env = "CATALYST_DATABASE_ADMIN_URL", hide_env_values = true)]
    database_admin_url: String,
    /// Folder with such a URL for each dedicated cell, in a file that is named as the cell.
    #[arg(long, env = "CATALYST_CELLS_ADMIN_DIR")]
    cells_admin_dir: Option<PathBuf>,
    /// Copies of each stream: 1 on a single server, 3 on a cluster.
    #[arg(long, env = "CATALYST_NATS_REPLICAS", default_value_t = 1)]
    nats_replicas: usize,
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    nats: NatsSettings,
    #[command(flatten)]
    plaintext: Plaintext,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return if is_help {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_USAGE)
            };
        }
    };
    // The one crypto provider of the process; installing it twice is harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("cannot start the runtime")),
    };
    let code = match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    };
    // Dropped, it would wait for threads that block, such as one that sends traces to a collector that is silent.
    runtime.shutdown_background();
    code
}

fn fail(error: &anyhow::Error) -> ExitCode {
    client::output::error(&format!("{error:#}"));
    ExitCode::from(exit_code(error))
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { client, command } = cli;
    let out = client.output();
    match command {
        Command::Up(options) => up::run(options, &client.data_dir()?).await,
        Command::Serve(options) => run_services(*options).await,
        Command::Migrate(options) => migrate(options).await,
        Command::Keys { dir } => {
            Keys::load_or_create(&dir, &services::ALL)?;
            let nats = dir.join("nats");
            let identities = Identities::load_or_create(&nats)?;
            let settings =
                serde_json::to_string_pretty(&identities.server_settings("/data/accounts"))?;
            std::fs::write(nats.join("nats.conf"), settings)
                .with_context(|| format!("cannot write to {}", nats.display()))?;
            out.line(&format!(
                "the secrets of a deployment are in {}",
                dir.display()
            ))
        }
        Command::Doctor(options) => doctor::run(options, &client).await,
        Command::Token(options) => options.run(&client, &out).await,
        Command::Permissions(options) => client::permissions::run(&options, &out),
        Command::Tenants(command) => command.run(&client, &out).await,
        Command::Top(options) => options.run(&client, &out).await,
        Command::Consultants(command) => command.run(&client, &out).await,
        Command::Clients(command) => command.run(&client, &out).await,
        Command::Projects(command) => command.run(&client, &out).await,
        Command::TimeEntries(command) => command.run(&client, &out).await,
        Command::Audit(command) => command.run(&client, &out).await,
        Command::Alerts(command) => command.run(&client, &out).await,
        Command::Events(command) => command.run(&client, &out).await,
        Command::Import(options) => options.run(&client, &out).await,
    }
}

async fn run_services(options: ServeOptions) -> anyhow::Result<()> {
    let settings = services::ServiceSettings::from_environment()?;
    let names: Vec<&str> = if options.services.iter().any(|name| name == "all") {
        services::ALL
            .iter()
            .map(|definition| definition.name)
            .collect()
    } else {
        options.services.iter().map(String::as_str).collect()
    };
    let mut chosen = Vec::new();
    for name in names {
        chosen.push(services::service(name, &settings).ok_or_else(|| {
            SettingsError::new("serve", format!("{name} is no service: name tenants, consultants, projects, time-entries, audit, or all"))
        })?);
    }
    let plaintext = options.settings.wire.plaintext;
    if let Some(endpoint) = &options.telemetry.otlp_endpoint {
        plaintext.check_url("CATALYST_OTLP_ENDPOINT", endpoint)?;
    }
    serve::run(&options.settings, &options.telemetry, chosen).await
}

async fn migrate(options: MigrateOptions) -> anyhow::Result<()> {
    let plaintext = options.plaintext;
    plaintext.check_database_url("CATALYST_DATABASE_ADMIN_URL", &options.database_admin_url)?;
    plaintext.check_database(&options.database)?;
    let cells = options.cells_admin_dir.as_deref();
    let cells = cells.map(|folder| CellFolder::read(CELLS_ADMIN_DIR, folder));
    let cells = cells.transpose()?.unwrap_or_default();
    let cells = cells.and_then(CELLS_ADMIN_DIR, |_, url| {
        plaintext.check_database_url(CELLS_ADMIN_DIR, &url)?;
        Ok(url)
    });
    let database = DatabaseSettings {
        plaintext,
        ..options.database
    };
    plaintext.check_nats(&options.nats)?;
    let _telemetry = kit::telemetry::start(&TelemetrySettings {
        otlp_endpoint: None,
        log: "warn".to_owned(),
        log_format: LogFormat::Text,
    })?;
    let migrated = deployment::migrate_database(&options.database_admin_url, &database, &cells);
    let migrated = migrated.await;
    // A cell that is away keeps nobody from what is new at the broker.
    if migrated.as_ref().is_err_and(|it| !it.is::<CellsBehind>()) {
        return migrated;
    }
    deployment::migrate_broker(&options.nats, options.nats_replicas).await?;
    migrated
}

/// What the process exits with for an error.
fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<SettingsError>() {
            return EXIT_USAGE;
        }
        if let Some(start) = cause.downcast_ref::<StartError>() {
            return match start {
                StartError::Settings(_)
                | StartError::Listen { .. }
                | StartError::Bus(BusError::Settings(_)) => EXIT_USAGE,
                StartError::Bus(BusError::Unsynced { .. } | BusError::TooOld { .. })
                | StartError::Pending(_)
                | StartError::Cell(_)
                | StartError::Isolation { .. }
                | StartError::Permissions { .. } => EXIT_CONFIG,
                StartError::Bus(_)
                | StartError::Database { .. }
                | StartError::Migrations(_)
                | StartError::Directory { .. } => EXIT_UNAVAILABLE,
            };
        }
        if matches!(
            cause.downcast_ref(),
            Some(kit::migrate::MigrateError::OtherCell(_))
        ) {
            return EXIT_CONFIG;
        }
        if let Some(cells) = cause.downcast_ref::<CellsBehind>() {
            return cells.first().map_or(EXIT_CONFIG, exit_code);
        }
        if cause.is::<client::audit_trail::Tampered>() || cause.is::<reconcile::Departed>() {
            return EXIT_CONFIG;
        }
        if matches!(cause.downcast_ref(), Some(kit::Error::Unavailable { .. })) {
            return EXIT_UNAVAILABLE;
        }
        if let Some(unsound) = cause.downcast_ref::<doctor::Unsound>() {
            return unsound.exit_code();
        }
    }
    client::exit_code(error)
}
