//! Named moments at which a test of faults stops one task while the rest of its process goes on.
//!
//! Without the feature `failpoints`, which no product has, all of this compiles to nothing. With it, CATALYST_FAILPOINTS
//! names a folder of this process alone: a test arms a moment with a file of its name, the task that comes by first
//! leaves `<moment>.reached` with the process's id and waits until the file is gone or is another; all others pass.

#[cfg(not(feature = "failpoints"))]
mod absent {
    use std::future::{Future, Ready, ready};

    /// Nothing.
    pub(crate) fn reach(_moment: &'static str) -> Ready<()> {
        ready(())
    }

    /// The step alone.
    pub(crate) fn begun<F: Future>(_moment: &'static str, step: F) -> F {
        step
    }
}

#[cfg(feature = "failpoints")]
mod present {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::task::Poll;
    use std::time::Duration;

    /// How soon a stopped task sees that it may go on.
    const LOOK: Duration = Duration::from_millis(5);

    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();

    /// Stops here if a test has armed the moment and no other task has come by since.
    pub(crate) async fn reach(moment: &'static str) {
        let folder = FOLDER.get_or_init(|| std::env::var_os("CATALYST_FAILPOINTS").map(Into::into));
        let Some(folder) = folder else { return };
        let file = folder.join(moment);
        let Ok(armed) = fs::read(&file) else { return };
        // Made by one task for each arming; the test removes it when it arms anew.
        let Ok(mut reached) = File::create_new(folder.join(format!("{moment}.reached"))) else {
            return;
        };
        // Whoever reads an empty file reads again.
        let _ = write!(reached, "{}", std::process::id());
        tracing::warn!(moment, "a task stops for a test of faults");
        while fs::read(&file).is_ok_and(|now| now == armed) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Begins the step, so that what it sends is on its way, stops as [`reach`] does, and goes on with the step.
    pub(crate) async fn begun<F: Future>(moment: &'static str, step: F) -> F::Output {
        let mut step = std::pin::pin!(step);
        let first = futures::poll!(step.as_mut());
        reach(moment).await;
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => step.await,
        }
    }
}

#[cfg(not(feature = "failpoints"))]
pub(crate) use absent::{begun, reach};
#[cfg(feature = "failpoints")]
pub(crate) use present::{begun, reach};
