//! Configuration: one documented struct for each concern, every value from a flag or a `CATALYST_…` variable.
//!
//! Invariant: no other code reads the environment; secrets come from files and sit in a type that does not print.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::cells::CellName;
use crate::wire::{Plaintext, WireSettings};

/// Why a setting cannot be used: one line that names the variable and the remedy. The process exits with 64.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct SettingsError {
    /// The variable at fault.
    pub variable: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl SettingsError {
    /// Names the variable and the problem.
    pub fn new(variable: &'static str, problem: impl Into<String>) -> Self {
        Self {
            variable,
            problem: problem.into(),
        }
    }
}

/// Where the process listens.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenSettings {
    /// Address of the gRPC server.
    #[arg(long, env = "CATALYST_LISTEN", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,
    /// Address of the HTTP server for metrics and probes: /metrics, /livez, /readyz.
    #[arg(long, env = "CATALYST_ADMIN_LISTEN", default_value = "127.0.0.1:7401")]
    pub admin_listen: SocketAddr,
    /// Whether gRPC server reflection is served.
    #[arg(long, env = "CATALYST_REFLECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub reflection: bool,
    /// What one tenant may ask for.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// Connections.
    #[command(flatten)]
    pub connections: ConnectionSettings,
}

/// What one tenant of the plan STANDARD may ask of each process: SMALL is a quarter of it, LARGE four times.
#[derive(Clone, Debug, clap::Args)]
pub struct LimitSettings {
    /// Calls that one tenant may make per second, on average and as a burst, in each process; an answer counts as one more
    /// for each 8 KiB of it.
    #[arg(long, env = "CATALYST_TENANT_CALLS_PER_SECOND", default_value = "2000")]
    pub tenant_calls_per_second: NonZeroU32,
    /// Calls of one tenant that each process works on at the same time; 512 at most, half of all that it works on,
    /// whatever the plan.
    #[arg(long, env = "CATALYST_TENANT_CONCURRENT_CALLS", default_value = "128")]
    pub tenant_concurrent_calls: NonZeroU32,
}

impl LimitSettings {
    /// Nothing that anybody reaches.
    pub const NONE: Self = Self {
        tenant_calls_per_second: NonZeroU32::MAX,
        tenant_concurrent_calls: NonZeroU32::MAX,
    };
}

/// What callers may hold open.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectionSettings {
    /// Connections that the process serves at the same time; more are closed as they come.
    #[arg(long, env = "CATALYST_MAX_CONNECTIONS", default_value_t = 4_096)]
    pub max_connections: usize,
    /// Connections of one address at the same time. Behind a proxy that is all connections of the proxy.
    #[arg(
        long,
        env = "CATALYST_MAX_CONNECTIONS_PER_PEER",
        default_value_t = 1_024
    )]
    pub max_connections_per_peer: usize,
    /// Seconds after which a connection is asked to go, so that callers spread over new replicas; within 20 %.
    #[arg(long, env = "CATALYST_CONNECTION_AGE_SECONDS", default_value_t = 300)]
    pub connection_age_seconds: u32,
    /// Seconds that a piece of an answer may wait for its caller to take it; then its stream is reset.
    #[arg(long, env = "CATALYST_ANSWER_STALL_SECONDS", default_value_t = 30)]
    pub answer_stall_seconds: u32,
}

impl ConnectionSettings {
    /// The age as a duration; at least a second.
    pub fn connection_age(&self) -> Duration {
        Duration::from_secs(self.connection_age_seconds.max(1).into())
    }

    /// The stall as a duration; at least a second.
    pub fn answer_stall(&self) -> Duration {
        Duration::from_secs(self.answer_stall_seconds.max(1).into())
    }
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            max_connections_per_peer: 1_024,
            connection_age_seconds: 300,
            answer_stall_seconds: 30,
        }
    }
}

/// Milliseconds that a call waits for a connection where nothing else is said.
const DATABASE_WAIT: u64 = 250;
/// Seconds that a connection to a database is used where nothing else is said.
const DATABASE_CONNECTION_AGE: u64 = 1_800;
/// Connections in one dedicated cell, and in all of them, where nothing else is said.
const CELL_CONNECTIONS: u32 = 8;
const CELLS_CONNECTIONS: u32 = 32;

/// The PostgreSQL database of the services.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseSettings {
    /// postgres://HOST:PORT/DATABASE without a user: every service connects as its own roles.
    #[arg(long, env = "CATALYST_DATABASE_URL")]
    pub database_url: String,
    /// Folder with one file per role, named as the role, that holds its password.
    #[arg(long, env = "CATALYST_DATABASE_PASSWORD_DIR")]
    pub database_password_dir: PathBuf,
    /// Connections that each service of this process may hold as its serving role.
    #[arg(long, env = "CATALYST_DATABASE_MAX_CONNECTIONS", default_value_t = 12)]
    pub database_max_connections: u32,
    /// Milliseconds that a call waits for one of these connections, of which no tenant holds more than its plan says;
    /// then it is shed.
    #[arg(long, env = "CATALYST_DATABASE_WAIT_MILLISECONDS", default_value_t = DATABASE_WAIT, value_parser = clap::value_parser!(u64).range(1..))]
    pub database_wait_milliseconds: u64,
    /// Seconds for which a connection is used, at most; it is renewed before, one after the other. So long does a changed
    /// address or setting of a role take.
    #[arg(long, env = "CATALYST_DATABASE_CONNECTION_AGE_SECONDS", default_value_t = DATABASE_CONNECTION_AGE, value_parser = clap::value_parser!(u64).range(1..))]
    pub database_connection_age_seconds: u64,
    /// File with the authorities (PEM) that PostgreSQL's certificate is verified by, beside the public ones.
    /// The URL then says `?sslmode=verify-full`.
    #[arg(long, env = "CATALYST_DATABASE_CA_FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Dedicated cells beside that database.
    #[command(flatten)]
    pub cells: CellSettings,
    /// Which cell that database is: it must say so itself at each connection.
    #[arg(skip)]
    pub cell: CellName,
    /// Where plaintext may go to a dedicated cell.
    #[arg(skip)]
    pub plaintext: Plaintext,
}

/// The databases of tenants that have one for themselves.
#[derive(Clone, Debug, clap::Args)]
pub struct CellSettings {
    /// Folder with one file per dedicated cell, named as the cell, that holds the URL of its database as
    /// CATALYST_DATABASE_URL does. Read again every few seconds.
    #[arg(long, env = "CATALYST_CELLS_DIR")]
    pub cells_dir: Option<PathBuf>,
    /// Connections that each service of this process may hold in one dedicated cell as its serving role.
    #[arg(long, env = "CATALYST_CELL_MAX_CONNECTIONS", default_value_t = CELL_CONNECTIONS, value_parser = clap::value_parser!(u32).range(1..))]
    pub cell_max_connections: u32,
    /// The same in all dedicated cells together: past it, a cell that has not been used for long gives one up.
    #[arg(long, env = "CATALYST_CELLS_MAX_CONNECTIONS", default_value_t = CELLS_CONNECTIONS, value_parser = clap::value_parser!(u32).range(1..))]
    pub cells_max_connections: u32,
}

impl Default for CellSettings {
    fn default() -> Self {
        Self {
            cells_dir: None,
            cell_max_connections: CELL_CONNECTIONS,
            cells_max_connections: CELLS_CONNECTIONS,
        }
    }
}

impl DatabaseSettings {
    /// A database whose certificate is none or one of the public authorities', with the wait that is the default.
    pub fn new(url: String, password_dir: PathBuf, max_connections: u32) -> Self {
        Self {
            database_url: url,
            database_password_dir: password_dir,
            database_max_connections: max_connections,
            database_wait_milliseconds: DATABASE_WAIT,
            database_connection_age_seconds: DATABASE_CONNECTION_AGE,
            database_ca_file: None,
            cells: CellSettings::default(),
            cell: CellName::SHARED,
            plaintext: Plaintext::default(),
        }
    }
}

/// What happens when events wait for the broker.
#[derive(Clone, Debug, clap::Args)]
pub struct OutboxSettings {
    /// Rows of a service's outbox past which mutations are slowed, the more the more there are, up to half a second.
    #[arg(long, env = "CATALYST_OUTBOX_SLOW_ROWS", default_value_t = 100_000)]
    pub outbox_slow_rows: u64,
    /// Age in seconds of the oldest row past which mutations are slowed in the same way.
    #[arg(long, env = "CATALYST_OUTBOX_SLOW_SECONDS", default_value_t = 60)]
    pub outbox_slow_seconds: u32,
    /// Rows from which on mutations are refused.
    #[arg(long, env = "CATALYST_OUTBOX_MAX_ROWS", default_value_t = 1_000_000)]
    pub outbox_max_rows: u64,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            outbox_slow_rows: 100_000,
            outbox_slow_seconds: 60,
            outbox_max_rows: 1_000_000,
        }
    }
}

/// What is remembered of rows.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CacheSettings {
    /// Resources of each kind that each service of this process keeps for up to 5 s after a read; none keeps none.
    #[arg(long, env = "CATALYST_CACHE_ENTRIES", default_value_t = 0)]
    pub cache_entries: u64,
}

/// The NATS servers.
#[derive(Clone, Debug, clap::Args)]
pub struct NatsSettings {
    /// tls://HOST:PORT, or several separated by commas; nats://HOST:PORT on this machine.
    #[arg(long, env = "CATALYST_NATS_URL")]
    pub nats_url: String,
    /// Folder with one credentials file per user: `<service>.creds`.
    #[arg(long, env = "CATALYST_NATS_CREDENTIALS_DIR")]
    pub nats_credentials_dir: PathBuf,
    /// Monitoring endpoints of every NATS server, separated by commas: https://HOST:8222.
    #[arg(
        long,
        env = "CATALYST_NATS_MONITOR_URLS",
        value_delimiter = ',',
        required = true
    )]
    pub nats_monitor_urls: Vec<String>,
    /// Serve although a broker does not sync every write to disk. Development only: a power cut then loses events.
    #[arg(long, env = "CATALYST_ALLOW_UNSYNCED", default_value_t = false, action = clap::ArgAction::Set)]
    pub allow_unsynced: bool,
    /// File with the authorities (PEM) that NATS and its monitoring endpoints are verified by. None: the system's.
    #[arg(long, env = "CATALYST_NATS_CA_FILE")]
    pub nats_ca_file: Option<PathBuf>,
    /// File with the certificate chain (PEM) that this process shows to NATS.
    #[arg(
        long,
        env = "CATALYST_NATS_CLIENT_CERT_FILE",
        requires = "nats_client_key_file"
    )]
    pub nats_client_cert_file: Option<PathBuf>,
    /// File with the private key (PEM) of that certificate.
    #[arg(
        long,
        env = "CATALYST_NATS_CLIENT_KEY_FILE",
        requires = "nats_client_cert_file"
    )]
    pub nats_client_key_file: Option<PathBuf>,
}

/// Who may call, and as whom this process calls others.
#[derive(Clone, Debug, clap::Args)]
pub struct IdentitySettings {
    /// The `iss` that user tokens must carry.
    #[arg(long, env = "CATALYST_AUTH_ISSUER")]
    pub auth_issuer: String,
    /// The `aud` that user tokens must carry.
    #[arg(long, env = "CATALYST_AUTH_AUDIENCE", default_value = "catalyst")]
    pub auth_audience: String,
    /// The issuer's public keys (JWKS): a file or an http(s) URL.
    #[arg(long, env = "CATALYST_AUTH_JWKS")]
    pub auth_jwks: String,
    /// Public keys of the services of this deployment (JWKS, `kid` = service): a file or an http(s) URL.
    #[arg(long, env = "CATALYST_WORKLOAD_JWKS")]
    pub workload_jwks: String,
    /// Seconds between two reads of the key sets: a removed key is refused at most this much, and ten seconds, later.
    #[arg(long, env = "CATALYST_JWKS_REFRESH_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=50))]
    pub jwks_refresh_seconds: u64,
    /// Seconds at least between two reads of a key set that tokens with unknown keys set off.
    #[arg(long, env = "CATALYST_JWKS_REFETCH_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=50))]
    pub jwks_refetch_seconds: u64,
    /// Folder with the private keys of the services that this process runs: `<service>.pem` (PKCS#8, P-256).
    #[arg(long, env = "CATALYST_WORKLOAD_KEY_DIR")]
    pub workload_key_dir: PathBuf,
    /// File with the key that page tokens are authenticated with: at least 32 bytes, the same on every replica.
    #[arg(long, env = "CATALYST_PAGE_TOKEN_KEY_FILE")]
    pub page_token_key_file: PathBuf,
}

/// Logs, traces and metrics.
#[derive(Clone, Debug, clap::Args)]
pub struct TelemetrySettings {
    /// OTLP/gRPC endpoint for traces: http://HOST:4317. None: no traces leave the process.
    #[arg(long, env = "CATALYST_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Log filter: a level, or `target=level` pairs separated by commas.
    #[arg(long, env = "CATALYST_LOG", default_value = "info")]
    pub log: String,
    /// `json` for machines, `text` for people.
    #[arg(long, env = "CATALYST_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for a terminal.
    Text,
}

/// Everything that a serving process needs; business settings of a service stand beside it.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Listeners.
    #[command(flatten)]
    pub listen: ListenSettings,
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// NATS.
    #[command(flatten)]
    pub nats: NatsSettings,
    /// Backpressure.
    #[command(flatten)]
    pub outbox: OutboxSettings,
    /// What is remembered of rows.
    #[command(flatten)]
    pub cache: CacheSettings,
    /// Tokens and keys.
    #[command(flatten)]
    pub identity: IdentitySettings,
    /// Certificates, and where plaintext may go.
    #[command(flatten)]
    pub wire: WireSettings,
}

/// Reads a secret of text from a file, without its final line break.
pub fn read_secret(variable: &'static str, path: &Path) -> Result<SecretString, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        SettingsError::new(variable, format!("cannot read {}: {error}", path.display()))
    })?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(SettingsError::new(
            variable,
            format!("{} is empty: put the secret into it", path.display()),
        ));
    }
    Ok(SecretString::from(text))
}

/// Reads the settings of one service from the environment alone.
pub fn from_environment<S: clap::Args>() -> Result<S, SettingsError> {
    let command = S::augment_args(clap::Command::new("catalyst").no_binary_name(true));
    let read = command
        .try_get_matches_from::<[&str; 0], &str>([])
        .and_then(|matches| S::from_arg_matches(&matches));
    read.map_err(|error| {
        let text = error.to_string();
        let line = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        SettingsError::new("CATALYST_…", line)
    })
}
