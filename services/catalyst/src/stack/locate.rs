//! Finds the servers: what was chosen, else what is installed and suitable, else the bundled wheels.
//! A server is taken only after it has told its version itself, as the user that will run it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{bundle, files};

/// The oldest PostgreSQL that the migrations run on.
pub const OLDEST_POSTGRES: u32 = 15;
/// The oldest nats-server that has atomic batches and the fixes that the event path relies on.
pub const OLDEST_NATS: [u32; 3] = [2, 14, 3];
/// The account that runs PostgreSQL when this program runs as root; every Debian has it.
const NOBODY: u32 = 65_534;

/// Where PostgreSQL comes from; parsed from `auto`, `system`, `bundled` or a URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum PostgresChoice {
    /// A suitable installation of the machine, else the bundled one.
    #[default]
    Auto,
    /// An installation of the machine.
    System,
    /// The pinned wheel.
    Bundled,
    /// A server that runs already: the URL of a superuser, with its password.
    Url(String),
}

impl FromStr for PostgresChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "system" => Ok(Self::System),
            "bundled" => Ok(Self::Bundled),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Url(url.to_owned()))
            }
            _ => Err("expected auto, system, bundled or a postgres:// URL".to_owned()),
        }
    }
}

/// Never shows the URL, which holds a password.
impl fmt::Debug for PostgresChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::System => "system",
            Self::Bundled => "bundled",
            Self::Url(_) => "a URL",
        })
    }
}

/// Where nats-server comes from; parsed from `auto`, `system` or `bundled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatsChoice {
    /// The nats-server in `PATH` when it is new enough, else the bundled one.
    #[default]
    Auto,
    /// The nats-server in `PATH`.
    System,
    /// The pinned wheel.
    Bundled,
}

impl FromStr for NatsChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "system" => Ok(Self::System),
            "bundled" => Ok(Self::Bundled),
            _ => Err("expected auto, system or bundled".to_owned()),
        }
    }
}

/// An installed PostgreSQL that can serve Catalyst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresInstallation {
    /// The folder of `postgres` and `initdb`.
    pub bin: PathBuf,
    /// The major version, for example 15.
    pub major: u32,
    /// The folder of the extensions' control files.
    extensions: PathBuf,
}

impl PostgresInstallation {
    pub(super) fn has_extension(&self, name: &str) -> bool {
        self.extensions.join(format!("{name}.control")).is_file()
    }

    /// The installation in a folder of binaries, if it is complete and runs.
    pub(super) async fn at(bin: &Path) -> anyhow::Result<Self> {
        let mut postgres = Command::new(bin.join("postgres"));
        let version = version_of(drop_root(&mut postgres)).await?;
        let [major, ..] = version;
        // Some packages keep pg_config apart, in the one for developers.
        let beside = bin.parent().unwrap_or(bin).join("share");
        let mut shares = vec![
            beside.clone(),
            beside.join("postgresql"),
            PathBuf::from(format!("/usr/share/postgresql/{major}")),
        ];
        if let Ok(output) = Command::new(bin.join("pg_config"))
            .arg("--sharedir")
            .output()
            .await
        {
            shares.insert(0, String::from_utf8_lossy(&output.stdout).trim().into());
        }
        let extensions = shares
            .into_iter()
            .filter(|share| share.is_absolute())
            .map(|share| share.join("extension"))
            .find(|extensions| extensions.is_dir())
            .with_context(|| format!("{} has no folder of extensions", bin.display()))?;
        let found = Self {
            bin: bin.to_owned(),
            major,
            extensions,
        };
        if major < OLDEST_POSTGRES {
            bail!("{} holds PostgreSQL {major}, too old", bin.display());
        }
        if !bin.join("initdb").is_file() || !found.has_extension("btree_gist") {
            bail!("{} lacks initdb or btree_gist", bin.display());
        }
        Ok(found)
    }
}

/// Finds PostgreSQL; `major` is the version that made the data, when there are data already.
pub async fn postgres(
    choice: &PostgresChoice,
    major: Option<u32>,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<PostgresInstallation> {
    let fits = |found: &PostgresInstallation| major.is_none_or(|major| found.major == major);
    let wanted = major.map_or_else(
        || format!("PostgreSQL {OLDEST_POSTGRES} or newer with btree_gist"),
        |major| format!("PostgreSQL {major}, which made the data here,"),
    );
    if matches!(choice, PostgresChoice::Auto | PostgresChoice::System) {
        if let Some(found) = installed_postgres().await.into_iter().find(fits) {
            return Ok(found);
        }
        if *choice == PostgresChoice::System {
            bail!("{wanted} is not installed: install the package postgresql");
        }
    }
    let advice = || {
        format!(
            "{wanted} is not installed and the bundled one cannot be used: \
             install the package postgresql, or python3 with pip, or name a server with --postgres URL"
        )
    };
    let found = bundle::postgres(progress).await.with_context(advice)?;
    if !fits(&found) {
        bail!("{} (it is version {})", advice(), found.major);
    }
    Ok(found)
}

/// Finds the path of nats-server.
pub async fn nats(choice: NatsChoice, progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<PathBuf> {
    let [major, minor, patch] = OLDEST_NATS;
    if choice != NatsChoice::Bundled {
        if let Some(found) = installed_nats().await {
            return Ok(found);
        }
        if choice == NatsChoice::System {
            bail!("nats-server {major}.{minor}.{patch} or newer is not in PATH: install it");
        }
    }
    bundle::nats(progress).await.with_context(|| {
        format!(
            "nats-server {major}.{minor}.{patch} or newer is not in PATH and the bundled one cannot be used: \
             install it, or python3 with pip"
        )
    })
}

/// Every suitable PostgreSQL of the machine, newest first.
///
/// The `postgres` that comes first in `PATH` is never taken: it may be of any version.
pub(super) async fn installed_postgres() -> Vec<PostgresInstallation> {
    let mut folders: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let mut found = Vec::new();
    for folder in folders {
        match PostgresInstallation::at(&folder).await {
            Ok(installation) if !found.contains(&installation) => found.push(installation),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "passing over a PostgreSQL"),
        }
    }
    found.sort_by_key(|installation| std::cmp::Reverse(installation.major));
    found
}

async fn installed_nats() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    for candidate in std::env::split_paths(&path).map(|folder| folder.join("nats-server")) {
        if candidate.is_file()
            && version_of(&mut Command::new(&candidate))
                .await
                .is_ok_and(|version| version >= OLDEST_NATS)
        {
            return Some(candidate);
        }
    }
    None
}

/// Makes root start a command as the user `nobody`; everybody else starts it as themselves.
pub(super) fn drop_root(command: &mut Command) -> &mut Command {
    if files::running_as_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The user and group that own the files of PostgreSQL, when they must change hands.
pub(super) fn postgres_owner() -> Option<u32> {
    files::running_as_root().then_some(NOBODY)
}

async fn version_of(command: &mut Command) -> anyhow::Result<[u32; 3]> {
    let output = command
        .arg("--version")
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{} fails: {}",
            command.as_std().get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    parse_version(&text).with_context(|| format!("no version in {text:?}"))
}

/// The first number with its minor and patch, as in `postgres (PostgreSQL) 15.18 (Debian …)` or `nats-server: v2.15.1`.
fn parse_version(text: &str) -> Option<[u32; 3]> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let end = text
        .get(start..)?
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .map_or(text.len(), |length| start + length);
    let mut parts = text.get(start..end)?.split('.');
    let mut next = || parts.next().map_or(Some(0), |part| part.parse().ok());
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_servers_say() {
        let said = |text| parse_version(text);
        assert_eq!(
            said("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some([15, 18, 0])
        );
        assert_eq!(said("postgres (PostgreSQL) 19beta1\n"), Some([19, 0, 0]));
        assert_eq!(said("nats-server: v2.15.1\n"), Some([2, 15, 1]));
        assert_eq!(said("nats-server: v2.9.10-RC.1\n"), Some([2, 9, 10]));
        assert_eq!(said("nats-server"), None);
    }

    #[test]
    fn the_choice_of_postgres_is_parsed_and_never_shows_a_password() {
        let url: PostgresChoice = "postgres://root:secret@127.0.0.1/catalyst".parse().unwrap();
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!("system".parse(), Ok(PostgresChoice::System));
        assert_eq!("bundled".parse(), Ok(PostgresChoice::Bundled));
        "mysql://127.0.0.1".parse::<PostgresChoice>().unwrap_err();
    }
}
