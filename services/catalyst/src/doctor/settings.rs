//! Where the deployment is that the doctor judges: the settings of `serve`, or the running `catalyst up`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kit::attest::Expected;
use kit::settings::{DatabaseSettings, NatsSettings, SettingsError};
use kit::wire::Plaintext;

use super::Part;
use crate::client::ClientOptions;
use crate::keys::Keys;
use crate::{deployment, up};

/// What `doctor` looks at: the deployment of the environment, or the running `catalyst up` of the data folder.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorOptions {
    /// Judge these parts alone; may be repeated [default: all].
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// postgres://HOST:PORT/DATABASE without a user.
    #[arg(long, env = "CATALYST_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Folder with one password file per role.
    #[arg(long, env = "CATALYST_DATABASE_PASSWORD_DIR")]
    database_password_dir: Option<PathBuf>,
    /// File with the authorities (PEM) that PostgreSQL's certificate is verified by.
    #[arg(long, env = "CATALYST_DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
    /// nats://HOST:PORT, or several separated by commas.
    #[arg(long, env = "CATALYST_NATS_URL")]
    nats_url: Option<String>,
    /// Folder with one credentials file per user.
    #[arg(long, env = "CATALYST_NATS_CREDENTIALS_DIR")]
    nats_credentials_dir: Option<PathBuf>,
    /// Monitoring endpoints of every NATS server, separated by commas.
    #[arg(long, env = "CATALYST_NATS_MONITOR_URLS", value_delimiter = ',')]
    nats_monitor_urls: Vec<String>,
    /// File with the authorities (PEM) that the servers' certificates are verified by.
    #[arg(long, env = "CATALYST_NATS_CA_FILE")]
    nats_ca_file: Option<PathBuf>,
    /// File with the certificate chain (PEM) that is shown to the servers.
    #[arg(
        long,
        env = "CATALYST_NATS_CLIENT_CERT_FILE",
        requires = "nats_client_key_file"
    )]
    nats_client_cert_file: Option<PathBuf>,
    /// File with the private key (PEM) of that certificate.
    #[arg(
        long,
        env = "CATALYST_NATS_CLIENT_KEY_FILE",
        requires = "nats_client_cert_file"
    )]
    nats_client_key_file: Option<PathBuf>,
    /// Where plaintext may go.
    #[command(flatten)]
    plaintext: Plaintext,
    /// Whether brokers that do not sync every write are allowed: then that is a warning.
    #[arg(long, env = "CATALYST_ALLOW_UNSYNCED", default_value_t = false, action = clap::ArgAction::Set)]
    allow_unsynced: bool,
    /// The issuer's public keys (JWKS): a file or an http(s) URL.
    #[arg(long, env = "CATALYST_AUTH_JWKS")]
    auth_jwks: Option<String>,
    /// Public keys of the services (JWKS): a file or an http(s) URL.
    #[arg(long, env = "CATALYST_WORKLOAD_JWKS")]
    workload_jwks: Option<String>,
    /// Judge other schemas than Catalyst's: a TOML file that says what is expected of them. The URL of the database is
    /// then that of their serving role, with user and password.
    #[arg(
        long,
        value_name = "FILE",
        requires = "database_url",
        conflicts_with = "only"
    )]
    expected: Option<PathBuf>,
    /// List the rules and why each matters.
    #[arg(long)]
    rules: bool,
    /// Say why one rule matters.
    #[arg(long, value_name = "RULE")]
    pub(super) explain: Option<String>,
}

/// A part with where it is, or the settings that it lacks.
pub(super) struct Chosen {
    pub(super) part: Part,
    pub(super) wanted: Result<Wanted, String>,
}

/// What is to be judged.
pub(super) enum Wanted {
    /// The schemas of the services.
    Services(DatabaseSettings),
    /// Schemas of others, at a URL with a user.
    Schemas(Expected, String),
    Brokers(NatsSettings),
    Keys(KeySources),
}

/// Where the public keys are.
pub(super) struct KeySources {
    pub(super) users: String,
    pub(super) workloads: String,
}

impl DoctorOptions {
    pub(super) fn asks_for_rules(&self) -> bool {
        self.rules || self.explain.is_some()
    }

    /// The parts that are asked for, each with its settings.
    pub(super) fn choose(self, client: &ClientOptions) -> anyhow::Result<Vec<Chosen>> {
        if let (Some(path), Some(url)) = (&self.expected, &self.database_url) {
            let expected = read_expected(path)?;
            return Ok(vec![Chosen {
                part: Part::Database,
                wanted: Ok(Wanted::Schemas(expected, url.clone())),
            }]);
        }
        let parts = if self.only.is_empty() {
            vec![Part::Database, Part::Bus, Part::Identity]
        } else {
            self.only.clone()
        };
        let running = if self.says_nothing() {
            Some(Local::find(&client.data_dir()?)?)
        } else {
            None
        };
        let choose = |part| {
            let wanted = match (&running, part) {
                (Some(local), _) => Ok(local.wanted(part)),
                (None, Part::Database) => self.database(),
                (None, Part::Bus) => self.brokers(),
                (None, Part::Identity) => self.keys(),
            };
            Chosen { part, wanted }
        };
        Ok(parts.into_iter().map(choose).collect())
    }

    fn says_nothing(&self) -> bool {
        self.database_url.is_none()
            && self.database_password_dir.is_none()
            && self.nats_url.is_none()
            && self.nats_credentials_dir.is_none()
            && self.nats_monitor_urls.is_empty()
            && self.auth_jwks.is_none()
            && self.workload_jwks.is_none()
    }

    fn database(&self) -> Result<Wanted, String> {
        let settings = DatabaseSettings {
            database_url: given("CATALYST_DATABASE_URL", self.database_url.as_ref())?,
            database_password_dir: given(
                "CATALYST_DATABASE_PASSWORD_DIR",
                self.database_password_dir.as_ref(),
            )?,
            database_max_connections: 1,
            database_ca_file: self.database_ca_file.clone(),
        };
        let checked = self.plaintext.check_database(&settings);
        checked.map_err(|error| error.to_string())?;
        Ok(Wanted::Services(settings))
    }

    fn brokers(&self) -> Result<Wanted, String> {
        let monitors = &self.nats_monitor_urls;
        let monitors = (!monitors.is_empty()).then(|| monitors.clone());
        let settings = NatsSettings {
            nats_url: given("CATALYST_NATS_URL", self.nats_url.as_ref())?,
            nats_credentials_dir: given(
                "CATALYST_NATS_CREDENTIALS_DIR",
                self.nats_credentials_dir.as_ref(),
            )?,
            nats_monitor_urls: given("CATALYST_NATS_MONITOR_URLS", monitors.as_ref())?,
            allow_unsynced: self.allow_unsynced,
            nats_ca_file: self.nats_ca_file.clone(),
            nats_client_cert_file: self.nats_client_cert_file.clone(),
            nats_client_key_file: self.nats_client_key_file.clone(),
        };
        let checked = self.plaintext.check_nats(&settings);
        checked.map_err(|error| error.to_string())?;
        Ok(Wanted::Brokers(settings))
    }

    fn keys(&self) -> Result<Wanted, String> {
        Ok(Wanted::Keys(KeySources {
            users: given("CATALYST_AUTH_JWKS", self.auth_jwks.as_ref())?,
            workloads: given("CATALYST_WORKLOAD_JWKS", self.workload_jwks.as_ref())?,
        }))
    }
}

fn given<T: Clone>(variable: &str, value: Option<&T>) -> Result<T, String> {
    value
        .cloned()
        .ok_or_else(|| format!("{variable} is not set"))
}

fn read_expected(path: &Path) -> anyhow::Result<Expected> {
    let wrong = |problem: String| {
        SettingsError::new("--expected", format!("{}: {problem}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text)
        .map_err(|error| wrong(error.message().to_owned()))
        .context("the file says what is expected of the schemas, as the README shows")
}

/// A running `catalyst up`.
struct Local {
    running: up::Running,
    keys: Keys,
    credentials: PathBuf,
}

impl Local {
    fn find(data_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            running: up::Running::read(data_dir)?,
            keys: Keys::at(&deployment::keys_dir(data_dir)),
            credentials: data_dir.join("identity").join("credentials"),
        })
    }

    fn wanted(&self, part: Part) -> Wanted {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        match part {
            Part::Database => Wanted::Services(DatabaseSettings {
                database_url: self.running.database_url.clone(),
                database_password_dir: self.keys.password_dir(),
                database_max_connections: 1,
                database_ca_file: None,
            }),
            Part::Bus => Wanted::Brokers(NatsSettings {
                nats_url: self.running.nats_url.clone(),
                nats_credentials_dir: self.credentials.clone(),
                nats_monitor_urls: vec![self.running.nats_monitor_url.clone()],
                allow_unsynced: false,
                nats_ca_file: None,
                nats_client_cert_file: None,
                nats_client_key_file: None,
            }),
            Part::Identity => Wanted::Keys(KeySources {
                users: text(self.keys.issuer_jwks()),
                workloads: text(self.keys.workload_jwks()),
            }),
        }
    }
}
