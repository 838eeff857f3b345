//! Records as they are read: of one tenant for its people, of all tenants for the operator.
//!
//! A filter that is not set is not in the statement, so that each combination has its own plan and index.
//! Only words of this file make a statement; every value is bound.

use std::collections::HashMap;

use kit::ctx::Actor;
use kit::session::Session;
use kit::{TenantId, Tx};
use proto::common::v1::Severity;
use sqlx::{FromRow, Postgres, QueryBuilder};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::error::Error;
use crate::record::{Category, Entry, Filter, Log, Record, Resource};

/// An event is never recorded before it occurred, but clocks differ: at most so much, or a filter by time may miss it.
const CLOCKS_DIFFER: Duration = Duration::DAY;

/// The greatest recorded version of each of these aggregates of the tenant that has one.
#[tracing::instrument(name = "db.record.last_versions", skip_all)]
pub(crate) async fn last_versions(
    tx: &mut Tx,
    aggregates: &[Uuid],
) -> Result<HashMap<Uuid, i64>, Error> {
    let found: Vec<(Uuid, i64)> = sqlx::query_as(
        "select resource_id, max(version) from audit.record \
         where tenant_id = $1 and resource_id = any($2) and category = 'domain' and not operator_only \
         group by resource_id",
    )
    .bind(tx.tenant().uuid())
    .bind(aggregates)
    .fetch_all(&mut **tx)
    .await?;
    Ok(found.into_iter().collect())
}

#[derive(FromRow)]
struct Row {
    tenant_id: Uuid,
    operator_only: bool,
    sequence: i64,
    id: Uuid,
    event_id: Uuid,
    r#type: String,
    category: String,
    severity: i16,
    actor_kind: String,
    actor_id: String,
    source: String,
    aggregate_id: Uuid,
    version: i64,
    resource_kind: String,
    resource_id: Option<Uuid>,
    occurred_at: OffsetDateTime,
    recorded_at: OffsetDateTime,
    traceparent: Option<String>,
    body: Vec<u8>,
    hash: [u8; 32],
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        let resource = Resource {
            kind: row.resource_kind,
            id: row.resource_id,
        };
        let is_about_a_resource = !resource.kind.is_empty() || resource.id.is_some();
        Self {
            tenant: TenantId::new(row.tenant_id),
            log: Log::from_operator_only(row.operator_only),
            sequence: row.sequence,
            recorded_at: row.recorded_at,
            hash: row.hash,
            entry: Entry {
                id: row.id,
                event_id: row.event_id,
                type_name: row.r#type,
                category: Category::from_text(&row.category),
                severity: severity(row.severity),
                actor: Actor::from_parts(&row.actor_kind, &row.actor_id),
                source: row.source,
                aggregate_id: row.aggregate_id,
                version: row.version,
                resource: is_about_a_resource.then_some(resource),
                occurred_at: row.occurred_at,
                traceparent: row.traceparent,
                body: row.body.into(),
            },
        }
    }
}

/// Reads a stored severity back.
pub(super) fn severity(number: i16) -> Severity {
    Severity::try_from(i32::from(number)).unwrap_or(Severity::Unspecified)
}

/// Records of the tenant with a sequence above `after`, in order. What is for the operator alone is never among them.
#[tracing::instrument(name = "db.record.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> Result<Vec<Record>, Error> {
    let tenant = tx.tenant().uuid();
    let mut query = QueryBuilder::new(
        "select tenant_id, operator_only, sequence, id, event_id, type, category, severity, actor_kind, actor_id, \
                source, aggregate_id, version, resource_kind, resource_id, occurred_at, recorded_at, traceparent, \
                body, hash \
         from audit.record r where not operator_only and tenant_id = ",
    );
    query
        .push_bind(tenant)
        .push(" and sequence > ")
        .push_bind(after);
    if let Some(from) = filter.from {
        // Sequences follow the time of recording: this finds the place to begin by one look into an index.
        query.push(" and sequence >= (select sequence from audit.record where not operator_only and tenant_id = ");
        query
            .push_bind(tenant)
            .push(" and recorded_at >= ")
            .push_bind(from - CLOCKS_DIFFER);
        query.push(" order by recorded_at, sequence limit 1)");
    }
    push_filter(&mut query, filter);
    query.push(" order by sequence limit ").push_bind(limit);
    let rows: Vec<Row> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// A position in the records of all tenants.
pub(crate) type OperatorPosition = (Uuid, bool, i64);

/// A record, and both sides of it when it is of an attempt across tenants.
pub(crate) struct OperatorRecord {
    pub(crate) record: Record,
    pub(crate) parties: Option<Parties>,
}

/// The two sides of an attempt across tenants.
pub(crate) struct Parties {
    pub(crate) offender_tenant: TenantId,
    pub(crate) offender: Actor,
    pub(crate) victim_tenant: Option<TenantId>,
}

#[derive(FromRow)]
struct OperatorRow {
    #[sqlx(flatten)]
    row: Row,
    #[sqlx(flatten)]
    parties: PartiesRow,
}

/// Outer joins: all none when the record is of something else, the victim's when its side is not written yet.
#[derive(FromRow)]
pub(super) struct PartiesRow {
    offender_tenant_id: Option<Uuid>,
    offender_kind: Option<String>,
    offender_id: Option<String>,
    victim_tenant_id: Option<Uuid>,
}

impl From<PartiesRow> for Option<Parties> {
    fn from(row: PartiesRow) -> Self {
        Some(Parties {
            offender_tenant: TenantId::new(row.offender_tenant_id?),
            offender: Actor::from_parts(&row.offender_kind?, &row.offender_id?),
            victim_tenant: row.victim_tenant_id.map(TenantId::new),
        })
    }
}

/// Records of all tenants or of one, both logs, by tenant, log and sequence. For the operator's role.
#[tracing::instrument(name = "db.record.list_of_all", skip_all)]
pub(crate) async fn list_of_all(
    session: &mut Session,
    tenant: Option<TenantId>,
    filter: &Filter,
    after: OperatorPosition,
    limit: i64,
) -> Result<Vec<OperatorRecord>, Error> {
    let mut query = QueryBuilder::new(
        "select r.tenant_id, r.operator_only, r.sequence, r.id, r.event_id, r.type, r.category, r.severity, \
                r.actor_kind, r.actor_id, r.source, r.aggregate_id, r.version, r.resource_kind, r.resource_id, \
                r.occurred_at, r.recorded_at, r.traceparent, r.body, r.hash, \
                o.tenant_id as offender_tenant_id, o.actor_kind as offender_kind, o.actor_id as offender_id, \
                v.tenant_id as victim_tenant_id \
         from audit.record r \
         left join audit.record o on r.type = 'catalyst.common.v1.CrossTenantAccessAttempted' \
             and o.event_id = r.event_id and o.severity = 4 and o.operator_only \
         left join audit.record v on r.type = 'catalyst.common.v1.CrossTenantAccessAttempted' \
             and v.event_id = r.event_id and v.severity = 4 and not v.operator_only \
         where (r.tenant_id, r.operator_only, r.sequence) > (",
    );
    let (after_tenant, after_log, after_sequence) = after;
    query
        .push_bind(after_tenant)
        .push(", ")
        .push_bind(after_log)
        .push(", ")
        .push_bind(after_sequence)
        .push(")");
    if let Some(tenant) = tenant {
        query.push(" and r.tenant_id = ").push_bind(tenant.uuid());
    }
    push_filter(&mut query, filter);
    query
        .push(" order by r.tenant_id, r.operator_only, r.sequence limit ")
        .push_bind(limit);
    let rows: Vec<OperatorRow> = query.build_query_as().fetch_all(session).await?;
    Ok(rows
        .into_iter()
        .map(|it| OperatorRecord {
            record: it.row.into(),
            parties: it.parties.into(),
        })
        .collect())
}

/// Adds what a filter asks of the record `r`.
fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(from) = filter.from {
        query.push(" and r.occurred_at >= ").push_bind(from);
    }
    if let Some(until) = filter.until {
        query.push(" and r.occurred_at < ").push_bind(until);
    }
    // As a constant, the category leads to the index of the security log. Domain records are all of severity 1.
    if filter.category == Some(Category::Security)
        || filter.min_severity.is_some_and(|severity| severity > 1)
    {
        query.push(" and r.category = 'security'");
    }
    if filter.category == Some(Category::Domain) {
        query.push(" and r.category = 'domain'");
    }
    if let Some(severity) = filter.min_severity {
        query.push(" and r.severity >= ").push_bind(severity);
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" and r.type = ").push_bind(type_name.clone());
    }
    if let Some(actor_id) = &filter.actor_id {
        query.push(" and r.actor_id = ").push_bind(actor_id.clone());
    }
    if let Some(kind) = &filter.resource_kind {
        query
            .push(" and r.resource_kind = ")
            .push_bind(kind.clone());
    }
    if let Some(id) = filter.resource_id {
        query.push(" and r.resource_id = ").push_bind(id);
    }
}
