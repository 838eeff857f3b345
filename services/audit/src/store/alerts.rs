//! Rows of alerts: of one tenant, and of all for the operator and for delivery.

use kit::session::Session;
use kit::{TenantId, Tx};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::records::{Parties, PartiesRow};
use crate::alert::{Acknowledgement, Alert, AlertId, DeliveryState, Trigger};
use crate::error::Error;

#[derive(FromRow)]
struct Row {
    id: AlertId,
    rule: String,
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
        Self {
            id: row.id,
            rule: row.rule,
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
    .bind(trigger.rule.name)
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
    sqlx::query(
        "insert into audit.alert \
             (tenant_id, id, rule, severity, dedup_key, event_id, traceparent, occurrences, first_at, last_at, state, \
              acknowledge_note, revision, created_at, updated_at, delivery_state, delivery_attempts, next_attempt_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', $12, $13, $14, $15, 0, $13)",
    )
    .bind(tx.tenant().uuid())
    .bind(alert.id)
    .bind(&alert.rule)
    .bind(alert.severity)
    .bind(trigger.dedup_key)
    .bind(trigger.event_id)
    .bind(&trigger.traceparent)
    .bind(alert.occurrences)
    .bind(alert.first_at)
    .bind(alert.last_at)
    .bind(state_text(alert.acknowledged.is_some()))
    .bind(alert.revision)
    .bind(alert.created_at)
    .bind(alert.updated_at)
    .bind(alert.delivery.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Reads and locks an alert: the lock orders its changes and its events.
#[tracing::instrument(name = "db.alert.lock", skip_all, fields(alert.id = %id))]
pub(crate) async fn lock(tx: &mut Tx, id: AlertId) -> Result<Alert, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, rule, severity, occurrences, first_at, last_at, acknowledged_kind, acknowledged_id, \
                acknowledged_at, acknowledge_note, revision, created_at, updated_at, delivery_state \
         from audit.alert where tenant_id = $1 and id = $2 for update",
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

/// Alerts of the tenant before `before`, newest first, in either state or in the given one.
#[tracing::instrument(name = "db.alert.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    acknowledged: Option<bool>,
    before: AlertId,
    limit: i64,
) -> Result<Vec<Alert>, Error> {
    let query = match acknowledged {
        None => sqlx::query_as(
            "select id, rule, severity, occurrences, first_at, last_at, acknowledged_kind, acknowledged_id, \
                acknowledged_at, acknowledge_note, revision, created_at, updated_at, delivery_state \
         from audit.alert where tenant_id = $1 and id < $2 order by id desc limit $3",
        )
        .bind(tx.tenant().uuid())
        .bind(before)
        .bind(limit),
        Some(acknowledged) => sqlx::query_as(
            "select id, rule, severity, occurrences, first_at, last_at, acknowledged_kind, acknowledged_id, \
                acknowledged_at, acknowledge_note, revision, created_at, updated_at, delivery_state \
         from audit.alert where tenant_id = $1 and id < $2 and state = $4 order by id desc limit $3",
        )
        .bind(tx.tenant().uuid())
        .bind(before)
        .bind(limit)
        .bind(state_text(acknowledged)),
    };
    let rows: Vec<Row> = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Alert::from).collect())
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

/// Alerts of all tenants or of one before `before`, newest first, in either state or in the given one.
/// For the operator's role.
#[tracing::instrument(name = "db.alert.list_of_all", skip_all)]
pub(crate) async fn list_of_all(
    session: &mut Session,
    tenant: Option<TenantId>,
    acknowledged: Option<bool>,
    before: AlertId,
    limit: i64,
) -> Result<Vec<OperatorAlert>, Error> {
    let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new(
        "select a.tenant_id, a.id, a.rule, a.severity, a.occurrences, a.first_at, a.last_at, a.acknowledged_kind, \
                a.acknowledged_id, a.acknowledged_at, a.acknowledge_note, a.revision, a.created_at, a.updated_at, \
                a.delivery_state, o.tenant_id as offender_tenant_id, o.actor_kind as offender_kind, \
                o.actor_id as offender_id, a.tenant_id as victim_tenant_id \
         from audit.alert a left join audit.record o \
             on a.rule = 'cross-tenant-access' and o.event_id = a.event_id and o.severity = 4 and o.operator_only \
         where a.id < ",
    );
    query.push_bind(before);
    if let Some(tenant) = tenant {
        query.push(" and a.tenant_id = ").push_bind(tenant.uuid());
    }
    if let Some(acknowledged) = acknowledged {
        query
            .push(" and a.state = ")
            .push_bind(state_text(acknowledged));
    }
    query.push(" order by a.id desc limit ").push_bind(limit);
    let rows: Vec<OperatorRow> = query.build_query_as().fetch_all(session).await?;
    Ok(rows.into_iter().map(OperatorAlert::from).collect())
}

/// An alert on its way to the operator's receiver, with everything that the operator may know.
#[derive(FromRow)]
pub(crate) struct Due {
    pub(crate) tenant_id: Uuid,
    pub(crate) id: AlertId,
    pub(crate) rule: String,
    pub(crate) severity: i16,
    pub(crate) occurrences: i64,
    pub(crate) first_at: OffsetDateTime,
    pub(crate) last_at: OffsetDateTime,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) traceparent: Option<String>,
    pub(crate) delivery_attempts: i32,
    pub(crate) offender_tenant_id: Option<Uuid>,
    pub(crate) offender_kind: Option<String>,
    pub(crate) offender_id: Option<String>,
}

/// Takes the alert that has waited longest for delivery and keeps others from it until `leased_until`: a replica that
/// dies in between has not lost it. For the operator's role.
#[tracing::instrument(name = "db.alert.take_due", skip_all)]
pub(crate) async fn take_due(
    session: &mut Session,
    now: OffsetDateTime,
    leased_until: OffsetDateTime,
) -> Result<Option<Due>, Error> {
    let due = sqlx::query_as(
        "with due as ( \
             update audit.alert a set next_attempt_at = $2, delivery_attempts = a.delivery_attempts + 1 \
             from (select tenant_id, id from audit.alert where delivery_state = 'pending' and next_attempt_at <= $1 \
                   order by next_attempt_at limit 1 for update skip locked) as first \
             where a.tenant_id = first.tenant_id and a.id = first.id \
             returning a.tenant_id, a.id, a.rule, a.severity, a.event_id, a.occurrences, a.first_at, a.last_at, \
                       a.created_at, a.traceparent, a.delivery_attempts) \
         select d.tenant_id, d.id, d.rule, d.severity, d.occurrences, d.first_at, d.last_at, d.created_at, \
                d.traceparent, d.delivery_attempts, o.tenant_id as offender_tenant_id, \
                o.actor_kind as offender_kind, o.actor_id as offender_id \
         from due d left join audit.record o \
             on o.event_id = d.event_id and o.severity = 4 \
                and o.operator_only = (d.rule = 'cross-tenant-access') limit 1",
    )
    .bind(now)
    .bind(leased_until)
    .fetch_optional(session)
    .await?;
    Ok(due)
}

/// Notes that the receiver has accepted an alert. For the operator's role.
#[tracing::instrument(name = "db.alert.delivered", skip_all, fields(alert.id = %id))]
pub(crate) async fn delivered(
    session: &mut Session,
    tenant: Uuid,
    id: AlertId,
) -> Result<(), Error> {
    sqlx::query(
        "update audit.alert set delivery_state = 'delivered' where tenant_id = $1 and id = $2",
    )
    .bind(tenant)
    .bind(id)
    .execute(session)
    .await?;
    Ok(())
}

/// Notes when to try again. For the operator's role.
#[tracing::instrument(name = "db.alert.retry", skip_all, fields(alert.id = %id))]
pub(crate) async fn retry_at(
    session: &mut Session,
    tenant: Uuid,
    id: AlertId,
    at: OffsetDateTime,
) -> Result<(), Error> {
    sqlx::query("update audit.alert set next_attempt_at = $3 where tenant_id = $1 and id = $2")
        .bind(tenant)
        .bind(id)
        .bind(at)
        .execute(session)
        .await?;
    Ok(())
}
