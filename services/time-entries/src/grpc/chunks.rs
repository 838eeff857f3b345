//! Turns of the chunks of imports, each of which holds a connection to the database while it is stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kit::TenantId;
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};

/// Chunks that a process stores at the same time: imports leave most connections to calls that people wait for.
const CONCURRENT: usize = 4;

/// Who stores a chunk. Chunks of one tenant are stored one after the other, so they wait for each other before they
/// take one of the turns that all tenants share.
pub(super) struct Chunks {
    all: Semaphore,
    each: Mutex<HashMap<TenantId, Weak<tokio::sync::Mutex<()>>>>,
}

/// The turn of one chunk, until it is dropped.
pub(super) struct Turn<'a> {
    // Given back before the next of its tenant goes on.
    _shared: Option<SemaphorePermit<'a>>,
    _own: OwnedMutexGuard<()>,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            all: Semaphore::new(CONCURRENT),
            each: Mutex::default(),
        }
    }

    /// Waits for the turn of a chunk of the tenant.
    pub(super) async fn turn(&self, tenant: TenantId) -> Turn<'_> {
        let own = self.line_of(tenant).lock_owned().await;
        Turn {
            // It is never closed.
            _shared: self.all.acquire().await.ok(),
            _own: own,
        }
    }

    fn line_of(&self, tenant: TenantId) -> Arc<tokio::sync::Mutex<()>> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = each.get(&tenant).and_then(Weak::upgrade) {
            return line;
        }
        each.retain(|_, line| line.strong_count() > 0);
        let line = Arc::default();
        each.insert(tenant, Arc::downgrade(&line));
        line
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_tenant_with_many_imports_keeps_no_turn_from_another() {
        let chunks = Chunks::new();
        let (many, other) = (TenantId::PLATFORM, TenantId::NONE);
        let first = chunks.turn(many).await;
        let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(chunks.turn(many))).collect();
        for next in &mut waiting {
            assert!(next.now_or_never().is_none());
        }
        drop(chunks.turn(other).now_or_never().unwrap());
        drop(first);
        for next in waiting {
            drop(next.await);
        }
        // Who has no chunk any more is forgotten when somebody comes.
        drop(chunks.turn(other).await);
        assert_eq!(chunks.each.lock().unwrap().len(), 1);
    }
}
