//! Where the servers of a deployment are, for commands that reach them without a service: the settings of `serve`, or
//! the running `catalyst up`.

use std::path::{Path, PathBuf};

use kit::settings::{CellSettings, DatabaseSettings, NatsSettings};
use kit::wire::Plaintext;

use crate::client::ClientOptions;
use crate::client::error::{Unavailable, Usage};
use crate::keys::Keys;
use crate::{deployment, stack, up};

/// PostgreSQL and NATS of the deployment of the environment; without any of it, of the running `catalyst up`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerOptions {
    /// postgres://HOST:PORT/DATABASE without a user.
    #[arg(long, env = "CATALYST_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Folder with one password file per role.
    #[arg(long, env = "CATALYST_DATABASE_PASSWORD_DIR")]
    database_password_dir: Option<PathBuf>,
    /// File with the authorities (PEM) that PostgreSQL's certificate is verified by.
    #[arg(long, env = "CATALYST_DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
    /// Folder with one file per dedicated cell that holds the URL of its database.
    #[arg(long, env = "CATALYST_CELLS_DIR")]
    cells_dir: Option<PathBuf>,
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
}

impl ServerOptions {
    /// Whether nothing is said of where they are.
    pub(crate) fn say_nothing(&self) -> bool {
        self.database_url.is_none()
            && self.database_password_dir.is_none()
            && self.nats_url.is_none()
            && self.nats_credentials_dir.is_none()
            && self.nats_monitor_urls.is_empty()
    }

    /// The database of the environment, or that of the running `catalyst up` of the client's data folder.
    pub(crate) fn find_database(&self, client: &ClientOptions) -> anyhow::Result<DatabaseSettings> {
        if self.say_nothing() {
            return Ok(local(client)?.database());
        }
        Ok(self.database().map_err(Usage::new)?)
    }

    /// The broker, found in the same way.
    pub(crate) fn find_brokers(&self, client: &ClientOptions) -> anyhow::Result<NatsSettings> {
        if self.say_nothing() {
            return Ok(local(client)?.brokers());
        }
        Ok(self.brokers().map_err(Usage::new)?)
    }

    /// The database, or which setting of it is missing or wrong.
    pub(crate) fn database(&self) -> Result<DatabaseSettings, String> {
        let url = given("CATALYST_DATABASE_URL", self.database_url.as_ref())?;
        let password_dir = given(
            "CATALYST_DATABASE_PASSWORD_DIR",
            self.database_password_dir.as_ref(),
        )?;
        let settings = DatabaseSettings {
            database_ca_file: self.database_ca_file.clone(),
            cells: CellSettings {
                cells_dir: self.cells_dir.clone(),
                cell_max_connections: 1,
                ..CellSettings::default()
            },
            plaintext: self.plaintext,
            ..DatabaseSettings::new(url, password_dir, 1)
        };
        let checked = self.plaintext.check_database(&settings);
        checked.map_err(|error| error.to_string())?;
        Ok(settings)
    }

    /// The broker, or which setting of it is missing or wrong.
    pub(crate) fn brokers(&self) -> Result<NatsSettings, String> {
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
        Ok(settings)
    }
}

fn local(client: &ClientOptions) -> anyhow::Result<Local> {
    let found = Local::find(&client.data_dir()?);
    found.map_err(|error| Unavailable::new(format!("{error:#}")).into())
}

/// A setting that must be there.
pub(crate) fn given<T: Clone>(variable: &str, value: Option<&T>) -> Result<T, String> {
    value
        .cloned()
        .ok_or_else(|| format!("{variable} is not set"))
}

/// A running `catalyst up`.
pub(crate) struct Local {
    running: up::Running,
    /// Its keys.
    pub(crate) keys: Keys,
    credentials: PathBuf,
    cells: PathBuf,
}

impl Local {
    /// The one of a data folder.
    pub(crate) fn find(data_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            running: up::Running::read(data_dir)?,
            keys: Keys::at(&deployment::keys_dir(data_dir)),
            credentials: data_dir.join("identity").join("credentials"),
            cells: stack::cells_dir(data_dir),
        })
    }

    /// Its PostgreSQL.
    pub(crate) fn database(&self) -> DatabaseSettings {
        let url = self.running.database_url.clone();
        DatabaseSettings {
            cells: CellSettings {
                cells_dir: Some(self.cells.clone()),
                cell_max_connections: 1,
                ..CellSettings::default()
            },
            ..DatabaseSettings::new(url, self.keys.password_dir(), 1)
        }
    }

    /// Its NATS.
    pub(crate) fn brokers(&self) -> NatsSettings {
        NatsSettings {
            nats_url: self.running.nats_url.clone(),
            nats_credentials_dir: self.credentials.clone(),
            nats_monitor_urls: vec![self.running.nats_monitor_url.clone()],
            allow_unsynced: false,
            nats_ca_file: None,
            nats_client_cert_file: None,
            nats_client_key_file: None,
        }
    }
}
