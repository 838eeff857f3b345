//! Events out once more: those of before, as they were, into the outbox of the service that emitted them.
//!
//! Invariant: they are published ahead of everything that waits there, since all of it happened later, and in the order
//! in which they are given; no two rows of an outbox have the same place.

use sqlx::AssertSqlSafe;

use crate::Error;
use crate::ctx::Clock;
use crate::db::{Tx, schema_sql};
use crate::events::{Emitted, Event};
use crate::outbox::Columns;
use crate::session::Session;

/// Places that one run may give within a millisecond; more than can be written.
const PLACES: i64 = 1 << 20;

/// Places of an outbox before those that its sequence gives, which begin with 1. A later run gives later ones.
#[derive(Debug)]
pub struct Places(i64);

impl Places {
    /// Begins with the instant.
    pub fn new(clock: &Clock) -> Self {
        let millis = clock.now().unix_timestamp_nanos() / 1_000_000;
        let millis = i64::try_from(millis).unwrap_or_default();
        Self(i64::MIN + millis * PLACES)
    }

    fn take(&mut self, count: usize) -> Vec<i64> {
        let first = self.0;
        self.0 += i64::try_from(count).unwrap_or(i64::MAX);
        (first..self.0).collect()
    }
}

impl Tx {
    /// Writes events of the transaction's tenant and service into the outbox again. One that still waits there stays as
    /// it is. The number of those that were written.
    pub async fn emit_again(
        &mut self,
        places: &mut Places,
        events: &[Event],
    ) -> Result<u64, Error> {
        let events: Vec<Emitted> = events.iter().map(Emitted::from).collect();
        let sql = self.sql();
        let column = Columns::of(&events.as_slice());
        let written = sqlx::query(schema_sql(&sql.insert_again))
            .bind(self.tenant().uuid())
            .bind(places.take(events.len()))
            .bind(column.ids)
            .bind(column.types)
            .bind(column.aggregates)
            .bind(events.iter().map(|e| e.version).collect::<Vec<_>>())
            .bind(column.occurred)
            .bind(column.actor_kinds)
            .bind(column.actor_ids)
            .bind(column.traceparents)
            .bind(column.bodies)
            .execute(&mut **self)
            .await?;
        Ok(written.rows_affected())
    }
}

impl From<&Event> for Emitted {
    fn from(event: &Event) -> Self {
        Self {
            event_id: event.id,
            type_name: event.type_name.clone(),
            aggregate_id: event.aggregate_id,
            version: event.version,
            occurred_at: event.occurred_at,
            actor: event.actor.clone(),
            traceparent: event.traceparent.clone(),
            body: event.body.to_vec(),
        }
    }
}

/// How many events that were written again wait in the outbox of `schema`; for a session of its relay's role.
pub async fn waiting(session: &mut Session, schema: &'static str) -> Result<i64, Error> {
    let sql = format!("select count(*) from {schema}.outbox where seq < 0");
    let waiting = sqlx::query_scalar(AssertSqlSafe(sql));
    Ok(waiting.fetch_one(session).await?)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn places_are_before_those_of_the_sequence_and_after_those_of_an_earlier_run() {
        let clock = Clock::fixed(datetime!(2026-11-25 22:00 UTC));
        let mut first = Places::new(&clock);
        let taken = first.take(1_000);
        assert!(taken.is_sorted() && taken.len() == 1_000);
        assert!(first.take(2).first() > taken.last());
        clock.advance(time::Duration::milliseconds(1));
        let later = Places::new(&clock).take(1);
        assert!(later.first() > taken.last() && later.first() < Some(&0));
        let far = Clock::fixed(datetime!(2200-01-01 0:00 UTC));
        assert!(Places::new(&far).take(1).first() < Some(&0));
    }
}
