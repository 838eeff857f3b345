//! The order of an aggregate, kept although one of its events cannot be applied.
//!
//! From its first failure for reasons of its own an event has a row in `parked`. While it is tried again, later events
//! of its aggregate wait; once it is set aside, they are set aside behind it and have rows too. A replayed event is
//! applied when none before it is left, and its row goes in the transaction of its effect.
//! Invariant: no event is applied while an earlier version of its aggregate has a row. Other aggregates go on.
//! Where the order itself is what is kept, an event also waits for the version before it: of two consumers the later one
//! may be given the later event first, and what a killed one held comes again behind what others apply meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{Delivery, deliveries};
use crate::Error;
use crate::db::{Tx, schema_sql};
use crate::events::Event;
use crate::ids::TenantId;

/// Failures of its own after which an event is set aside. Deliveries are no measure: an outage raises them too.
const MAX_FAILURES: i32 = 8;
/// Deliveries after which an event no longer waits for the one before it. That takes a minute, twice as long as a
/// failing event is tried: it is one that will not come, or a replay without what belongs before it.
const PATIENCE: i64 = 24;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is applied, or has been.
    Now,
    /// It comes again later: one before it is tried, or may still arrive.
    Later,
    /// It is set aside behind one that is.
    Aside,
}

/// What a group of events finds.
pub(super) struct Admitted {
    /// Those whose effect is not in the database yet.
    pub(super) fresh: HashSet<Uuid>,
    /// One for each event of the group.
    pub(super) turns: Vec<Turn>,
}

/// The inbox and the parked events of one consumer.
#[derive(Debug)]
pub(crate) struct Parking {
    consumer: &'static str,
    admit: Arc<str>,
    unpark: Arc<str>,
    park: Arc<str>,
    note_failure: Arc<str>,
}

/// A row of `parked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parked {
    event: Uuid,
    aggregate: Uuid,
    version: i64,
    is_set_aside: bool,
}

/// What is found of a group: of new events and of known ones the id, of parked ones all of it.
type Found = (String, Uuid, Option<Uuid>, Option<i64>, Option<bool>);

impl Parking {
    pub(crate) fn new(schema: &str, consumer: &'static str) -> Self {
        Self {
            consumer,
            // One round trip for a group without failures, which is nearly every one. What a tenant has in the inbox or
            // parked may be very much: `lateral` with an offset is a look into an index for each id, where a list of ids
            // would be compared with all of it.
            admit: format!(
                "with parked as ( \
                     select p.* from (select distinct id from unnest($5::uuid[]) as e (id)) as a cross join lateral ( \
                         select event_id, aggregate_id, version, is_set_aside from {schema}.parked \
                         where tenant_id = $1 and consumer = $4 and aggregate_id = a.id offset 0 \
                     ) p \
                 ), fresh as ( \
                     insert into {schema}.inbox (tenant_id, event_id) \
                     select $1, e.event_id from unnest($2::uuid[], $3::uuid[]) as e (event_id, aggregate_id) \
                     where e.aggregate_id not in (select aggregate_id from parked) \
                     on conflict (tenant_id, event_id) do nothing returning event_id \
                 ) \
                 select 'fresh', event_id, null::uuid, null::bigint, null::boolean from fresh \
                 union all \
                 select 'parked', event_id, aggregate_id, version, is_set_aside from parked \
                 union all \
                 select 'known', k.event_id, null, null, null from unnest($6::uuid[]) as e (id) cross join lateral ( \
                     select event_id from {schema}.inbox \
                     where tenant_id = $1 and event_id = e.id and exists (select from parked) limit 1 \
                 ) k"
            )
            .into(),
            unpark: format!(
                "with freed as ( \
                     delete from {schema}.parked where tenant_id = $1 and ctid = any (array( \
                         select p.ctid from unnest($3::uuid[]) as e (id) cross join lateral ( \
                             select ctid from {schema}.parked \
                             where tenant_id = $1 and consumer = $2 and event_id = e.id limit 1 for update \
                         ) p \
                     )) \
                 ) \
                 insert into {schema}.inbox (tenant_id, event_id) select $1, id from unnest($3::uuid[]) as e (id) \
                 on conflict (tenant_id, event_id) do nothing returning event_id"
            )
            .into(),
            park: format!(
                "insert into {schema}.parked \
                     (tenant_id, consumer, event_id, aggregate_id, version, failures, is_set_aside) \
                 select $1, $2, event_id, aggregate_id, version, 0, true \
                 from unnest($3::uuid[], $4::uuid[], $5::bigint[]) as e (event_id, aggregate_id, version) \
                 on conflict (tenant_id, consumer, event_id) do update set is_set_aside = true"
            )
            .into(),
            note_failure: format!(
                "insert into {schema}.parked as p \
                     (tenant_id, consumer, event_id, aggregate_id, version, failures, is_set_aside) \
                 values ($1, $2, $3, $4, $5, 1, false) \
                 on conflict (tenant_id, consumer, event_id) do update \
                     set is_set_aside = p.failures + 1 >= $6, \
                         failures = case when p.failures + 1 >= $6 then 0 else p.failures + 1 end \
                 returning is_set_aside"
            )
            .into(),
        }
    }

    /// Enters the events of a group into the inbox, but for those that must not be applied yet: the early ones, and
    /// those behind a parked one.
    pub(super) async fn admit(
        &self,
        tx: &mut Tx,
        group: &[Delivery],
        early: &HashSet<Uuid>,
    ) -> Result<Admitted, Error> {
        let tenant = tx.tenant();
        let (ids, aggregates): (Vec<Uuid>, Vec<Uuid>) = group
            .iter()
            .map(|it| (it.event.id, it.event.aggregate_id))
            .collect();
        let (due, of): (Vec<Uuid>, Vec<Uuid>) = group
            .iter()
            .filter(|it| !early.contains(&it.event.id))
            .map(|it| (it.event.id, it.event.aggregate_id))
            .collect();
        let found: Vec<Found> = sqlx::query_as(schema_sql(&self.admit))
            .bind(tenant.uuid())
            .bind(due)
            .bind(of)
            .bind(self.consumer)
            .bind(aggregates)
            .bind(ids)
            .fetch_all(&mut **tx)
            .await?;
        let turn = |it: &Delivery| {
            if early.contains(&it.event.id) {
                Turn::Later
            } else {
                Turn::Now
            }
        };
        let mut admitted = Admitted {
            fresh: HashSet::with_capacity(found.len()),
            turns: group.iter().map(turn).collect(),
        };
        let mut parked = Vec::new();
        let mut known = HashSet::new();
        for found in found {
            match found {
                (_, event, Some(aggregate), Some(version), Some(is_set_aside)) => {
                    parked.push(Parked {
                        event,
                        aggregate,
                        version,
                        is_set_aside,
                    });
                }
                (kind, event, ..) if kind == "known" => drop(known.insert(event)),
                (_, event, ..) => drop(admitted.fresh.insert(event)),
            }
        }
        if !parked.is_empty() {
            self.admit_behind(tx, group, early, parked, &known, &mut admitted)
                .await?;
        }
        Ok(admitted)
    }

    /// The same for events of aggregates that have parked ones.
    async fn admit_behind(
        &self,
        tx: &mut Tx,
        group: &[Delivery],
        early: &HashSet<Uuid>,
        mut parked: Vec<Parked>,
        known: &HashSet<Uuid>,
        admitted: &mut Admitted,
    ) -> Result<(), Error> {
        let behind: HashSet<Uuid> = parked.iter().map(|it| it.aggregate).collect();
        let mut free = Vec::new();
        let mut aside = Vec::new();
        for (delivery, turn) in group.iter().zip(&mut admitted.turns) {
            let event = &delivery.event;
            if !behind.contains(&event.aggregate_id) {
                continue;
            }
            if !known.contains(&event.id) {
                *turn = take_turn(&mut parked, event, deliveries(&delivery.message));
                if *turn == Turn::Now && early.contains(&event.id) {
                    *turn = Turn::Later;
                }
            }
            match turn {
                Turn::Now => free.push(event.id),
                Turn::Aside => aside.push(event),
                Turn::Later => {}
            }
        }
        let fresh: Vec<Uuid> = sqlx::query_scalar(schema_sql(&self.unpark))
            .bind(tx.tenant().uuid())
            .bind(self.consumer)
            .bind(free)
            .fetch_all(&mut **tx)
            .await?;
        admitted.fresh.extend(fresh);
        if aside.is_empty() {
            return Ok(());
        }
        sqlx::query(schema_sql(&self.park))
            .bind(tx.tenant().uuid())
            .bind(self.consumer)
            .bind(aside.iter().map(|it| it.id).collect::<Vec<_>>())
            .bind(aside.iter().map(|it| it.aggregate_id).collect::<Vec<_>>())
            .bind(aside.iter().map(|it| it.version).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Notes that an event failed for reasons of its own; whether that was as often as it may.
    pub(super) async fn note_failure(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        event: &Event,
    ) -> Result<bool, Error> {
        let is_set_aside = sqlx::query_scalar(schema_sql(&self.note_failure))
            .bind(tenant.uuid())
            .bind(self.consumer)
            .bind(event.id)
            .bind(event.aggregate_id)
            .bind(event.version)
            .bind(MAX_FAILURES)
            .fetch_one(&mut **tx)
            .await?;
        Ok(is_set_aside)
    }
}

/// Which of the events, each with its deliveries, come before the version that they follow. `last` holds the last
/// version of each aggregate that was applied. One that has waited long is taken as it is: what it waits for was lost,
/// which `catalyst events reconcile` tells.
pub(super) fn early<'a>(
    last: &mut HashMap<Uuid, i64>,
    events: impl Iterator<Item = (&'a Event, i64)>,
) -> HashSet<Uuid> {
    let mut early = HashSet::new();
    for (event, delivered) in events {
        let last = last.entry(event.aggregate_id).or_default();
        if event.version <= *last + 1 || delivered >= PATIENCE {
            *last = event.version.max(*last);
        } else {
            early.insert(event.id);
        }
    }
    early
}

/// Whether an event may be applied beside what is parked, and the parked ones as they are for the next event.
fn take_turn(parked: &mut Vec<Parked>, event: &Event, delivered: i64) -> Turn {
    let own = parked.iter().find(|it| it.event == event.id).copied();
    let mut before = parked.iter().filter(|it| {
        it.aggregate == event.aggregate_id && it.version < event.version && it.event != event.id
    });
    let turn = match before.next() {
        None => Turn::Now,
        Some(first) => {
            let is_hopeless = first.is_set_aside || before.any(|it| it.is_set_aside);
            if (is_hopeless && own.is_none()) || delivered >= PATIENCE {
                Turn::Aside
            } else {
                Turn::Later
            }
        }
    };
    parked.retain(|it| it.event != event.id);
    if turn != Turn::Now {
        parked.push(Parked {
            event: event.id,
            aggregate: event.aggregate_id,
            version: event.version,
            is_set_aside: turn == Turn::Aside || own.is_some_and(|it| it.is_set_aside),
        });
    }
    turn
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::ctx::Actor;

    const AGGREGATE: Uuid = Uuid::from_u128(7);

    fn id(version: i64) -> Uuid {
        Uuid::from_u128(u128::try_from(version).unwrap())
    }

    fn event(aggregate: Uuid, version: i64) -> Event {
        Event {
            id: id(version),
            tenant: TenantId::PLATFORM,
            type_name: String::new(),
            noun: String::new(),
            aggregate_id: aggregate,
            version,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            actor: Actor::Service("suite".to_owned()),
            traceparent: None,
            subject: String::new(),
            body: bytes::Bytes::new(),
        }
    }

    fn row(version: i64, is_set_aside: bool) -> Parked {
        Parked {
            event: id(version),
            aggregate: AGGREGATE,
            version,
            is_set_aside,
        }
    }

    fn turns(parked: &[Parked], versions: &[i64]) -> Vec<Turn> {
        let mut parked = parked.to_vec();
        versions
            .iter()
            .map(|version| take_turn(&mut parked, &event(AGGREGATE, *version), 1))
            .collect()
    }

    #[test]
    fn an_event_waits_for_the_version_before_it_but_not_for_ever() {
        let early = |last: i64, versions: &[i64], delivered| {
            let events: Vec<Event> = versions.iter().map(|it| event(AGGREGATE, *it)).collect();
            let mut known = HashMap::from([(AGGREGATE, last)]);
            let found = super::early(&mut known, events.iter().map(|it| (it, delivered)));
            let mut found: Vec<i64> = versions
                .iter()
                .copied()
                .filter(|it| found.contains(&id(*it)))
                .collect();
            found.sort_unstable();
            found
        };
        assert_eq!(early(0, &[1, 2, 3], 1), Vec::<i64>::new());
        assert_eq!(early(0, &[2, 1, 3], 1), [2, 3]);
        assert_eq!(early(4, &[5, 7, 6, 3], 1), [7]);
        assert_eq!(early(0, &[9], PATIENCE - 1), [9]);
        assert_eq!(early(0, &[9, 10], PATIENCE), Vec::<i64>::new());
    }

    #[test]
    fn what_comes_behind_an_event_waits_while_it_is_tried_and_is_set_aside_with_it() {
        use Turn::{Aside, Later, Now};
        assert_eq!(turns(&[row(2, false)], &[1, 3]), [Now, Later]);
        assert_eq!(turns(&[row(2, true)], &[1, 3, 4]), [Now, Aside, Aside]);
        assert_eq!(turns(&[row(2, false), row(3, true)], &[4]), [Aside]);
        let other = event(Uuid::from_u128(8), 3);
        assert_eq!(take_turn(&mut vec![row(2, true)], &other, 1), Now);
    }

    #[test]
    fn replayed_events_are_applied_in_their_order_whatever_order_they_come_in() {
        use Turn::{Aside, Later, Now};
        let parked = [row(2, true), row(3, true), row(4, true)];
        assert_eq!(turns(&parked, &[2, 3, 4, 5]), [Now, Now, Now, Now]);
        assert_eq!(turns(&parked, &[2, 3, 5]), [Now, Now, Aside]);
        assert_eq!(turns(&parked, &[4, 3, 2]), [Later, Later, Now]);
        assert_eq!(turns(&parked, &[3, 2, 4]), [Later, Now, Later]);
        assert_eq!(turns(&parked, &[3, 2, 3, 4]), [Later, Now, Now, Now]);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let late = event(AGGREGATE, 3);
        let mut parked = vec![row(2, false)];
        assert_eq!(take_turn(&mut parked, &late, PATIENCE), Turn::Aside);
    }
}
