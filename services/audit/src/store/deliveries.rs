//! What each sink has been told of each alert.

use kit::Tx;
use kit::session::Session;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::alert::AlertId;
use crate::error::Error;

/// Notes that sinks are to be told of an alert, each with whether it is told again and when it is over.
#[tracing::instrument(name = "db.delivery.insert", skip_all, fields(alert.id = %id))]
pub(crate) async fn insert(
    tx: &mut Tx,
    id: AlertId,
    sinks: &[(&str, bool)],
    now: OffsetDateTime,
) -> Result<(), Error> {
    sqlx::query(
        "insert into audit.delivery (tenant_id, alert_id, sink, resolves, state, attempts, next_attempt_at) \
         select $1, $2, sink, resolves, 'pending', 0, $3 from unnest($4::text[], $5::boolean[]) as e (sink, resolves)",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .bind(now)
    .bind(sinks.iter().map(|(name, _)| *name).collect::<Vec<_>>())
    .bind(sinks.iter().map(|(_, resolves)| *resolves).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Has the sinks that want to know told that an alert is over.
#[tracing::instrument(name = "db.delivery.resolve", skip_all, fields(alert.id = %id))]
pub(crate) async fn resolve(tx: &mut Tx, id: AlertId, now: OffsetDateTime) -> Result<(), Error> {
    sqlx::query(
        "update audit.delivery set state = 'resolving', next_attempt_at = $3, attempts = 0 \
         where tenant_id = $1 and alert_id = $2 and resolves and state in ('pending', 'open')",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An alert on its way to a sink, with everything that the operator may know.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Due {
    pub(crate) tenant_id: Uuid,
    pub(crate) id: AlertId,
    pub(crate) rule: String,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) severity: i16,
    pub(crate) occurrences: i64,
    pub(crate) first_at: OffsetDateTime,
    pub(crate) last_at: OffsetDateTime,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) acknowledged_at: Option<OffsetDateTime>,
    pub(crate) traceparent: Option<String>,
    pub(crate) state: String,
    pub(crate) resolves: bool,
    pub(crate) attempts: i32,
    pub(crate) offender_tenant_id: Option<Uuid>,
    pub(crate) offender_kind: Option<String>,
    pub(crate) offender_id: Option<String>,
}

/// Takes the alert that has waited longest for a sink and keeps others from it until `leased_until`: a replica that
/// dies in between has not lost it. For the operator's role.
#[tracing::instrument(name = "db.delivery.take_due", skip_all)]
pub(crate) async fn take_due(
    session: &mut Session,
    sink: &str,
    now: OffsetDateTime,
    leased_until: OffsetDateTime,
) -> Result<Option<Due>, Error> {
    // Alerts of older versions name no offender: theirs is found by the event that raised them.
    let due = sqlx::query_as(
        "with due as ( \
             update audit.delivery d set next_attempt_at = $3, attempts = d.attempts + 1 \
             from (select tenant_id, alert_id, sink from audit.delivery \
                   where sink = $1 and state <> 'done' and next_attempt_at <= $2 \
                   order by next_attempt_at limit 1 for update skip locked) as first \
             where d.tenant_id = first.tenant_id and d.alert_id = first.alert_id and d.sink = first.sink \
             returning d.tenant_id, d.alert_id, d.state, d.resolves, d.attempts) \
         select a.tenant_id, a.id, a.rule, a.title, a.description, a.severity, a.occurrences, a.first_at, a.last_at, \
                a.created_at, a.acknowledged_at, a.traceparent, d.state, d.resolves, d.attempts, \
                coalesce(o.tenant_id, r.tenant_id) as offender_tenant_id, \
                coalesce(o.actor_kind, r.actor_kind) as offender_kind, \
                coalesce(o.actor_id, r.actor_id) as offender_id \
         from due d join audit.alert a on a.tenant_id = d.tenant_id and a.id = d.alert_id \
         left join audit.offender o on o.key = a.offender_key \
         left join audit.record r on a.offender_key is null and r.event_id = a.event_id and r.severity = 4 \
             and r.operator_only = (a.rule = 'cross-tenant-access') \
         limit 1",
    )
    .bind(sink)
    .bind(now)
    .bind(leased_until)
    .fetch_optional(session)
    .await?;
    Ok(due)
}

/// Notes that a sink has accepted what it was sent: it is told again at `again_at`, or no more. An acknowledgement that
/// came in between stands, since its state is another one. For the operator's role.
#[tracing::instrument(name = "db.delivery.accepted", skip_all, fields(alert.id = %due.id))]
pub(crate) async fn accepted(
    session: &mut Session,
    due: &Due,
    sink: &str,
    now: OffsetDateTime,
    again_at: Option<OffsetDateTime>,
) -> Result<(), Error> {
    sqlx::query(
        "update audit.delivery set accepted_at = coalesce(accepted_at, $5), attempts = 0, \
             state = case when state <> $4 then state when $6::timestamptz is null then 'done' else 'open' end, \
             next_attempt_at = case when state <> $4 then next_attempt_at else coalesce($6, next_attempt_at) end \
         where tenant_id = $1 and alert_id = $2 and sink = $3",
    )
    .bind(due.tenant_id)
    .bind(due.id)
    .bind(sink)
    .bind(&due.state)
    .bind(now)
    .bind(again_at)
    .execute(session)
    .await?;
    Ok(())
}

/// Notes when to try again. For the operator's role.
#[tracing::instrument(name = "db.delivery.retry", skip_all, fields(alert.id = %due.id))]
pub(crate) async fn retry_at(
    session: &mut Session,
    due: &Due,
    sink: &str,
    at: OffsetDateTime,
) -> Result<(), Error> {
    sqlx::query(
        "update audit.delivery set next_attempt_at = $4 where tenant_id = $1 and alert_id = $2 and sink = $3 \
             and state = $5",
    )
    .bind(due.tenant_id)
    .bind(due.id)
    .bind(sink)
    .bind(at)
    .bind(&due.state)
    .execute(session)
    .await?;
    Ok(())
}

/// How many alerts wait to be accepted by a sink for the first time. For the operator's role.
#[tracing::instrument(name = "db.delivery.count_waiting", skip_all)]
pub(crate) async fn waiting(session: &mut Session, sink: &str) -> Result<i64, Error> {
    let count = sqlx::query_scalar(
        "select count(*) from audit.delivery where sink = $1 and state <> 'done' and accepted_at is null",
    )
    .bind(sink)
    .fetch_one(session)
    .await?;
    Ok(count)
}

/// Takes over alerts that an older version stored and has not delivered. For the operator's role.
#[tracing::instrument(name = "db.delivery.adopt", skip_all)]
pub(crate) async fn adopt(
    session: &mut Session,
    sink: &str,
    now: OffsetDateTime,
) -> Result<(), Error> {
    // One that an older version has under way is leased, and so not due.
    sqlx::query(
        "with left_behind as ( \
             update audit.alert set delivery_state = 'not_configured' \
             where delivery_state = 'pending' and next_attempt_at <= $1 returning tenant_id, id) \
         insert into audit.delivery (tenant_id, alert_id, sink, resolves, state, attempts, next_attempt_at) \
         select tenant_id, id, $2, false, 'pending', 0, $1 from left_behind on conflict do nothing",
    )
    .bind(now)
    .bind(sink)
    .execute(session)
    .await?;
    Ok(())
}
