//! The load of a run: seeded workers of several firms, until they are told to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalyst::keys::Issuer;
use fastrand::Rng;
use kit::TenantId;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::client::Lines;
use crate::history::{Firm, History, Noun};
use crate::worker::Worker;

/// What all workers of a run share.
pub(crate) struct Ground {
    pub(crate) lines: Lines,
    pub(crate) issuer: Issuer,
    pub(crate) firms: Vec<Firm>,
    pub(crate) acknowledged: AtomicU64,
    /// Calls that had no answer, or one that leaves open what became of them.
    pub(crate) failures: AtomicU64,
    /// The last of them.
    pub(crate) failed: Mutex<Option<String>>,
    /// Whether callers go away from some of their calls before the answer.
    pub(crate) hasty: bool,
    pub(crate) stopping: AtomicBool,
    pub(crate) paused: AtomicBool,
    /// Ids that were created, for whoever probes from another firm.
    pub(crate) known: Mutex<Vec<(TenantId, Noun, Uuid)>>,
}

/// Keeps the workers from beginning anything while it lives.
pub(crate) struct Pause(Arc<Ground>);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.paused.store(false, Ordering::Relaxed);
    }
}

/// Workers that run until they are told to stop.
pub(crate) struct Load {
    pub(crate) ground: Arc<Ground>,
    workers: JoinSet<History>,
}

impl Load {
    /// Starts `per_firm` workers for each firm; `hasty` ones go away from some calls at any moment, and come back.
    pub(crate) fn start(
        lines: Lines,
        issuer: Issuer,
        firms: Vec<Firm>,
        per_firm: usize,
        hasty: bool,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let ground = Arc::new(Ground {
            lines,
            issuer,
            firms,
            acknowledged: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failed: Mutex::default(),
            hasty,
            stopping: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            known: Mutex::default(),
        });
        let mut workers = JoinSet::new();
        let mut rng = Rng::with_seed(seed);
        for firm in ground.firms.clone() {
            for number in 0..per_firm {
                let worker = Worker::new(&ground, &firm, number, rng.fork())?;
                workers.spawn(worker.run());
            }
        }
        Ok(Self { ground, workers })
    }

    /// Writes that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.ground.acknowledged.load(Ordering::Relaxed)
    }

    /// Workers begin nothing until this is dropped.
    pub(crate) fn pause(&self) -> Pause {
        self.ground.paused.store(true, Ordering::Relaxed);
        Pause(Arc::clone(&self.ground))
    }

    /// Calls that failed so far.
    pub(crate) fn failures(&self) -> u64 {
        self.ground.failures.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes have been acknowledged from now on.
    pub(crate) async fn goes_on(&self, more: u64, within: Duration) -> anyhow::Result<()> {
        let goal = self.acknowledged() + more;
        let reached = harness::within(within, async || (self.acknowledged() >= goal).then_some(()));
        let seconds = within.as_secs();
        anyhow::ensure!(
            reached.await.is_some(),
            "fewer than {more} writes were acknowledged within {seconds} s{}",
            self.complaint()
        );
        Ok(())
    }

    /// What failed last.
    pub(crate) fn complaint(&self) -> String {
        let failed = self
            .ground
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failed
            .as_ref()
            .map(|why| format!("; the last failure: {why}"))
            .unwrap_or_default()
    }

    /// Ends the load: open outcomes are settled, then everything that was seen is returned.
    pub(crate) async fn stop(mut self) -> anyhow::Result<History> {
        self.ground.stopping.store(true, Ordering::Relaxed);
        let mut history = History {
            firms: self.ground.firms.clone(),
            ..History::default()
        };
        while let Some(seen) = self.workers.join_next().await {
            history.merge(seen?);
        }
        Ok(history)
    }
}
