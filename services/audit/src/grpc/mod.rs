//! The wire: authorize, convert, call, convert back.

mod convert;
mod export;
mod operator;
mod read;
mod tenant;
mod watch;

use std::sync::Arc;

use kit::db::ExemptDb;
use kit::kit::Kit;
use kit::shares::Shares;
use tokio::sync::Semaphore;

use crate::recorder::Recorder;

/// Serves both gRPC services of the package.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kit: Kit,
    /// Reads of all tenants.
    pub(crate) exempt: ExemptDb,
    pub(crate) recorder: Recorder,
    /// Watches that one process keeps open.
    pub(crate) watches: Shares,
    /// Exports that one process runs side by side.
    pub(crate) exports: Arc<Semaphore>,
}
