//! Rows of alerts: of one tenant, and of all for the operator.
//!
//! Only words of this file make a statement; every value is bound.

use std::collections::BTreeMap;

use kit::ctx::Actor;
use kit::session::Session;
use kit::{TenantId, Tx};
use sqlx::{FromRow, Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use super::records::{Parties, PartiesRow};
use crate::alert::{Acknowledgement, Alert, AlertId, DeliveryState, Filter, Trigger};
use crate::error::Error;
use crate::rules::file::built_in;

#[derive(FromRow)]
struct Row {
    id: AlertId,
    rule: String,
    title: Option<String>,
    description: Option<String>,
    severity: i16,
    occurrences: i64,
    first_at: OffsetDateTime,
    last_at: OffsetDateTime,
    acknowledged_kind: Option<String>,
    acknowledged_id: Option<String>,
    acknowledged_at: Option<OffsetDateTime>,
    acknowledge_note: String,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    delivery_state: String,
}

impl From<Row> for Alert {
    fn from(row: Row) -> Self {
        let acknowledged = match (
            row.acknowledged_kind,
            row.acknowledged_id,
            row.acknowledged_at,
        ) {
            (Some(actor_kind), Some(actor_id), Some(at)) => Some(Acknowledgement {
                actor_kind,
                actor_id,
                at,
                note: row.acknowledge_note,
            }),
            _ => None,
        };
        let (title, description) = told(&row.rule, row.title, row.description);
        Self {
            id: row.id,
            rule: row.rule,
            title,
            description,
            severity: row.severity,
            occurrences: row.occurrences,
            first_at: row.first_at,
            last_at: row.last_at,
            acknowledged,
            delivery: DeliveryState::from_text(&row.delivery_state),
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// What an alert says; older rows have only the name of a rule that was built in.
pub(crate) fn told(
    rule: &str,
    title: Option<String>,
    description: Option<String>,
) -> (String, String) {
    if let (Some(title), Some(description)) = (title, description) {
        return (title, description);
    }
    let rules = built_in().rules;
    let known = rules.iter().find(|it| it.name == rule).or(rules.last());
    known
        .map(|it| (it.title.clone(), it.description.clone()))
        .unwrap_or_default()
}

/// As stored.
fn state_text(acknowledged: bool) -> &'static str {
    if acknowledged { "acknowledged" } else { "open" }
}

/// Counts a trigger into the open alert of its kind whose last event is not before `since`; false if there is none.
#[tracing::instrument(name = "db.alert.count", skip_all)]
pub(crate) async fn count_in(
    tx: &mut Tx,
    trigger: &Trigger,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    // The outer state is looked at once more when an acknowledgement came in between.
    let counted = sqlx::query(
        "update audit.alert set \
             occurrences = occurrences + $5, last_at = greatest(last_at, $6), revision = revision + 1, updated_at = $7 \
         where tenant_id = $1 and state = 'open' and id = ( \
             select id from audit.alert \
             where tenant_id = $1 and rule = $2 and dedup_key = $3 and state = 'open' and last_at >= $4 \
             order by last_at desc limit 1)",
    )
    .bind(tx.tenant().uuid())
    .bind(&trigger.rule.name)
    .bind(trigger.dedup_key)
    .bind(since)
    .bind(trigger.occurrences)
    .bind(trigger.last_at)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(counted.rows_affected() == 1)
}

#[tracing::instrument(name = "db.alert.insert", skip_all, fields(alert.id = %alert.id))]
pub(crate) async fn insert(tx: &mut Tx, alert: &Alert, trigger: &Trigger) -> Result<(), Error> {
    // What the sinks are told is in the table of deliveries: the columns of before say that nobody is.
    sqlx::query(
        "insert into audit.alert \
             (tenant_id, id, rule, title, description, severity, dedup_key, event_id, traceparent, offender_key, \
              occurrences, first_at, last_at, state, acknowledge_note, revision, created_at, updated_at, \
              delivery_state, delivery_attempts, next_attempt_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '', $15, $16, $17, \
                 'not_configured', 0, $16)",
    )
    .bind(tx.tenant().uuid())
    .bind(alert.id)
    .bind(&alert.rule)
    .bind(&alert.title)
    .bind(&alert.description)
    .bind(alert.severity)
    .bind(trigger.dedup_key)
    .bind(trigger.event_id)
    .bind(&trigger.traceparent)
    .bind(trigger.offender_key)
    .bind(alert.occurrences)
    .bind(alert.first_at)
    .bind(alert.last_at)
    .bind(state_text(alert.acknowledged.is_some()))
    .bind(alert.revision)
    .bind(alert.created_at)
    .bind(alert.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps who is behind the keys of alerts, in the tenant of the transaction, which is theirs.
#[tracing::instrument(name = "db.offender.insert", skip_all)]
pub(crate) async fn insert_offenders(
    tx: &mut Tx,
    offenders: &BTreeMap<Uuid, &Actor>,
) -> Result<(), Error> {
    sqlx::query(
        "insert into audit.offender (tenant_id, key, actor_kind, actor_id) \
         select $1, key, kind, id from unnest($2::uuid[], $3::text[], $4::text[]) as e (key, kind, id) \
         on conflict (tenant_id, key) do nothing",
    )
    .bind(tx.tenant().uuid())
    .bind(offenders.keys().copied().collect::<Vec<_>>())
    .bind(offenders.values().map(|actor| actor.kind()).collect::<Vec<_>>())
    .bind(offenders.values().map(|actor| actor.id()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Reads and locks an alert: the lock orders its changes and its events.
#[tracing::instrument(name = "db.alert.lock", skip_all, fields(alert.id = %id))]
pub(crate) async fn lock(tx: &mut Tx, id: AlertId) -> Result<Alert, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select a.id, a.rule, a.title, a.description, a.severity, a.occurrences, a.first_at, a.last_at, \
                a.acknowledged_kind, a.acknowledged_id, a.acknowledged_at, a.acknowledge_note, a.revision, \
                a.created_at, a.updated_at, \
                coalesce((select case when bool_or(d.accepted_at is null) then 'pending' else 'delivered' end \
                          from audit.delivery d where d.tenant_id = a.tenant_id and d.alert_id = a.id \
                          having count(*) > 0), a.delivery_state) as delivery_state \
         from audit.alert a where a.tenant_id = $1 and a.id = $2 for update of a",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Alert::from).ok_or(Error::AlertNotFound(id))
}

/// Stores who acknowledged an alert.
#[tracing::instrument(name = "db.alert.acknowledge", skip_all, fields(alert.id = %alert.id))]
pub(crate) async fn acknowledge(
    tx: &mut Tx,
    alert: &Alert,
    by: &Acknowledgement,
) -> Result<(), Error> {
    sqlx::query(
        "update audit.alert set \
             state = 'acknowledged', acknowledged_kind = $3, acknowledged_id = $4, acknowledged_at = $5, \
             acknowledge_note = $6, revision = $7, updated_at = $8 \
         where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(alert.id)
    .bind(&by.actor_kind)
    .bind(&by.actor_id)
    .bind(by.at)
    .bind(&by.note)
    .bind(alert.revision)
    .bind(alert.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Alerts of the tenant before `before` that the filter asks for, newest first.
#[tracing::instrument(name = "db.alert.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    filter: &Filter,
    before: AlertId,
    limit: i64,
) -> Result<Vec<Alert>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select a.id, a.rule, a.title, a.description, a.severity, a.occurrences, a.first_at, a.last_at, \
                a.acknowledged_kind, a.acknowledged_id, a.acknowledged_at, a.acknowledge_note, a.revision, \
                a.created_at, a.updated_at, \
                coalesce((select case when bool_or(d.accepted_at is null) then 'pending' else 'delivered' end \
                          from audit.delivery d where d.tenant_id = a.tenant_id and d.alert_id = a.id \
                          having count(*) > 0), a.delivery_state) as delivery_state \
         from audit.alert a where a.tenant_id = ",
    );
    query
        .push_bind(tx.tenant().uuid())
        .push(" and a.id < ")
        .push_bind(before);
    push_filter(&mut query, filter);
    query.push(" order by a.id desc limit ").push_bind(limit);
    let rows: Vec<Row> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Alert::from).collect())
}

/// Adds what a filter asks of the alert `a`.
fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(acknowledged) = filter.acknowledged {
        query
            .push(" and a.state = ")
            .push_bind(state_text(acknowledged));
    }
    if let Some(rule) = &filter.rule {
        query.push(" and a.rule = ").push_bind(rule.clone());
    }
    if let Some(severity) = filter.min_severity {
        query.push(" and a.severity >= ").push_bind(severity);
    }
    if let Some(from) = filter.from {
        query.push(" and a.last_at >= ").push_bind(from);
    }
    if let Some(until) = filter.until {
        query.push(" and a.first_at < ").push_bind(until);
    }
}

/// An alert with its tenant, and both sides when it is of an attempt across tenants.
pub(crate) struct OperatorAlert {
    pub(crate) tenant: TenantId,
    pub(crate) alert: Alert,
    pub(crate) parties: Option<Parties>,
}

#[derive(FromRow)]
struct OperatorRow {
    tenant_id: Uuid,
    #[sqlx(flatten)]
    row: Row,
    #[sqlx(flatten)]
    parties: PartiesRow,
}

impl From<OperatorRow> for OperatorAlert {
    fn from(row: OperatorRow) -> Self {
        Self {
            tenant: TenantId::new(row.tenant_id),
            alert: row.row.into(),
            parties: row.parties.into(),
        }
    }
}

/// Alerts of all tenants or of one before `before` that the filter asks for, newest first. For the operator's role.
#[tracing::instrument(name = "db.alert.list_of_all", skip_all)]
pub(crate) async fn list_of_all(
    session: &mut Session,
    tenant: Option<TenantId>,
    filter: &Filter,
    before: AlertId,
    limit: i64,
) -> Result<Vec<OperatorAlert>, Error> {
    // Alerts of older versions name no offender: theirs is found by the attempt that raised them.
    let mut query = QueryBuilder::<Postgres>::new(
        "select a.tenant_id, a.id, a.rule, a.title, a.description, a.severity, a.occurrences, a.first_at, a.last_at, \
                a.acknowledged_kind, a.acknowledged_id, a.acknowledged_at, a.acknowledge_note, a.revision, \
                a.created_at, a.updated_at, \
                coalesce((select case when bool_or(d.accepted_at is null) then 'pending' else 'delivered' end \
                          from audit.delivery d where d.tenant_id = a.tenant_id and d.alert_id = a.id \
                          having count(*) > 0), a.delivery_state) as delivery_state, \
                coalesce(o.tenant_id, r.tenant_id) as offender_tenant_id, \
                coalesce(o.actor_kind, r.actor_kind) as offender_kind, \
                coalesce(o.actor_id, r.actor_id) as offender_id, a.tenant_id as victim_tenant_id \
         from audit.alert a \
         left join audit.offender o on o.key = a.offender_key and o.tenant_id <> a.tenant_id \
         left join audit.record r on a.offender_key is null and a.rule = 'cross-tenant-access' \
             and r.event_id = a.event_id and r.severity = 4 and r.operator_only \
         where a.id < ",
    );
    query.push_bind(before);
    if let Some(tenant) = tenant {
        query.push(" and a.tenant_id = ").push_bind(tenant.uuid());
    }
    push_filter(&mut query, filter);
    query.push(" order by a.id desc limit ").push_bind(limit);
    let rows: Vec<OperatorRow> = query.build_query_as().fetch_all(session).await?;
    Ok(rows.into_iter().map(OperatorAlert::from).collect())
}
