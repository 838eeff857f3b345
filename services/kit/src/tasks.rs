//! The tasks of one process: every one is tracked, told to stop, and awaited at the end.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
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

    /// Work of this group that whoever awaits it carries out, and that goes on in a task of its own when it is dropped
    /// before its end. To spawn it at once would cost two wake-ups of another thread. A panic is its outcome.
    pub(crate) fn to_its_end<F>(&self, work: F) -> ToItsEnd<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let work = AssertUnwindSafe(self.tracker.track_future(work));
        ToItsEnd {
            running: Some(Box::pin(work.catch_unwind())),
        }
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

/// What [`Tasks::to_its_end`] makes.
pub(crate) struct ToItsEnd<T: Send + 'static> {
    running: Option<Pin<Box<dyn Future<Output = std::thread::Result<T>> + Send>>>,
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = std::thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let outcome = running.as_mut().poll(cx);
        if outcome.is_ready() {
            self.running = None;
        }
        outcome
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and with it every task.
        if let Some(running) = self.running.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(running);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn work_that_is_dropped_goes_on_and_is_waited_for() {
        let tasks = Tasks::new();
        let (go, gone) = oneshot::channel::<()>();
        let (done, mut was_done) = oneshot::channel();
        let mut work = tasks.to_its_end(async move {
            let _ = gone.await;
            let _ = done.send(());
        });
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        assert!(!tasks.stop(Duration::from_millis(20)).await);
        go.send(()).unwrap();
        assert!(tasks.stop(SOON).await);
        was_done.try_recv().unwrap();
    }

    #[tokio::test]
    async fn work_that_was_never_awaited_is_done() {
        let tasks = Tasks::new();
        let (done, was_done) = oneshot::channel();
        drop(tasks.to_its_end(async move { done.send(()) }));
        tokio::time::timeout(SOON, was_done).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome() {
        let work = Tasks::new().to_its_end(async { panic!("as it may happen") });
        let outcome: std::thread::Result<()> = work.await;
        assert!(outcome.is_err());
    }
}
