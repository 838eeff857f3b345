//! Keeps the tenant directory: the key-value bucket from which every service learns whom to refuse.
//!
//! Invariant: an entry is written only over an older or incomplete version of itself, so that neither a repeated nor a reordered
//! event takes the directory back.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::kv::{Store, UpdateErrorKind};
use futures::{StreamExt, TryStreamExt};
use kit::bus::Bus;
use kit::directory::BUCKET;
use kit::events::{Distrust, Event};
use kit::subscriber::{Failure, Subscriber};
use kit::{Ctx, TenantId, Tx};
use prost::Message;
use proto::tenants::v1::{
    TenantCreated, TenantDirectoryEntry, TenantPlaced, TenantPlanChanged, TenantResumed,
    TenantSuspended,
};

/// Entries written at once: each is a round trip that the broker syncs.
const CONCURRENCY: usize = 16;
/// The subscriber's transaction is open meanwhile, and the database ends one that is idle for 5 s.
const LIMIT: Duration = Duration::from_secs(4);
/// Attempts at one entry that others write at the same time.
const ATTEMPTS: usize = 5;

/// Turns events of tenants into entries of the directory.
pub(crate) struct Writer {
    bus: Bus,
}

impl Writer {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus }
    }

    /// Writes those that are newer than what the bucket holds.
    pub(crate) async fn write_all(
        &self,
        entries: Vec<TenantDirectoryEntry>,
    ) -> Result<(), kit::Error> {
        let bucket = self
            .bus
            .jetstream()
            .get_key_value(BUCKET)
            .await
            .map_err(unavailable)?;
        futures::stream::iter(entries)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENCY, |entry| write(&bucket, entry))
            .await
    }
}

#[tonic::async_trait]
impl Subscriber for Writer {
    /// The bucket is written before the inbox commits: a crash between the two repeats a write that changes nothing.
    async fn apply(&self, ctx: &Ctx, _: &mut Tx, events: &[Event]) -> Result<(), Failure> {
        if ctx.tenant() != TenantId::PLATFORM {
            return Err(kit::Error::internal("only the platform may tell of tenants").into());
        }
        let entries = newest(events).map_err(kit::Error::internal)?;
        tokio::time::timeout(LIMIT, self.write_all(entries))
            .await
            .map_err(unavailable)??;
        Ok(())
    }
}

/// The entry that the last of these events leaves for each tenant.
fn newest(events: &[Event]) -> Result<Vec<TenantDirectoryEntry>, Distrust> {
    let mut newest: HashMap<String, TenantDirectoryEntry> = HashMap::new();
    for event in events {
        let Some(entry) = told(event)? else {
            continue;
        };
        let known = newest.get(&entry.tenant_id);
        if known.is_none_or(|known| known.version < entry.version) {
            newest.insert(entry.tenant_id.clone(), entry);
        }
    }
    Ok(newest.into_values().collect())
}

/// The entry that an event leaves, none for an event of a newer version of this service. Every event tells all of it.
fn told(event: &Event) -> Result<Option<TenantDirectoryEntry>, Distrust> {
    let leaves = |state, plan, cell, placement_epoch| TenantDirectoryEntry {
        tenant_id: event.aggregate_id.to_string(),
        state,
        version: event.version,
        plan,
        cell,
        placement_epoch,
    };
    if let Some(it) = event.decode::<TenantCreated>() {
        let it = it?;
        return Ok(Some(leaves(it.state, it.plan, it.cell, it.placement_epoch)));
    }
    if let Some(it) = event.decode::<TenantSuspended>() {
        let it = it?;
        return Ok(Some(leaves(it.state, it.plan, it.cell, it.placement_epoch)));
    }
    if let Some(it) = event.decode::<TenantResumed>() {
        let it = it?;
        return Ok(Some(leaves(it.state, it.plan, it.cell, it.placement_epoch)));
    }
    if let Some(it) = event.decode::<TenantPlanChanged>() {
        let it = it?;
        return Ok(Some(leaves(it.state, it.plan, it.cell, it.placement_epoch)));
    }
    if let Some(it) = event.decode::<TenantPlaced>() {
        let it = it?;
        return Ok(Some(leaves(it.state, it.plan, it.cell, it.placement_epoch)));
    }
    Ok(None)
}

/// Writes an entry unless the bucket holds the same or a newer version of it.
/// A reader may be served by a replica that is behind: the revision then does not agree, and it reads again.
async fn write(bucket: &Store, entry: TenantDirectoryEntry) -> Result<(), kit::Error> {
    for _ in 0..ATTEMPTS {
        let current = bucket
            .entry(entry.tenant_id.as_str())
            .await
            .map_err(unavailable)?;
        if current
            .as_ref()
            .is_some_and(|current| holds(&current.value, &entry))
        {
            return Ok(());
        }
        // Revision 0: the key must not exist yet.
        let revision = current.map_or(0, |current| current.revision);
        match bucket
            .update(&entry.tenant_id, entry.encode_to_vec().into(), revision)
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    Err(unavailable("others write the same entry again and again"))
}

/// Whether a stored value is this entry or a newer one. A deleted or spoiled one is not, nor is one of the same version
/// that a release wrote which did not know all fields.
fn holds(value: &[u8], entry: &TenantDirectoryEntry) -> bool {
    TenantDirectoryEntry::decode(value)
        .is_ok_and(|stored| stored.version > entry.version || stored == *entry)
}

/// What the bucket cannot take now it takes a little later.
fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> kit::Error {
    kit::Error::Unavailable {
        what: "the tenant directory",
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use kit::ctx::Actor;
    use prost::Name;
    use proto::tenants::v1::{TenantPlan, TenantState};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn event<M: Message + Name>(firm: u128, version: i64, body: &M) -> Event {
        Event {
            id: Uuid::from_u128(1),
            tenant: TenantId::PLATFORM,
            type_name: M::full_name(),
            noun: "tenants".to_owned(),
            aggregate_id: Uuid::from_u128(firm),
            version,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            actor: Actor::User("olga".to_owned()),
            traceparent: None,
            subject: String::new(),
            body: body.encode_to_vec().into(),
        }
    }

    fn created(firm: u128) -> Event {
        let state = TenantState::Active.into();
        event(
            firm,
            1,
            &TenantCreated {
                state,
                ..TenantCreated::default()
            },
        )
    }

    fn suspended(firm: u128, version: i64) -> Event {
        let state = TenantState::Suspended.into();
        event(
            firm,
            version,
            &TenantSuspended {
                state,
                ..TenantSuspended::default()
            },
        )
    }

    fn resumed(firm: u128, version: i64) -> Event {
        let state = TenantState::Active.into();
        event(
            firm,
            version,
            &TenantResumed {
                state,
                ..TenantResumed::default()
            },
        )
    }

    #[test]
    fn the_newest_event_of_a_tenant_makes_its_entry_whatever_their_order() {
        let events = [resumed(7, 3), created(8), suspended(7, 2), created(7)];
        let mut entries = newest(&events).unwrap();
        entries.sort_by_key(|entry| entry.tenant_id.clone());
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.version, entry.state()))
            .collect();
        assert_eq!(told, [(3, TenantState::Active), (1, TenantState::Active)]);
        assert_eq!(entries[0].tenant_id, Uuid::from_u128(7).to_string());
    }

    #[test]
    fn an_event_that_does_not_decode_makes_no_entry() {
        let mut spoiled = suspended(7, 2);
        spoiled.body = vec![0xff].into();
        assert_eq!(newest(&[created(7), spoiled]), Err(Distrust::Body));
    }

    #[test]
    fn an_entry_is_written_over_an_older_an_incomplete_a_deleted_or_a_spoiled_one_alone() {
        let of = |version, plan: TenantPlan| TenantDirectoryEntry {
            version,
            plan: plan.into(),
            ..TenantDirectoryEntry::default()
        };
        let [older, same, newer] = [4, 5, 6].map(|version| of(version, TenantPlan::Large));
        let stored = same.encode_to_vec();
        assert!(holds(&stored, &older) && holds(&stored, &same));
        assert!(!holds(&stored, &newer) && !holds(&[], &older) && !holds(&[0xff], &older));
        let without_plan = of(5, TenantPlan::Unspecified).encode_to_vec();
        assert!(!holds(&without_plan, &same));
    }
}
