//! The connections that the pools of all dedicated cells of a service may have together.
//!
//! Invariant: an open connection of a pool in the room has a place there until it is closed. When all are taken, the
//! pool that was used longest ago gives up one that is idle; without an idle one, the next that comes back is closed.
//! One that was opened a moment ago is kept: with more cells at work than there is room for, each call would open a
//! connection for itself, which costs more than the call.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a connection keeps its place. Shorter than a call waits.
pub(crate) const TENURE: Duration = Duration::from_millis(200);
/// Between two looks for an idle connection, for those who wait.
const LOOK: Duration = Duration::from_millis(50);

/// A pool with connections in the room.
pub(crate) trait Tenancy: Send + Sync {
    /// When somebody last had a connection of it, on a clock that all of them share; none while it has no idle one whose
    /// tenure is over.
    fn idle_since(&self) -> Option<u64>;

    /// Closes such a connection, if there is one.
    fn close_one(&self);
}

/// All places.
#[derive(Clone)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    pools: Arc<Mutex<Vec<Weak<dyn Tenancy>>>>,
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new(connections: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections as usize)),
            waiting: Arc::default(),
            pools: Arc::default(),
        }
    }

    /// Lets a pool in.
    pub(crate) fn admit(&self, pool: Weak<dyn Tenancy>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// A place that is free now.
    pub(crate) fn try_enter(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    /// A place for one more connection; none when no pool gives one up in time.
    pub(crate) async fn enter(&self, wait: Duration) -> Option<Place> {
        if let Some(place) = self.try_enter() {
            return Some(place);
        }
        let _waiting = Waiting::one_more(&self.waiting);
        let until = Instant::now() + wait;
        loop {
            self.close_oldest();
            let left = until.saturating_duration_since(Instant::now());
            let entering = Arc::clone(&self.places).acquire_owned();
            match tokio::time::timeout(left.min(LOOK), entering).await {
                Ok(permit) => return permit.ok().map(|permit| Place { _permit: permit }),
                Err(_) if left <= LOOK => return None,
                Err(_) => {}
            }
        }
    }

    /// Whether somebody waits for a place, so that a connection that comes back ought to be closed.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn close_oldest(&self) {
        let pools: Vec<Arc<dyn Tenancy>> = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        let idle = pools
            .iter()
            .filter_map(|pool| Some((pool.idle_since()?, pool)));
        if let Some((_, oldest)) = idle.min_by_key(|(since, _)| *since) {
            oldest.close_one();
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("free", &self.places.available_permits())
            .finish_non_exhaustive()
    }
}

/// Counts one who waits, for as long as it does.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn one_more(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// A pool whose connections are only places.
    struct Idle {
        since: u64,
        places: Mutex<Vec<Place>>,
    }

    impl Tenancy for Idle {
        fn idle_since(&self) -> Option<u64> {
            (!self.places.lock().unwrap().is_empty()).then_some(self.since)
        }

        fn close_one(&self) {
            self.places.lock().unwrap().pop();
        }
    }

    fn enter(room: &Room) -> Option<Place> {
        room.enter(Duration::from_secs(1)).now_or_never().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn the_pool_that_was_used_longest_ago_gives_up_its_idle_connections_first() {
        let room = Room::new(3);
        let pools = [20, 10].map(|since| {
            let places = Mutex::new(vec![enter(&room).unwrap()]);
            Arc::new(Idle { since, places })
        });
        for pool in &pools {
            let pool: Weak<dyn Tenancy> = Arc::downgrade(pool) as Weak<dyn Tenancy>;
            room.admit(pool);
        }
        let mut held = vec![enter(&room).unwrap(), enter(&room).unwrap()];
        assert_eq!(pools[0].idle_since(), Some(20));
        assert_eq!(pools[1].idle_since(), None);
        held.push(enter(&room).unwrap());
        assert_eq!(pools[0].idle_since(), None);
        // Nobody has an idle one now: whoever comes waits, and is told of the next that is closed.
        let mut late = Box::pin(room.enter(Duration::from_secs(1)));
        assert!((&mut late).now_or_never().is_none());
        assert!(room.is_wanted());
        drop(held);
        assert!(late.await.is_some());
        assert!(!room.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_too_long_for_a_place_has_none() {
        let room = Room::new(1);
        let held = enter(&room).unwrap();
        assert!(room.enter(Duration::from_secs(1)).await.is_none());
        drop(held);
        assert!(enter(&room).is_some());
    }
}
