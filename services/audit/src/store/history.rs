//! What the log has of a tenant's domain events, for the operator's role: what to compare rows with, and the events
//! themselves as they were.
//!
//! Invariant: every statement reads a bounded piece of one tenant's log, so that neither ends the other by its length.

use kit::ctx::Actor;
use kit::events::{Event, Stream, subject};
use kit::session::Session;
use kit::{Error, TenantId};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

/// What the log has of one aggregate.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Recorded {
    /// The aggregate.
    pub id: Uuid,
    /// The noun of the service that emitted its events.
    pub source: String,
    /// The singular noun of what it is.
    pub kind: String,
    /// Its greatest version.
    pub last: i64,
    /// How many of its versions, from 1 on, are there.
    pub versions: i64,
}

/// A select of [`Recorded`] of a tenant. An aggregate's events have one source and one kind.
macro_rules! recorded {
    ($condition:literal) => {
        concat!(
            "select resource_id as id, min(source) as source, min(resource_kind) as kind, max(version) as last, \
                    count(distinct version) as versions \
             from audit.record \
             where tenant_id = $1 and not operator_only and category = 'domain' and ",
            $condition
        )
    };
}

/// The tenants that have a log, each with the sequence of its last record.
#[tracing::instrument(name = "db.chain.list_of_tenants", skip_all)]
pub async fn tenants(session: &mut Session) -> Result<Vec<(TenantId, i64)>, Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "select tenant_id, last_sequence from audit.chain where not operator_only order by tenant_id",
    )
    .fetch_all(session)
    .await?;
    let tenants = rows.into_iter();
    Ok(tenants
        .map(|(tenant, last)| (TenantId::new(tenant), last))
        .collect())
}

/// Aggregates after `after` in the order of their ids.
#[tracing::instrument(name = "db.record.list_of_aggregates", skip_all)]
pub async fn aggregates(
    session: &mut Session,
    tenant: TenantId,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Recorded>, Error> {
    let recorded = sqlx::query_as(recorded!(
        "resource_id > $2 group by resource_id order by resource_id limit $3"
    ))
    .bind(tenant.uuid())
    .bind(after)
    .bind(limit);
    Ok(recorded.fetch_all(session).await?)
}

/// Those of `ids` that the log knows.
#[tracing::instrument(name = "db.record.get_aggregates", skip_all)]
pub async fn aggregates_of(
    session: &mut Session,
    tenant: TenantId,
    ids: &[Uuid],
) -> Result<Vec<Recorded>, Error> {
    let recorded = sqlx::query_as(recorded!("resource_id = any($2) group by resource_id"))
        .bind(tenant.uuid())
        .bind(ids);
    Ok(recorded.fetch_all(session).await?)
}

#[derive(FromRow)]
struct Row {
    event_id: Uuid,
    r#type: String,
    actor_kind: String,
    actor_id: String,
    source: String,
    aggregate_id: Uuid,
    version: i64,
    occurred_at: OffsetDateTime,
    traceparent: Option<String>,
    body: Vec<u8>,
}

/// The domain events of the records after `after` up to `last`, in their order.
#[tracing::instrument(name = "db.record.list_of_events", skip_all)]
pub async fn events(
    session: &mut Session,
    tenant: TenantId,
    after: i64,
    last: i64,
) -> Result<Vec<Event>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select event_id, type, actor_kind, actor_id, source, aggregate_id, version, occurred_at, traceparent, body \
         from audit.record \
         where tenant_id = $1 and not operator_only and sequence > $2 and sequence <= $3 and category = 'domain' \
         order by sequence",
    )
    .bind(tenant.uuid())
    .bind(after)
    .bind(last)
    .fetch_all(session)
    .await?;
    Ok(rows.into_iter().map(|row| row.event(tenant)).collect())
}

impl Row {
    fn event(self, tenant: TenantId) -> Event {
        let heard = Stream::Domain.heard();
        Event {
            id: self.event_id,
            tenant,
            subject: subject(Stream::Domain, heard, tenant, &self.r#type).unwrap_or_default(),
            noun: self.source,
            aggregate_id: self.aggregate_id,
            version: self.version,
            occurred_at: self.occurred_at,
            actor: Actor::from_parts(&self.actor_kind, &self.actor_id),
            traceparent: self.traceparent,
            type_name: self.r#type,
            body: self.body.into(),
        }
    }
}
