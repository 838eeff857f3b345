//! What a process has a bounded amount of, and one tenant only a part of.
//!
//! Who finds none is told so at once: nobody waits for what another may hold for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::TenantId;

/// An amount that tenants share. A clone is of the same amount.
#[derive(Clone, Debug)]
pub struct Shares {
    of_all: usize,
    of_one: usize,
    taken: Taken,
}

type Taken = Arc<Mutex<HashMap<Option<TenantId>, usize>>>;

/// What was taken, until it is dropped.
#[derive(Debug)]
pub struct Share {
    holder: Option<TenantId>,
    amount: usize,
    taken: Taken,
}

impl Shares {
    /// So much for all together, and for each tenant.
    pub fn new(of_all: usize, of_one: usize) -> Self {
        Self {
            of_all,
            of_one,
            taken: Arc::default(),
        }
    }

    /// Takes so much for a tenant, or for those together of whom nothing is known; none when so much is not left.
    pub fn take(&self, holder: Option<TenantId>, amount: usize) -> Option<Share> {
        let mut taken = lock(&self.taken);
        let by_all: usize = taken.values().sum();
        let by_holder = taken.get(&holder).copied().unwrap_or_default();
        if by_all + amount > self.of_all || by_holder + amount > self.of_one {
            return None;
        }
        taken.insert(holder, by_holder + amount);
        drop(taken);
        Some(Share {
            holder,
            amount,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(by_holder) = taken.get_mut(&self.holder) {
            *by_holder -= self.amount;
            if *by_holder == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

fn lock(
    taken: &Mutex<HashMap<Option<TenantId>, usize>>,
) -> MutexGuard<'_, HashMap<Option<TenantId>, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_has_its_part_and_leaves_the_rest_to_others() {
        let shares = Shares::new(10, 4);
        let [one, other] = [TenantId::PLATFORM, TenantId::NONE].map(Some);
        let mut held = vec![shares.take(one, 3), shares.take(one, 1)];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.take(one, 1).is_none());
        held.extend([shares.take(other, 4), shares.take(None, 2)]);
        assert!(held.iter().all(Option::is_some));
        // Its part is free, and all is taken.
        assert!(shares.take(None, 1).is_none());
        held.clear();
        assert!(shares.take(one, 4).is_some());
        assert!(lock(&shares.taken).is_empty());
    }
}
