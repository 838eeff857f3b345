//! The tenants of the deployment as this process knows them, and how much of it each may use: a watched key-value bucket.
//!
//! A suspended tenant is refused as soon as the bucket says so; without the bus the last known state holds.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream::kv::Operation;
use futures::StreamExt;
use prost::Message;
use proto::tenants::v1::{TenantDirectoryEntry, TenantState};
use tokio::sync::watch;

use crate::bus::Bus;
use crate::cells::CellName;
use crate::ids::TenantId;
use crate::plan::Plan;
use crate::tasks::Tasks;

/// The bucket's name.
pub const BUCKET: &str = "tenants";

/// Whether a tenant may use the deployment, and how much of it.
#[derive(Clone, Debug)]
pub struct Directory {
    tenants: Arc<RwLock<HashMap<TenantId, Known>>>,
    /// Raised with each change, so that open streams look again.
    changed: watch::Sender<u64>,
    loaded: watch::Sender<bool>,
}

/// What is known of a tenant.
#[derive(Clone, Debug)]
struct Known {
    state: TenantState,
    plan: Plan,
    placement: Option<Placement>,
    /// The epoch of the placement, also of one that this release cannot read.
    placed: i64,
    version: i64,
}

/// Where a tenant's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The cell.
    pub cell: CellName,
    /// Rises by one each time that the tenant is placed anew: of two placements the higher one holds.
    pub epoch: i64,
}

impl Directory {
    /// Starts watching; [`Directory::loaded`] tells when the bucket has been read once.
    pub(crate) fn start(bus: Bus, tasks: &Tasks) -> Self {
        let directory = Self {
            tenants: Arc::default(),
            changed: watch::channel(0).0,
            loaded: watch::channel(false).0,
        };
        tasks.spawn(directory.clone().watch(bus, tasks.clone()));
        directory
    }

    /// Whether the tenant exists and is active. The platform's own tenant always is.
    pub fn is_active(&self, tenant: TenantId) -> bool {
        tenant == TenantId::PLATFORM
            || self.look(tenant, |known| known.state) == Some(TenantState::Active)
    }

    /// How much of the deployment the tenant may use. The ordinary share for the platform, and for a tenant of which
    /// nothing is known, which is refused elsewhere.
    pub fn plan(&self, tenant: TenantId) -> Plan {
        self.look(tenant, |known| known.plan).unwrap_or_default()
    }

    /// Where the rows of the tenant are; the platform's are in the shared cell. None for a tenant of which nothing is
    /// known, or whose cell has a name that none can have: its rows must be looked for nowhere.
    pub fn placement(&self, tenant: TenantId) -> Option<Placement> {
        if tenant == TenantId::PLATFORM || tenant == TenantId::NONE {
            return Some(Placement {
                cell: CellName::SHARED,
                epoch: 0,
            });
        }
        self.look(tenant, |known| known.placement.clone()).flatten()
    }

    /// Waits at most `limit` for a tenant that nothing is known of: one that was just created is on its way here.
    pub(crate) async fn becomes_known(&self, tenant: TenantId, limit: Duration) {
        let mut changes = self.changed.subscribe();
        let known = async {
            while !self.is_known(tenant) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Unknown to the end: then it is refused like a suspended one.
        let _ = tokio::time::timeout(limit, known).await;
    }

    fn is_known(&self, tenant: TenantId) -> bool {
        tenant == TenantId::PLATFORM || self.look(tenant, |_| ()).is_some()
    }

    fn look<T>(&self, tenant: TenantId, at: impl FnOnce(&Known) -> T) -> Option<T> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(&tenant).map(at)
    }

    /// Resolves once `tenant` is no longer active; for streams that stay open.
    pub async fn deactivated(&self, tenant: TenantId) {
        let mut changes = self.changed.subscribe();
        while self.is_active(tenant) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Resolves once the bucket has been read.
    pub async fn loaded(&self) {
        let mut loaded = self.loaded.subscribe();
        // The sender lives as long as this directory.
        let _ = loaded.wait_for(|loaded| *loaded).await;
    }

    async fn watch(self, bus: Bus, tasks: Tasks) {
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                outcome = self.follow(&bus) => {
                    if let Err(error) = outcome {
                        tracing::warn!(error = %error, "the tenant directory cannot be watched; the last known state holds");
                    }
                }
            }
            if !tasks.pause(Duration::from_millis(500)).await {
                return;
            }
        }
    }

    async fn follow(&self, bus: &Bus) -> Result<(), async_nats::Error> {
        let store = bus.jetstream().get_key_value(BUCKET).await?;
        let expected = store.status().await?.values();
        let mut entries = store.watch_with_history(">").await?;
        if expected == 0 {
            self.loaded.send_replace(true);
        }
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            self.take(&entry.key, entry.operation, &entry.value);
            if entry.delta == 0 {
                self.loaded.send_replace(true);
            }
        }
        Ok(())
    }

    fn take(&self, key: &str, operation: Operation, value: &[u8]) {
        let Some(tenant) = TenantId::parse_strict(key) else {
            return;
        };
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        match operation {
            Operation::Put => match TenantDirectoryEntry::decode(value) {
                Ok(entry) => {
                    let mut known = Known {
                        state: entry.state(),
                        plan: Plan::of(entry.plan()).unwrap_or_default(),
                        placement: CellName::stored(&entry.cell).map(|cell| Placement {
                            cell,
                            epoch: entry.placement_epoch,
                        }),
                        placed: entry.placement_epoch,
                        version: entry.version,
                    };
                    let newer = tenants
                        .get(&tenant)
                        .is_none_or(|before| before.version <= known.version);
                    if newer {
                        // A release that knows of no cells tells of a newer version without one.
                        if let Some(before) = tenants.get(&tenant)
                            && known.placed < before.placed
                        {
                            known.placement.clone_from(&before.placement);
                            known.placed = before.placed;
                        }
                        tenants.insert(tenant, known);
                    }
                }
                Err(error) => {
                    tracing::error!(tenant.id = %tenant, error = %error, "an entry of the tenant directory does not decode");
                }
            },
            Operation::Delete | Operation::Purge => {
                tenants.remove(&tenant);
            }
        }
        drop(tenants);
        self.changed.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(directory: &Directory, version: i64, cell: &str, epoch: i64) -> Option<String> {
        let tenant = TenantId::NONE.to_string();
        let entry = TenantDirectoryEntry {
            version,
            cell: cell.to_owned(),
            placement_epoch: epoch,
            ..Default::default()
        };
        directory.take(&tenant, Operation::Put, &entry.encode_to_vec());
        let placement = directory.look(TenantId::NONE, |known| known.placement.clone());
        placement.flatten().map(|it| it.cell.to_string())
    }

    #[test]
    fn the_later_placement_holds_and_one_that_cannot_be_read_is_nowhere() {
        let directory = Directory {
            tenants: Arc::default(),
            changed: watch::channel(0).0,
            loaded: watch::channel(false).0,
        };
        let north = Some("north".to_owned());
        assert_eq!(placed(&directory, 1, "north", 2), north);
        // From a release that knows of no cells.
        assert_eq!(placed(&directory, 2, "", 0), north);
        assert_eq!(placed(&directory, 3, "Of a Later Release", 3), None);
        assert_eq!(placed(&directory, 4, "", 0), None);
        assert_eq!(placed(&directory, 5, "south", 4), Some("south".to_owned()));
    }
}
