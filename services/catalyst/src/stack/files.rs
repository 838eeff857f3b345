//! Files of an instance: whole or absent, and secrets readable by their owner alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use aws_lc_rs::rand;

/// Writes a file that only its owner may read; after a crash it holds the old text or the new one.
pub(super) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    write(path, text, 0o600)
}

/// Writes a file that others may read; after a crash it holds the old text or the new one.
pub(super) fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let partial = path.with_added_extension("partial");
    let written = || -> io::Result<()> {
        // A left-over would keep its own mode.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// The text of a file, or nothing when there is no such file.
pub(super) fn read_if_present(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Takes the exclusive lock of a folder at once, or says that somebody else holds it.
///
/// The kernel gives the lock back when its holder dies, however it dies.
pub(super) fn lock_folder(dir: &Path) -> anyhow::Result<File> {
    let file = lock_file(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another catalyst is running on {}: stop it, or choose another folder",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", dir.display()))
        }
    }
}

/// Waits for the exclusive lock of a folder.
pub(super) fn wait_for_folder(dir: &Path) -> anyhow::Result<File> {
    let file = lock_file(dir)?;
    file.lock()
        .with_context(|| format!("cannot lock {}", dir.display()))?;
    Ok(file)
}

fn lock_file(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Whether this program runs as root, as which PostgreSQL refuses to run.
pub(super) fn running_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Random bytes from the system, fit for secrets.
pub(super) fn random_bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(bytes)
}
