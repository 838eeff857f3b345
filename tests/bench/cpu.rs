//! Processor time, as the kernel counts it: of the services' threads of this process, and of PostgreSQL's processes.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the threads are called that run the services.
pub(crate) const SERVICES: &str = "services";
/// A tick of `/proc` lasts 10 ms on every machine that Linux runs on today.
const TICK: Duration = Duration::from_millis(10);

/// Processor time used since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) services: Duration,
    pub(crate) postgres: Duration,
}

impl Used {
    /// Reads it for this process and for the postmaster with all that it started, ended ones included.
    pub(crate) fn now(postmaster: u32) -> Self {
        let services: u32 = folders("/proc/self/task")
            .iter()
            .filter_map(|thread| Stat::read(thread))
            .filter(|thread| thread.name.starts_with(SERVICES))
            .map(|thread| thread.own)
            .sum();
        let postgres: u32 = folders("/proc")
            .iter()
            .filter_map(|process| Stat::read(process))
            .filter_map(|process| match process {
                // The time of backends that have ended is counted by the postmaster that waited for them.
                Stat {
                    pid, own, ended, ..
                } if pid == postmaster => Some(own + ended),
                Stat { parent, own, .. } if parent == postmaster => Some(own),
                _ => None,
            })
            .sum();
        Self {
            services: TICK * services,
            postgres: TICK * postgres,
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            services: self.services.saturating_sub(before.services),
            postgres: self.postgres.saturating_sub(before.postgres),
        }
    }
}

/// What is used of a `stat` file; times in ticks.
struct Stat {
    pid: u32,
    name: String,
    parent: u32,
    own: u32,
    ended: u32,
}

impl Stat {
    /// None when the process has just ended, or the folder is none of a process.
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("stat")).ok()?;
        // The name stands in parentheses and may hold any character.
        let (pid, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            parent: number(1)?,
            own: number(11)? + number(12)?,
            ended: number(13)? + number(14)?,
        })
    }
}

fn folders(path: &str) -> Vec<std::path::PathBuf> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        })
        .map(|entry| entry.path())
        .collect()
}
