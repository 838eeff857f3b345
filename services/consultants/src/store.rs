//! Rows of consultants. Every statement names the tenant; decides nothing.

use kit::money::Money;
use kit::{Ctx, Db, Tx};
use sqlx::FromRow;
use time::OffsetDateTime;

use crate::consultant::{Consultant, ConsultantId, Profile};
use crate::error::Error;

#[derive(FromRow)]
struct Row {
    id: ConsultantId,
    code: String,
    display_name: String,
    email: Option<String>,
    subject: Option<String>,
    job_title: String,
    weekly_capacity_minutes: i32,
    cost_rate_minor: Option<i64>,
    cost_rate_currency: Option<String>,
    bill_rate_minor: Option<i64>,
    bill_rate_currency: Option<String>,
    active: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Consultant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            profile: Profile {
                code: row.code,
                display_name: row.display_name,
                email: row.email,
                subject: row.subject,
                job_title: row.job_title,
                weekly_capacity_minutes: row.weekly_capacity_minutes,
                cost_rate: Money::from_columns(
                    row.cost_rate_minor,
                    row.cost_rate_currency.as_deref(),
                ),
                bill_rate: Money::from_columns(
                    row.bill_rate_minor,
                    row.bill_rate_currency.as_deref(),
                ),
            },
            active: row.active,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[tracing::instrument(name = "db.consultant.insert", skip_all, fields(consultant.id = %consultant.id))]
pub(crate) async fn insert(tx: &mut Tx, consultant: &Consultant) -> Result<(), Error> {
    let profile = &consultant.profile;
    sqlx::query(
        "insert into consultants.consultant \
             (tenant_id, id, code, display_name, email, email_folded, subject, job_title, weekly_capacity_minutes, \
              cost_rate_minor, cost_rate_currency, bill_rate_minor, bill_rate_currency, active, version, \
              created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(tx.tenant().uuid())
    .bind(consultant.id)
    .bind(&profile.code)
    .bind(&profile.display_name)
    .bind(&profile.email)
    .bind(profile.email.as_deref().map(str::to_lowercase))
    .bind(&profile.subject)
    .bind(&profile.job_title)
    .bind(profile.weekly_capacity_minutes)
    .bind(profile.cost_rate.map(|rate| rate.minor_units))
    .bind(profile.cost_rate.as_ref().map(|rate| rate.currency.as_str()))
    .bind(profile.bill_rate.map(|rate| rate.minor_units))
    .bind(profile.bill_rate.as_ref().map(|rate| rate.currency.as_str()))
    .bind(consultant.active)
    .bind(consultant.version)
    .bind(consultant.created_at)
    .bind(consultant.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.consultant.get", skip_all, fields(consultant.id = %id))]
pub(crate) async fn get(ctx: &Ctx, db: &Db, id: ConsultantId) -> Result<Option<Consultant>, Error> {
    let row: Option<Row> = db
        .read_one(
            ctx,
            "select id, code, display_name, email, subject, job_title, weekly_capacity_minutes, cost_rate_minor, \
                    cost_rate_currency, bill_rate_minor, bill_rate_currency, active, version, created_at, updated_at \
             from consultants.get_consultant($1, $2)",
            id.uuid(),
        )
        .await?;
    Ok(row.map(Consultant::from))
}

/// Reads and locks a consultant: the lock orders the events of one aggregate.
#[tracing::instrument(name = "db.consultant.lock", skip_all, fields(consultant.id = %id))]
pub(crate) async fn lock(tx: &mut Tx, id: ConsultantId) -> Result<Consultant, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, code, display_name, email, subject, job_title, weekly_capacity_minutes, cost_rate_minor, \
                cost_rate_currency, bill_rate_minor, bill_rate_currency, active, version, created_at, updated_at \
         from consultants.consultant where tenant_id = $1 and id = $2 for update",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Consultant::from).ok_or(Error::NotFound(id))
}

/// Consultants after `after` in the order of creation, in either state or in the given one.
#[tracing::instrument(name = "db.consultant.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    active: Option<bool>,
    after: ConsultantId,
    limit: i64,
) -> Result<Vec<Consultant>, Error> {
    // An optional filter is a statement of its own, so that each has its index.
    let query = match active {
        None => sqlx::query_as(
            "select id, code, display_name, email, subject, job_title, weekly_capacity_minutes, cost_rate_minor, \
                cost_rate_currency, bill_rate_minor, bill_rate_currency, active, version, created_at, updated_at \
         from consultants.consultant where tenant_id = $1 and id > $2 order by id limit $3",
        )
        .bind(tx.tenant().uuid())
        .bind(after)
        .bind(limit),
        Some(active) => sqlx::query_as(
            "select id, code, display_name, email, subject, job_title, weekly_capacity_minutes, cost_rate_minor, \
                cost_rate_currency, bill_rate_minor, bill_rate_currency, active, version, created_at, updated_at \
         from consultants.consultant where tenant_id = $1 and id > $2 and active = $4 order by id limit $3",
        )
        .bind(tx.tenant().uuid())
        .bind(after)
        .bind(limit)
        .bind(active),
    };
    let rows: Vec<Row> = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Consultant::from).collect())
}

#[tracing::instrument(name = "db.consultant.update", skip_all, fields(consultant.id = %consultant.id))]
pub(crate) async fn update(tx: &mut Tx, consultant: &Consultant) -> Result<(), Error> {
    let profile = &consultant.profile;
    sqlx::query(
        "update consultants.consultant set \
             code = $3, display_name = $4, email = $5, email_folded = $6, subject = $7, job_title = $8, \
             weekly_capacity_minutes = $9, cost_rate_minor = $10, cost_rate_currency = $11, bill_rate_minor = $12, \
             bill_rate_currency = $13, active = $14, version = $15, updated_at = $16 \
         where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(consultant.id)
    .bind(&profile.code)
    .bind(&profile.display_name)
    .bind(&profile.email)
    .bind(profile.email.as_deref().map(str::to_lowercase))
    .bind(&profile.subject)
    .bind(&profile.job_title)
    .bind(profile.weekly_capacity_minutes)
    .bind(profile.cost_rate.map(|rate| rate.minor_units))
    .bind(profile.cost_rate.as_ref().map(|rate| rate.currency.as_str()))
    .bind(profile.bill_rate.map(|rate| rate.minor_units))
    .bind(profile.bill_rate.as_ref().map(|rate| rate.currency.as_str()))
    .bind(consultant.active)
    .bind(consultant.version)
    .bind(consultant.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
