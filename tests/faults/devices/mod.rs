//! What breaks things on purpose: power, disks, networks and connections, each under the control of its test.
//!
//! Invariants: a device touches only what it made itself, names that after the program that made it, and takes it
//! away when it is dropped; what a killed program left behind, the next one sweeps up. A device that the machine does
//! not permit says so in a sentence.

pub(crate) mod disk;
pub(crate) mod net;
pub(crate) mod power;
pub(crate) mod proxy;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

/// What the names of all that devices make begin with.
const PREFIX: &str = "cfault";

/// A name that nothing else on the machine has: the prefix, this program's id, a number.
fn own_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}x{number}", std::process::id())
}

/// Whether a name was made by a program that has ended.
fn is_leftover(name: &str) -> bool {
    let maker = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('x'))
        .and_then(|(pid, _)| pid.parse::<u32>().ok());
    maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Takes away what earlier programs left behind when they were killed.
pub(crate) fn sweep() -> anyhow::Result<()> {
    sweep_mounts()?;
    net::sweep()
}

/// The last part of a mount point's path is the name of its device.
fn sweep_mounts() -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points {
        let name = point.rsplit('/').next().unwrap_or_default();
        if is_leftover(name) {
            run("umount", ["--lazy", point])?;
            let _ = std::fs::remove_dir(point);
            let _ = std::fs::remove_file(power::image_of(Path::new(point)));
        }
    }
    Ok(())
}

/// Runs a command to its end; what it wrote, or what it complained of.
///
/// Blocks: the commands of the devices take milliseconds, and their order is what a test is about.
fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} fails: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A reason that fits on a line.
fn reason(device: &str, error: &anyhow::Error) -> String {
    let error = format!("{error:#}").replace('\n', "; ");
    format!("{device} is not possible on this machine: {error}")
}

/// For the tests of devices: a folder that goes with its test, and what is said when a device may not work here.
#[cfg(test)]
mod trial {
    use std::path::{Path, PathBuf};

    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn new() -> Self {
            Self(harness::temporary_folder().expect("a folder"))
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    /// Whether a device works here; without it the test says so and ends.
    pub(super) fn works(available: &Result<(), String>) -> bool {
        if let Err(reason) = available {
            eprintln!("not tried: {reason}");
        }
        available.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_programs_that_have_ended_are_leftovers() {
        assert!(!is_leftover(&own_name()));
        // Above the largest id that a kernel gives.
        assert!(is_leftover(&format!("{PREFIX}4194305x0")));
        assert!(!is_leftover("cfault"));
        assert!(!is_leftover("somebody's"));
    }

    #[test]
    fn what_a_killed_program_left_behind_is_swept_up() {
        if !trial::works(&disk::available()) || !trial::works(&net::available()) {
            return;
        }
        let folder = trial::Folder::new();
        let left = format!("{PREFIX}4194305x1");
        let mount = folder.path().join(&left);
        std::fs::create_dir(&mount).unwrap();
        run("mount", ["-t", "tmpfs", "tmpfs", text(&mount).unwrap()]).unwrap();
        for namespace in [left.clone(), format!("{left}-node")] {
            run("ip", ["netns", "add", &namespace]).unwrap();
        }
        sweep().expect("swept");
        assert!(!mount.exists());
        let namespaces = run("ip", ["netns", "list"]).unwrap();
        assert!(!namespaces.contains(&left), "{namespaces}");
    }
}
