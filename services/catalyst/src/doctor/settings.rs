//! Where the deployment is that the doctor judges: the settings of `serve`, or the running `catalyst up`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kit::attest::Expected;
use kit::settings::{DatabaseSettings, NatsSettings, SettingsError};

use super::Part;
use crate::client::ClientOptions;
use crate::servers::{Local, ServerOptions, given};

/// What `doctor` looks at: the deployment of the environment, or the running `catalyst up` of the data folder.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorOptions {
    /// Judge these parts alone; may be repeated [default: all].
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    servers: ServerOptions,
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
        if let (Some(path), Some(url)) = (&self.expected, &self.servers.database_url) {
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
                (Some(local), _) => Ok(of_local(local, part)),
                (None, Part::Database) => self.servers.database().map(Wanted::Services),
                (None, Part::Bus) => self.servers.brokers().map(Wanted::Brokers),
                (None, Part::Identity) => self.keys(),
            };
            Chosen { part, wanted }
        };
        Ok(parts.into_iter().map(choose).collect())
    }

    fn says_nothing(&self) -> bool {
        self.servers.say_nothing() && self.auth_jwks.is_none() && self.workload_jwks.is_none()
    }

    fn keys(&self) -> Result<Wanted, String> {
        Ok(Wanted::Keys(KeySources {
            users: given("CATALYST_AUTH_JWKS", self.auth_jwks.as_ref())?,
            workloads: given("CATALYST_WORKLOAD_JWKS", self.workload_jwks.as_ref())?,
        }))
    }
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

/// A part of a running `catalyst up`.
fn of_local(local: &Local, part: Part) -> Wanted {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    match part {
        Part::Database => Wanted::Services(local.database()),
        Part::Bus => Wanted::Brokers(local.brokers()),
        Part::Identity => Wanted::Keys(KeySources {
            users: text(local.keys.issuer_jwks()),
            workloads: text(local.keys.workload_jwks()),
        }),
    }
}
