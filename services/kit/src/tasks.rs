//! The tasks of one process: every one is tracked, told to stop, and awaited at the end.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns and stops tasks. A clone belongs to the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// A new, running group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group within this one: it stops with it, or before it with [`Tasks::end`].
    pub(crate) fn child(&self) -> Self {
        Self {
            tracker: self.tracker.clone(),
            stop: self.stop.child_token(),
        }
    }

    /// Tells every task of this group to stop, without waiting for them.
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }

    /// Spawns a task of this group.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one door to the runtime: tracked here"
    )]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(task))
    }

    /// Resolves once the group is told to stop; long-running tasks select on it.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Whether the group has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for `delay` or for the order to stop, whichever is first; false when it is time to stop.
    pub async fn pause(&self, delay: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    /// Tells every task to stop and waits for them at most `limit`; false when some were still running.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}
