//! Where the callers run: beside what they measure, or on cores of their own, as on another machine, so that they take
//! nothing from it.

use std::process::{self, Command};
use std::thread::available_parallelism;
use std::{fmt, fs};

use anyhow::{Context as _, ensure};

/// The cores that this process may use.
pub(crate) enum Cores {
    /// All of them, for everything.
    Shared(usize),
    /// Half of them for servers and services, and half for the callers.
    Halved {
        servers: Vec<u32>,
        callers: Vec<u32>,
    },
}

impl Cores {
    pub(crate) fn shared() -> anyhow::Result<Self> {
        Ok(Self::Shared(available_parallelism()?.get()))
    }

    pub(crate) fn halved() -> anyhow::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let mut lines = status.lines();
        let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let list = list.context("the kernel tells no cores")?;
        let mut servers = numbers(list).with_context(|| format!("cores are told as {list}"))?;
        let callers = servers.split_off(servers.len().div_ceil(2));
        ensure!(!callers.is_empty(), "callers need a core of their own");
        Ok(Self::Halved { servers, callers })
    }

    /// From now on this process, and what it starts, runs where servers and services are to.
    pub(crate) fn run_with_servers(&self) -> anyhow::Result<()> {
        match self {
            Self::Shared(_) => Ok(()),
            Self::Halved { servers, .. } => run_on(servers),
        }
    }

    /// From now on this process runs where the callers are to; what it has started stays.
    pub(crate) fn run_with_callers(&self) -> anyhow::Result<()> {
        match self {
            Self::Shared(_) => Ok(()),
            Self::Halved { callers, .. } => run_on(callers),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(cores) => write!(f, "{cores} cores for everything"),
            Self::Halved { servers, callers } => {
                let (servers, callers) = (servers.len(), callers.len());
                write!(f, "cores: {callers} for callers, {servers} for the rest")
            }
        }
    }
}

fn run_on(cores: &[u32]) -> anyhow::Result<()> {
    let list: Vec<String> = cores.iter().map(u32::to_string).collect();
    let told = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &list.join(",")])
        .arg(process::id().to_string())
        .output()
        .context("taskset does not run: it comes with util-linux")?;
    let why = String::from_utf8_lossy(&told.stderr);
    ensure!(told.status.success(), "taskset fails: {why}");
    Ok(())
}

/// `0-1,4` is 0, 1 and 4.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_understood() {
        assert_eq!(numbers("\t0-1,4\n"), Some(vec![0, 1, 4]));
        assert_eq!(numbers("3"), Some(vec![3]));
        assert_eq!(numbers("none"), None);
    }
}
