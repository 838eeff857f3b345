//! Rows of projects.

use kit::money::Money;
use kit::{Ctx, Db, Tx};
use sqlx::FromRow;
use time::{Date, OffsetDateTime};

use crate::client::ClientId;
use crate::error::Error;
use crate::project::{Filter, Profile, Project, ProjectId};

#[derive(FromRow)]
struct Row {
    id: ProjectId,
    client_id: ClientId,
    code: String,
    display_name: String,
    billable: bool,
    budget_minutes: Option<i64>,
    budget_minor: Option<i64>,
    budget_currency: Option<String>,
    start_date: Option<Date>,
    end_date: Option<Date>,
    archived: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Project {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            client_id: row.client_id,
            profile: Profile {
                code: row.code,
                display_name: row.display_name,
                billable: row.billable,
                budget_minutes: row.budget_minutes,
                budget: Money::from_columns(row.budget_minor, row.budget_currency.as_deref()),
                start_date: row.start_date,
                end_date: row.end_date,
            },
            archived: row.archived,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A select of all columns of [`Row`].
macro_rules! select {
    ($conditions:literal) => {
        concat!(
            "select id, client_id, code, display_name, billable, budget_minutes, budget_minor, budget_currency, \
                    start_date, end_date, archived, version, created_at, updated_at \
             from projects.project where ",
            $conditions
        )
    };
}

#[tracing::instrument(name = "db.project.insert", skip_all, fields(project.id = %project.id))]
pub(crate) async fn insert(tx: &mut Tx, project: &Project) -> Result<(), Error> {
    let profile = &project.profile;
    sqlx::query(
        "insert into projects.project \
             (tenant_id, id, client_id, code, display_name, billable, budget_minutes, budget_minor, \
              budget_currency, start_date, end_date, archived, version, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(tx.tenant().uuid())
    .bind(project.id)
    .bind(project.client_id)
    .bind(&profile.code)
    .bind(&profile.display_name)
    .bind(profile.billable)
    .bind(profile.budget_minutes)
    .bind(profile.budget.map(|budget| budget.minor_units))
    .bind(profile.budget.as_ref().map(|budget| budget.currency.as_str()))
    .bind(profile.start_date)
    .bind(profile.end_date)
    .bind(project.archived)
    .bind(project.version)
    .bind(project.created_at)
    .bind(project.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.project.get", skip_all, fields(project.id = %id))]
pub(crate) async fn get(ctx: &Ctx, db: &Db, id: ProjectId) -> Result<Option<Project>, Error> {
    let row: Option<Row> = db
        .read_one(
            ctx,
            "select id, client_id, code, display_name, billable, budget_minutes, budget_minor, budget_currency, \
                    start_date, end_date, archived, version, created_at, updated_at \
             from projects.get_project($1, $2)",
            id.uuid(),
        )
        .await?;
    Ok(row.map(Project::from))
}

/// Reads and locks a project: the lock orders the events of the project, and the changes of its assignments.
#[tracing::instrument(name = "db.project.lock", skip_all, fields(project.id = %id))]
pub(crate) async fn lock(tx: &mut Tx, id: ProjectId) -> Result<Project, Error> {
    let row: Option<Row> = sqlx::query_as(select!("tenant_id = $1 and id = $2 for no key update"))
        .bind(tx.tenant().uuid())
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(Project::from).ok_or(Error::ProjectNotFound(id))
}

/// Projects after `after` in the order of creation.
#[tracing::instrument(name = "db.project.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    filter: Filter,
    after: ProjectId,
    limit: i64,
) -> Result<Vec<Project>, Error> {
    // Each combination of filters is a statement of its own, so that each has its index.
    let sql = match (filter.client_id, filter.archived) {
        (None, None) => select!("tenant_id = $1 and id > $2 order by id limit $3"),
        (Some(_), None) => {
            select!("tenant_id = $1 and id > $2 and client_id = $4 order by id limit $3")
        }
        (None, Some(_)) => {
            select!("tenant_id = $1 and id > $2 and archived = $4 order by id limit $3")
        }
        (Some(_), Some(_)) => {
            select!(
                "tenant_id = $1 and id > $2 and client_id = $4 and archived = $5 order by id limit $3"
            )
        }
    };
    let mut query = sqlx::query_as(sql)
        .bind(tx.tenant().uuid())
        .bind(after)
        .bind(limit);
    if let Some(client_id) = filter.client_id {
        query = query.bind(client_id);
    }
    if let Some(archived) = filter.archived {
        query = query.bind(archived);
    }
    let rows: Vec<Row> = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Project::from).collect())
}

#[tracing::instrument(name = "db.project.update", skip_all, fields(project.id = %project.id))]
pub(crate) async fn update(tx: &mut Tx, project: &Project) -> Result<(), Error> {
    let profile = &project.profile;
    sqlx::query(
        "update projects.project set \
             code = $3, display_name = $4, billable = $5, budget_minutes = $6, budget_minor = $7, \
             budget_currency = $8, start_date = $9, end_date = $10, archived = $11, version = $12, updated_at = $13 \
         where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(project.id)
    .bind(&profile.code)
    .bind(&profile.display_name)
    .bind(profile.billable)
    .bind(profile.budget_minutes)
    .bind(profile.budget.map(|budget| budget.minor_units))
    .bind(profile.budget.as_ref().map(|budget| budget.currency.as_str()))
    .bind(profile.start_date)
    .bind(profile.end_date)
    .bind(project.archived)
    .bind(project.version)
    .bind(project.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
