//! A disk that is small, and full when the test says so.
//!
//! Invariant: nothing outside of it runs out of room.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{own_name, reason, run, text};

const BALLAST: &str = ".ballast";
/// How long room that was given back may take to be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether this machine permits it, tried once; else why not.
pub(crate) fn available() -> Result<(), String> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    let tried = TRIED.get_or_init(|| {
        let tried = Disk::create(&std::env::temp_dir(), 1);
        tried
            .map(drop)
            .map_err(|error| reason("a full disk", &error))
    });
    tried.clone()
}

/// A file system of a fixed size, in memory; goes when it is dropped, with all that is on it.
#[derive(Debug)]
pub(crate) struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Makes one of this size below `dir`, which everybody may enter.
    pub(crate) fn create(dir: &Path, mib: u32) -> anyhow::Result<Self> {
        let disk = Self {
            mount: dir.join(own_name()),
        };
        fs::create_dir(&disk.mount)
            .with_context(|| format!("cannot create {}", disk.mount.display()))?;
        let options = format!("size={mib}m,mode=0755,nodev,nosuid");
        let mount = text(&disk.mount)?;
        run("mount", ["-t", "tmpfs", "-o", &options, "tmpfs", mount])?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Takes all the room that is left; a disk that is full already stays so.
    ///
    /// Servers keep the blocks that they have: what they overwrite in place still succeeds.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.mount.join(BALLAST))?;
        // In ever smaller pieces, until not a page is left.
        let mut piece = 1 << 20;
        while piece >= 4096 {
            match ballast.write(&vec![0; piece]) {
                Ok(written) if written > 0 => {}
                Ok(_) => piece /= 2,
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives back the room that [`Disk::fill`] took.
    #[expect(
        clippy::disallowed_methods,
        reason = "a device is undone by a thread that may wait, and where no runtime is"
    )]
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        let ballast = self.mount.join(BALLAST);
        match fs::remove_file(&ballast) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        // A process that is just being started has the file open a moment longer than this one.
        let begun = Instant::now();
        while let Err(error) = fs::write(&ballast, [0; 4096]) {
            ensure!(begun.elapsed() < PATIENCE, "there is no room: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(fs::remove_file(&ballast)?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Fails when it was never mounted.
        let _ = text(&self.mount).and_then(|mount| run("umount", ["--lazy", mount]));
        let _ = fs::remove_dir(&self.mount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::trial::{Folder, works};

    #[test]
    fn a_full_disk_refuses_a_byte_more_until_it_is_freed() {
        if !works(&available()) {
            return;
        }
        let folder = Folder::new();
        let disk = Disk::create(folder.path(), 8).expect("a disk");
        let file = disk.path().join("file");
        fs::write(&file, vec![1; 1 << 20]).expect("there is room");

        disk.fill().expect("filled");
        let refused = fs::write(disk.path().join("more"), b"x").expect_err("there is no room");
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&file).unwrap().len(), 1 << 20);
        disk.fill().expect("it stays full");

        disk.free().expect("freed");
        fs::write(disk.path().join("more"), vec![1; 4 << 20]).expect("there is room again");
        disk.free().expect("nothing to free");
        drop(disk);
        let left: Vec<_> = folder.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
