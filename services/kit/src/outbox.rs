//! The outbox of a service: rows written with the change, and the statements on the tables that every schema has.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::Error;
use crate::db::schema_sql;
use crate::events::Emitted;
use crate::ids::TenantId;
use crate::session::Session;

/// Wakes the relay of a service in this process when a transaction with events has committed.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Tells the relay that rows are waiting.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Resolves after the next wake, or at once if one was missed.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}

/// The kit's statements, written out for one schema. The schema is a constant of the service.
#[derive(Debug)]
pub(crate) struct OutboxSql {
    schema: &'static str,
    insert_outbox: Arc<str>,
    pub(crate) insert_again: Arc<str>,
    pub(crate) bury: Arc<str>,
    pub(crate) record_security: Arc<str>,
    pub(crate) claim_request: Arc<str>,
    pub(crate) read_request: Arc<str>,
    pub(crate) answer_request: Arc<str>,
}

impl OutboxSql {
    pub(crate) fn new(schema: &'static str) -> Self {
        Self {
            schema,
            insert_outbox: format!(
                "insert into {schema}.outbox \
                 (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body) \
                 select $1, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body \
                 from unnest($2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::timestamptz[], $7::text[], \
                             $8::text[], $9::text[], $10::bytea[]) with ordinality \
                      as e (event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body, n) \
                 order by n"
            )
            .into(),
            // No conflict target: that would take the right to read the outbox, which serving roles do not have.
            insert_again: format!(
                "insert into {schema}.outbox \
                 (tenant_id, seq, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, \
                  body) \
                 overriding system value \
                 select $1, seq, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body \
                 from unnest($2::bigint[], $3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::timestamptz[], \
                             $8::text[], $9::text[], $10::text[], $11::bytea[]) \
                      as e (seq, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, \
                            body) \
                 on conflict do nothing"
            )
            .into(),
            bury: format!("insert into {schema}.tombstone (tenant_id, id, version) values ($1, $2, $3)")
                .into(),
            record_security: format!(
                "select {schema}.record_security_events($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            )
            .into(),
            // An answer is good for a day: an older one under the same id is claimed anew, others of the tenant go a
            // few at a time, passing over those that another claim is removing.
            claim_request: format!(
                "with expired as ( \
                     delete from {schema}.request where tenant_id = $1 and (actor, request_id) in ( \
                         select actor, request_id from {schema}.request \
                         where tenant_id = $1 and created_at < $6 - interval '24 hours' \
                           and (actor, request_id) <> ($2, $3) \
                         order by created_at limit 50 for update skip locked) \
                 ) \
                 insert into {schema}.request as r (tenant_id, actor, request_id, method, body_hash, created_at) \
                 values ($1, $2, $3, $4, $5, $6) \
                 on conflict (tenant_id, actor, request_id) do update \
                     set method = excluded.method, body_hash = excluded.body_hash, answer = null, \
                         created_at = excluded.created_at \
                     where r.created_at < $6 - interval '24 hours'"
            )
            .into(),
            read_request: format!(
                "select method, body_hash, answer from {schema}.request \
                 where tenant_id = $1 and actor = $2 and request_id = $3"
            )
            .into(),
            answer_request: format!(
                "update {schema}.request set answer = $4 where tenant_id = $1 and actor = $2 and request_id = $3"
            )
            .into(),
        }
    }

    pub(crate) fn schema(&self) -> &'static str {
        self.schema
    }

    /// Writes the rows of all events of a transaction in one statement, in their order.
    pub(crate) async fn insert(
        &self,
        session: &mut Session,
        tenant: TenantId,
        events: &[Emitted],
    ) -> Result<(), Error> {
        let column = Columns::of(&events);
        sqlx::query(schema_sql(&self.insert_outbox))
            .bind(tenant.uuid())
            .bind(column.ids)
            .bind(column.types)
            .bind(column.aggregates)
            .bind(events.iter().map(|e| e.version).collect::<Vec<_>>())
            .bind(column.occurred)
            .bind(column.actor_kinds)
            .bind(column.actor_ids)
            .bind(column.traceparents)
            .bind(column.bodies)
            .execute(session)
            .await?;
        Ok(())
    }
}

/// Events turned into columns, as `unnest` takes them.
pub(crate) struct Columns<'a> {
    pub(crate) ids: Vec<uuid::Uuid>,
    pub(crate) types: Vec<&'a str>,
    pub(crate) aggregates: Vec<uuid::Uuid>,
    pub(crate) occurred: Vec<time::OffsetDateTime>,
    pub(crate) actor_kinds: Vec<&'a str>,
    pub(crate) actor_ids: Vec<&'a str>,
    pub(crate) traceparents: Vec<Option<&'a str>>,
    pub(crate) bodies: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(events: &(impl IntoIterator<Item = &'a Emitted> + Clone)) -> Self {
        let each = || events.clone().into_iter();
        Self {
            ids: each().map(|e| e.event_id).collect(),
            types: each().map(|e| e.type_name.as_str()).collect(),
            aggregates: each().map(|e| e.aggregate_id).collect(),
            occurred: each().map(|e| e.occurred_at).collect(),
            actor_kinds: each().map(|e| e.actor.kind()).collect(),
            actor_ids: each().map(|e| e.actor.id()).collect(),
            traceparents: each().map(|e| e.traceparent.as_deref()).collect(),
            bodies: each().map(|e| e.body.as_slice()).collect(),
        }
    }
}
