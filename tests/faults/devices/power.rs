//! A power cut: a file system of its own, which loses what was not synced when its power goes.
//!
//! Invariant: what a program synced before the cut is there after it; what it only wrote is not. The file system is
//! told to stop as if its disk had gone (`EXT4_IOC_SHUTDOWN`, without a last write of the journal) and reads its journal
//! back when it is mounted again, as after a real cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use super::{own_name, reason, run, text};

/// Nothing reaches the disk by itself within the time of a test: neither the journal every five seconds, nor data on
/// a rename.
const OPTIONS: &str = "loop,nodev,nosuid,commit=3600,noauto_da_alloc";
/// The request, and its flag for leaving the journal as it is. The standard library has no ioctl, and a crate's needs
/// unsafe code; Python is a tool of this repository.
const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
/// How long killed servers may take to let go of their files.
const RELEASE: Duration = Duration::from_secs(20);

/// Whether this machine permits it, tried once on a small volume; else why not.
pub(crate) fn available() -> Result<(), String> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    let tried = TRIED.get_or_init(|| {
        let cut = || {
            let volume = Volume::create(&std::env::temp_dir(), 16)?;
            volume.cut()?;
            volume.unmount()?;
            volume.mount()
        };
        cut().map_err(|error| reason("a power cut", &error))
    });
    tried.clone()
}

/// A file system in a file; goes when it is dropped, with all that is on it.
#[derive(Debug)]
pub(crate) struct Volume {
    mount: PathBuf,
}

impl Volume {
    /// Makes one of this size below `dir`, which everybody may enter.
    pub(crate) fn create(dir: &Path, mib: u32) -> anyhow::Result<Self> {
        let volume = Self {
            mount: dir.join(own_name()),
        };
        fs::create_dir(&volume.mount)
            .with_context(|| format!("cannot create {}", volume.mount.display()))?;
        let image = image_of(&volume.mount);
        fs::File::create(&image)?.set_len(u64::from(mib) << 20)?;
        // Without reserved blocks and without work left for later by the kernel.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(
            "mkfs.ext4",
            ["-q", "-F", "-m", "0", "-E", lazy, text(&image)?],
        )?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power. From here on nothing reaches the disk, and whoever tries is told of an error.
    ///
    /// The servers on the volume live on without a disk: kill them, then [`Volume::restore`].
    pub(crate) fn cut(&self) -> anyhow::Result<()> {
        run("python3", ["-c", SHUTDOWN, text(&self.mount)?]).map(drop)
    }

    /// Power again: what was synced is there. Waits until the killed servers have let go of their files.
    pub(crate) async fn restore(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + RELEASE;
        while let Err(busy) = self.unmount() {
            if Instant::now() > deadline {
                return Err(busy).context("somebody still works on the volume");
            }
            sleep(Duration::from_millis(50)).await;
        }
        while self.is_held()? {
            ensure!(
                Instant::now() < deadline,
                "another mount namespace keeps the volume"
            );
            sleep(Duration::from_millis(50)).await;
        }
        self.mount()
    }

    fn unmount(&self) -> anyhow::Result<()> {
        run("umount", [text(&self.mount)?]).map(drop)
    }

    /// Whether somebody still has the old file system, with another copy of the mounts: it would come back as it was.
    fn is_held(&self) -> anyhow::Result<bool> {
        let devices = run("losetup", ["-j", text(&image_of(&self.mount))?])?;
        Ok(!devices.is_empty())
    }

    fn mount(&self) -> anyhow::Result<()> {
        let image = image_of(&self.mount);
        let arguments = [
            "-t",
            "ext4",
            "-o",
            OPTIONS,
            text(&image)?,
            text(&self.mount)?,
        ];
        run("mount", arguments).map(drop)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Fails when it was never mounted.
        let _ = text(&self.mount).and_then(|mount| run("umount", ["--lazy", mount]));
        let _ = fs::remove_dir(&self.mount);
        let _ = fs::remove_file(image_of(&self.mount));
    }
}

/// The file that holds the volume of a mount point.
pub(super) fn image_of(mount: &Path) -> PathBuf {
    mount.with_added_extension("ext4")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::process::Stdio;

    use async_nats::jetstream;
    use catalyst::stack::{NatsChoice, locate};
    use harness::free_port;
    use tokio::process::{Child, Command};

    use super::*;
    use crate::devices::trial::{Folder, works};

    #[tokio::test]
    async fn what_was_synced_survives_a_cut_and_what_was_only_written_does_not() {
        if !works(&available()) {
            return;
        }
        let folder = Folder::new();
        let volume = Volume::create(folder.path(), 16).expect("a volume");
        let of = |name: &str| volume.path().join(name);
        let mut synced = File::create(of("synced")).unwrap();
        synced.write_all(b"kept").unwrap();
        synced.sync_all().unwrap();
        File::open(volume.path()).unwrap().sync_all().unwrap();
        synced.write_all(b" and lost").unwrap();
        fs::write(of("written"), b"lost").unwrap();

        volume.cut().expect("a cut");
        let refused = fs::write(of("after"), b"late").expect_err("there is no disk");
        // EIO.
        assert_eq!(refused.raw_os_error(), Some(5));
        drop(synced);
        volume.restore().await.expect("power again");

        assert_eq!(fs::read(of("synced")).unwrap(), b"kept");
        assert!(!of("written").exists());
        assert!(!of("after").exists());
    }

    #[test]
    fn a_volume_goes_with_its_image_when_it_is_dropped() {
        if !works(&available()) {
            return;
        }
        let folder = Folder::new();
        let volume = Volume::create(folder.path(), 16).expect("a volume");
        fs::write(volume.path().join("file"), b"here").unwrap();
        drop(volume);
        let left: Vec<_> = folder.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn a_broker_that_syncs_keeps_what_it_acknowledged_and_one_of_default_settings_loses_it() {
        if !works(&available()) {
            return;
        }
        assert_eq!(kept_by_a_broker("always").await, 300);
        assert_eq!(kept_by_a_broker("2m").await, 0);
    }

    /// How many of 300 acknowledged messages a power cut leaves with this `sync_interval`.
    async fn kept_by_a_broker(sync_interval: &str) -> u64 {
        let folder = Folder::new();
        let volume = Volume::create(folder.path(), 64).expect("a volume");
        let binary = locate::nats(NatsChoice::Auto, &|_| {})
            .await
            .expect("a nats-server");
        let port = free_port();
        let config = folder.path().join("nats.conf");
        let store = volume.path().display();
        let settings = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: \"{store}\", sync_interval: \"{sync_interval}\" }}\n"
        );
        fs::write(&config, settings).unwrap();

        let mut server = started(&binary, &config);
        let broker = connected(port).await;
        let stream = jetstream::stream::Config {
            name: "KEPT".to_owned(),
            subjects: vec!["kept".to_owned()],
            ..Default::default()
        };
        broker.create_stream(stream).await.expect("a stream");
        for number in 0..300 {
            publish(&broker, number).await;
        }
        volume.cut().expect("a cut");
        server.kill().await.expect("killed");
        volume.restore().await.expect("power again");

        let mut server = started(&binary, &config);
        let kept = match connected(port).await.get_stream("KEPT").await {
            Ok(stream) => stream.cached_info().state.messages,
            Err(_gone) => 0,
        };
        server.kill().await.expect("killed");
        kept
    }

    fn started(binary: &Path, config: &Path) -> Child {
        Command::new(binary)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server starts")
    }

    async fn connected(port: u16) -> jetstream::Context {
        let url = format!("nats://127.0.0.1:{port}");
        harness::eventually("the broker answers", async || {
            let broker = jetstream::new(async_nats::connect(&url).await.ok()?);
            broker.query_account().await.ok()?;
            Some(broker)
        })
        .await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the broker is the test's own, and its messages are no events"
    )]
    async fn publish(broker: &jetstream::Context, number: u32) {
        broker
            .publish("kept", number.to_string().into())
            .await
            .expect("sent")
            .await
            .expect("acknowledged");
    }
}
