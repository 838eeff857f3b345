//! A read-through cache of single resources in the process; off unless the deployment gives it room.
//!
//! Invariants: a key is made from a context, so none is without its tenant; what an event has told to be past is not
//! served, nor kept by a read that began before it; nothing is served while the bus, which tells of changes, is away, and
//! nothing that is older than [`AGE`]. What a caller's role decides is no part of a value: only what every role that may
//! ask is shown alike may be cached. A shared cache would take the same key and the same events.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::StreamExt;
use moka::notification::RemovalCause;
use opentelemetry::KeyValue;
use uuid::Uuid;

use crate::bus::Bus;
use crate::ctx::Ctx;
use crate::events::Stream;
use crate::ids::{Id, Kind, TenantId};
use crate::tasks::Tasks;
use crate::telemetry::METRICS;

/// How old a value may be, should the news of a change be lost on its way.
const AGE: Duration = Duration::from_secs(5);
/// The same for the absence of one.
const ABSENT: Duration = Duration::from_secs(1);
/// What one tenant has of the room, in percent; past it, its reads go by the cache until entries of its own have gone.
const SHARE: u64 = 25;
/// Between two tries to hear of changes.
const BREATH: Duration = Duration::from_millis(500);

/// A resource that may be cached: every role that may ask for it is shown the same.
pub trait Cached: Clone + Send + Sync + 'static {
    /// Rises by one with each change.
    fn version(&self) -> i64;
}

/// Names a resource of a tenant, as this process has known it since it heard of changes without a break.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    kind: &'static str,
    id: Uuid,
    epoch: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            kind,
            id,
            epoch,
        } = self;
        write!(f, "tenant:{tenant}:{kind}:{id}:{epoch}")
    }
}

/// The caches of one service, and how they hear of changes.
#[derive(Clone)]
pub struct Caches {
    entries: u64,
    /// The number of the connection that tells of changes; none while there is none.
    epoch: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    all: Arc<RwLock<Vec<Arc<dyn Told>>>>,
}

/// A cache that hears of changes.
trait Told: Send + Sync {
    fn told(&self, tenant: TenantId, id: Uuid, version: i64);
}

impl Caches {
    /// Caches of at most so many entries each, which hear of changes over the bus. None with no entries.
    pub(crate) fn new(entries: u64, bus: Bus) -> Self {
        Self::with_epoch(entries, move || bus.connection())
    }

    fn with_epoch(entries: u64, epoch: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self {
            entries,
            epoch: Arc::new(epoch),
            all: Arc::default(),
        }
    }

    /// The cache of one kind of resource.
    pub fn of<K: Kind, V: Cached>(&self) -> Cache<V> {
        let held: Arc<Mutex<HashMap<TenantId, u64>>> = Arc::default();
        let gone = Arc::clone(&held);
        let slots = moka::sync::Cache::builder()
            .max_capacity(self.entries)
            .time_to_live(AGE)
            .eviction_listener(move |key: Arc<Key>, _, _: RemovalCause| {
                count(&gone, key.tenant, |held| held.saturating_sub(1));
            })
            .build();
        let shelf = Arc::new(Shelf {
            kind: K::NAME,
            share: (self.entries * SHARE / 100).max(1),
            slots,
            held,
            epoch: Arc::clone(&self.epoch),
        });
        let told: Arc<dyn Told> = Arc::clone(&shelf) as Arc<dyn Told>;
        self.all
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(told);
        Cache {
            shelf: (self.entries > 0).then_some(shelf),
        }
    }

    /// Notes that an aggregate of the tenant is at this version now.
    pub(crate) fn told(&self, tenant: TenantId, id: Uuid, version: i64) {
        for cache in &*self.all.read().unwrap_or_else(PoisonError::into_inner) {
            cache.told(tenant, id, version);
        }
    }

    /// Hears what other replicas have changed, until the process stops. The live messages of the stream may be lost, and
    /// come once at most: [`AGE`] bounds what that costs.
    pub(crate) async fn listen(self, bus: Bus, noun: &'static str, tasks: Tasks) {
        if self.entries == 0 {
            return;
        }
        let subject = format!("{}.*.{noun}.*", Stream::Domain.heard());
        loop {
            if let Ok(mut events) = bus.subscribe(subject.clone()).await {
                loop {
                    tokio::select! {
                        () = tasks.stopping() => return,
                        event = events.next() => match event {
                            Some(event) => self.hear(&event),
                            None => break,
                        },
                    }
                }
            }
            if !tasks.pause(BREATH).await {
                return;
            }
        }
    }

    fn hear(&self, event: &async_nats::Message) {
        let header = |name: &str| Some(event.headers.as_ref()?.get(name)?.as_str());
        let changed = || {
            let tenant = TenantId::parse_strict(event.subject.split('.').nth(1)?)?;
            let id = Uuid::try_parse(header("ce-subject")?).ok()?;
            Some((tenant, id, header("ce-sequence")?.parse().ok()?))
        };
        if let Some((tenant, id, version)) = changed() {
            self.told(tenant, id, version);
        }
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caches")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

/// The cache of one kind of resource.
#[derive(Clone)]
pub struct Cache<V> {
    /// None when the deployment gives no room.
    shelf: Option<Arc<Shelf<V>>>,
}

struct Shelf<V> {
    kind: &'static str,
    /// Entries that one tenant may have.
    share: u64,
    slots: moka::sync::Cache<Key, Arc<Slot<V>>>,
    held: Arc<Mutex<HashMap<TenantId, u64>>>,
    epoch: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

/// The place of one resource.
struct Slot<V> {
    value: RwLock<Option<Kept<V>>>,
    /// One reads for all who wait.
    flight: tokio::sync::Mutex<()>,
    /// The version that the resource is known to have reached: older ones are past.
    floor: AtomicI64,
}

/// A resource, or its absence.
#[derive(Clone)]
struct Kept<V> {
    value: Option<V>,
    until: Instant,
}

impl<V: Cached> Cache<V> {
    /// The resource as it was within [`AGE`], or as `load` reads it; callers that ask for the same one meanwhile wait for
    /// that. An error is nobody's but the reader's own.
    pub async fn read<K: Kind, E>(
        &self,
        ctx: &Ctx,
        id: Id<K>,
        load: impl AsyncFnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E> {
        let Some((shelf, epoch)) = self
            .shelf
            .as_ref()
            .and_then(|shelf| Some((shelf, (shelf.epoch)()?)))
        else {
            return load().await;
        };
        let key = Key {
            tenant: ctx.tenant(),
            kind: shelf.kind,
            id: id.uuid(),
            epoch,
        };
        let Some(slot) = shelf.slot(key) else {
            return load().await;
        };
        if let Some(kept) = slot.fresh() {
            shelf.count("hit");
            return Ok(kept.value);
        }
        let _flight = slot.flight.lock().await;
        if let Some(kept) = slot.fresh() {
            shelf.count("hit");
            return Ok(kept.value);
        }
        shelf.count("miss");
        let read = Instant::now();
        let loaded = load().await?;
        slot.keep(loaded.clone(), read);
        Ok(loaded)
    }
}

impl<V: Cached> Shelf<V> {
    /// The place of a key; none when its tenant has its share of them already.
    fn slot(&self, key: Key) -> Option<Arc<Slot<V>>> {
        if let Some(slot) = self.slots.get(&key) {
            return Some(slot);
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&key.tenant).copied().unwrap_or_default() >= self.share {
            return None;
        }
        drop(held);
        Some(self.slots.get_with(key, || {
            tracing::trace!(cache.key = %key, "a resource has a place in the cache");
            count(&self.held, key.tenant, |held| held + 1);
            Arc::new(Slot {
                value: RwLock::new(None),
                flight: tokio::sync::Mutex::new(()),
                floor: AtomicI64::new(0),
            })
        }))
    }

    fn count(&self, outcome: &'static str) {
        let labels = [
            KeyValue::new("kind", self.kind),
            KeyValue::new("outcome", outcome),
        ];
        METRICS.cache_reads.add(1, &labels);
    }
}

impl<V: Cached> Told for Shelf<V> {
    fn told(&self, tenant: TenantId, id: Uuid, version: i64) {
        let Some(epoch) = (self.epoch)() else {
            return;
        };
        let key = Key {
            tenant,
            kind: self.kind,
            id,
            epoch,
        };
        if let Some(slot) = self.slots.get(&key) {
            slot.floor.fetch_max(version, Ordering::AcqRel);
        }
    }
}

impl<V: Cached> Slot<V> {
    /// What is kept, unless it is past.
    fn fresh(&self) -> Option<Kept<V>> {
        let kept = self.value.read().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_ref().filter(|it| Instant::now() < it.until)?;
        self.is_current(kept.value.as_ref()).then(|| kept.clone())
    }

    fn keep(&self, value: Option<V>, read: Instant) {
        let age = if value.is_some() { AGE } else { ABSENT };
        let kept = self.is_current(value.as_ref()).then(|| Kept {
            value,
            until: read + age,
        });
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    fn is_current(&self, value: Option<&V>) -> bool {
        value.map_or(0, V::version) >= self.floor.load(Ordering::Acquire)
    }
}

/// Changes how many entries a tenant has; nothing is kept of one that has none.
fn count(held: &Mutex<HashMap<TenantId, u64>>, tenant: TenantId, change: impl FnOnce(u64) -> u64) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    let now = change(held.get(&tenant).copied().unwrap_or_default());
    if now == 0 {
        held.remove(&tenant);
    } else {
        held.insert(tenant, now);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU64;

    use futures::FutureExt;

    use super::*;
    use crate::ctx::{Actor, Clock};

    struct Thing;

    impl Kind for Thing {
        const NAME: &'static str = "thing";
    }

    impl Cached for i64 {
        fn version(&self) -> i64 {
            *self
        }
    }

    /// Caches whose connection is the number, zero for none.
    fn caches(entries: u64) -> (Caches, Arc<AtomicU64>) {
        let connection = Arc::new(AtomicU64::new(1));
        let seen = Arc::clone(&connection);
        let caches = Caches::with_epoch(entries, move || match seen.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number),
        });
        (caches, connection)
    }

    fn ctx(tenant: u128) -> Ctx {
        let tenant = TenantId::new(Uuid::from_u128(tenant));
        Ctx::of_event(tenant, Actor::Service("test".to_owned()), Clock::system())
    }

    fn id(number: u128) -> Id<Thing> {
        Id::new(Uuid::from_u128(number))
    }

    async fn read(cache: &Cache<i64>, ctx: &Ctx, number: u128, found: Option<i64>) -> Option<i64> {
        let read = cache.read(ctx, id(number), async || Ok::<_, Infallible>(found));
        read.await.unwrap_or_else(|never| match never {})
    }

    #[tokio::test]
    async fn a_resource_is_read_once_and_another_tenants_of_the_same_id_is_its_own() {
        let cache = caches(100).0.of::<Thing, i64>();
        assert_eq!(read(&cache, &ctx(1), 7, Some(3)).await, Some(3));
        assert_eq!(read(&cache, &ctx(1), 7, Some(9)).await, Some(3));
        assert_eq!(read(&cache, &ctx(2), 7, None).await, None);
        assert_eq!(read(&cache, &ctx(1), 8, Some(5)).await, Some(5));
    }

    #[tokio::test]
    async fn a_thousand_who_miss_at_once_are_one_read() {
        let cache = caches(100).0.of::<Thing, i64>();
        let (own, reads) = (ctx(1), Cell::new(0));
        let misses = (0..1_000).map(|_| {
            cache.read(&own, id(7), async || {
                reads.set(reads.get() + 1);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Some(1))
            })
        });
        let found = futures::future::join_all(misses).await;
        assert!(found.iter().all(|it| *it == Ok(Some(1))));
        assert_eq!(reads.get(), 1);
    }

    #[tokio::test]
    async fn what_an_event_tells_to_be_past_is_read_again() {
        let (caches, _) = caches(100);
        let cache = caches.of::<Thing, i64>();
        let own = ctx(1);
        read(&cache, &own, 7, Some(3)).await;
        // What is told late, or of others, changes nothing.
        caches.told(own.tenant(), Uuid::from_u128(7), 3);
        caches.told(own.tenant(), Uuid::from_u128(8), 9);
        caches.told(ctx(2).tenant(), Uuid::from_u128(7), 9);
        assert_eq!(read(&cache, &own, 7, Some(9)).await, Some(3));
        caches.told(own.tenant(), Uuid::from_u128(7), 4);
        assert_eq!(read(&cache, &own, 7, Some(4)).await, Some(4));
        // An absence ends with the first version.
        assert_eq!(read(&cache, &own, 9, None).await, None);
        assert_eq!(read(&cache, &own, 9, Some(1)).await, None);
        caches.told(own.tenant(), Uuid::from_u128(9), 1);
        assert_eq!(read(&cache, &own, 9, Some(1)).await, Some(1));
    }

    #[tokio::test]
    async fn a_read_that_began_before_a_change_is_not_kept() {
        let (caches, _) = caches(100);
        let cache = caches.of::<Thing, i64>();
        let own = ctx(1);
        let old = cache.read(&own, id(7), async || {
            caches.told(own.tenant(), Uuid::from_u128(7), 4);
            Ok::<_, Infallible>(Some(3))
        });
        assert_eq!(old.await, Ok(Some(3)));
        assert_eq!(read(&cache, &own, 7, Some(4)).await, Some(4));
    }

    #[tokio::test]
    async fn nothing_is_served_without_the_bus_and_nothing_of_before_with_a_new_connection() {
        let (caches, connection) = caches(100);
        let cache = caches.of::<Thing, i64>();
        read(&cache, &ctx(1), 7, Some(3)).await;
        connection.store(0, Ordering::Relaxed);
        assert_eq!(read(&cache, &ctx(1), 7, Some(4)).await, Some(4));
        connection.store(2, Ordering::Relaxed);
        assert_eq!(read(&cache, &ctx(1), 7, Some(5)).await, Some(5));
    }

    #[tokio::test]
    async fn a_tenant_that_reads_much_leaves_the_others_their_room() {
        let cache = caches(100).0.of::<Thing, i64>();
        read(&cache, &ctx(2), 7, Some(3)).await;
        for number in 0..1_000 {
            read(&cache, &ctx(1), number, Some(1)).await;
        }
        if let Some(shelf) = &cache.shelf {
            shelf.slots.run_pending_tasks();
            assert_eq!(shelf.slots.entry_count(), 26);
        }
        assert_eq!(read(&cache, &ctx(2), 7, Some(9)).await, Some(3));
    }

    #[test]
    fn without_room_every_read_is_a_read() {
        let cache = caches(0).0.of::<Thing, i64>();
        for version in [1, 2] {
            let found = read(&cache, &ctx(1), 7, Some(version)).now_or_never();
            assert_eq!(found, Some(Some(version)));
        }
    }

    #[test]
    fn a_key_names_its_tenant() {
        let key = Key {
            tenant: TenantId::PLATFORM,
            kind: Thing::NAME,
            id: Uuid::from_u128(7),
            epoch: 3,
        };
        let text = format!("tenant:{}:thing:{}:3", TenantId::PLATFORM, key.id);
        assert_eq!(key.to_string(), text);
    }
}
