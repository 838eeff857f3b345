//! Servers of a test's own, for what the world of all tests must not be part of.

use std::path::{Path, PathBuf};
use std::process::Child;

use catalyst::deployment::Deployment;
use catalyst::stack::postgres::Postgres;
use catalyst::stack::{NatsChoice, StackOptions};
use kit::cells::CellName;

/// A deployment in a folder of its own; it ends with the process at the latest.
pub struct OwnDeployment {
    /// The servers and their keys.
    pub deployment: Deployment,
    dir: PathBuf,
    watchdog: Child,
}

impl OwnDeployment {
    /// Starts the servers, with these dedicated cells, and prepares them before anybody else connects.
    pub async fn start(cells: Vec<CellName>, prepare: impl AsyncFnOnce(&mut Deployment)) -> Self {
        let dir = crate::temporary_folder().expect("a folder");
        let options = StackOptions {
            dir: dir.clone(),
            postgres: crate::postgres_choice().expect("a choice"),
            nats: NatsChoice::Auto,
            durable: false,
            cells,
        };
        let deployment = Deployment::start(options, &|_| {}).await;
        let mut deployment = deployment.expect("the servers start");
        prepare(&mut deployment).await;
        let stack = &deployment.stack;
        let postgres = stack.postgres.iter().chain(stack.cells.values());
        let pids = postgres.map(Postgres::pid).chain([stack.nats.pid()]);
        let watchdog = crate::end_with_this_process(pids, &dir).expect("a shell");
        Self {
            deployment,
            dir,
            watchdog,
        }
    }

    /// Where the servers keep what they have.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends the servers, has a last look at their folder, and removes it.
    pub async fn end<T>(mut self, look: impl FnOnce(&Path) -> T) -> T {
        let stopped = self.deployment.stack.stop().await;
        stopped.expect("the servers stop");
        let seen = look(&self.dir);
        self.watchdog.kill().expect("killed");
        self.watchdog.wait().expect("ended");
        std::fs::remove_dir_all(&self.dir).expect("removed");
        seen
    }
}
