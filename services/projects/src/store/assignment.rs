//! Rows of assignments.

use kit::Tx;
use sqlx::FromRow;
use time::{Date, OffsetDateTime};

use crate::assignment::{Assignment, AssignmentId, Filter, Plan};
use crate::consultant::ConsultantId;
use crate::error::Error;
use crate::project::ProjectId;

#[derive(FromRow)]
struct Row {
    id: AssignmentId,
    project_id: ProjectId,
    consultant_id: ConsultantId,
    role: String,
    allocation_percent: i32,
    start_date: Date,
    end_date: Option<Date>,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Assignment {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            plan: Plan {
                project_id: row.project_id,
                consultant_id: row.consultant_id,
                role: row.role,
                allocation_percent: row.allocation_percent,
                start_date: row.start_date,
                end_date: row.end_date,
            },
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
            "select id, project_id, consultant_id, role, allocation_percent, start_date, end_date, version, \
                    created_at, updated_at \
             from projects.assignment where ",
            $conditions
        )
    };
}

#[tracing::instrument(name = "db.assignment.insert", skip_all, fields(assignment.id = %assignment.id))]
pub(crate) async fn insert(tx: &mut Tx, assignment: &Assignment) -> Result<(), Error> {
    let plan = &assignment.plan;
    sqlx::query(
        "insert into projects.assignment \
             (tenant_id, id, project_id, consultant_id, role, allocation_percent, start_date, end_date, version, \
              created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(tx.tenant().uuid())
    .bind(assignment.id)
    .bind(plan.project_id)
    .bind(plan.consultant_id)
    .bind(&plan.role)
    .bind(plan.allocation_percent)
    .bind(plan.start_date)
    .bind(plan.end_date)
    .bind(assignment.version)
    .bind(assignment.created_at)
    .bind(assignment.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.assignment.get", skip_all, fields(assignment.id = %id))]
pub(crate) async fn get(tx: &mut Tx, id: AssignmentId) -> Result<Assignment, Error> {
    let row: Option<Row> = sqlx::query_as(select!("tenant_id = $1 and id = $2"))
        .bind(tx.tenant().uuid())
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(Assignment::from)
        .ok_or(Error::AssignmentNotFound(id))
}

/// Assignments after `after` in the order of creation.
#[tracing::instrument(name = "db.assignment.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    filter: Filter,
    after: AssignmentId,
    limit: i64,
) -> Result<Vec<Assignment>, Error> {
    // Each combination of filters is a statement of its own, so that each has its index.
    let sql = match filter {
        Filter::Project(_) => {
            select!("tenant_id = $1 and id > $2 and project_id = $4 order by id limit $3")
        }
        Filter::Consultant(_) => {
            select!("tenant_id = $1 and id > $2 and consultant_id = $4 order by id limit $3")
        }
        Filter::Both(..) => {
            select!(
                "tenant_id = $1 and id > $2 and project_id = $4 and consultant_id = $5 order by id limit $3"
            )
        }
    };
    let query = sqlx::query_as(sql)
        .bind(tx.tenant().uuid())
        .bind(after)
        .bind(limit);
    let query = match filter {
        Filter::Project(project_id) => query.bind(project_id),
        Filter::Consultant(consultant_id) => query.bind(consultant_id),
        Filter::Both(project_id, consultant_id) => query.bind(project_id).bind(consultant_id),
    };
    let rows: Vec<Row> = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Assignment::from).collect())
}

/// Removes an assignment; not found when another transaction was faster.
#[tracing::instrument(name = "db.assignment.delete", skip_all, fields(assignment.id = %id))]
pub(crate) async fn delete(tx: &mut Tx, id: AssignmentId) -> Result<(), Error> {
    let deleted = sqlx::query("delete from projects.assignment where tenant_id = $1 and id = $2")
        .bind(tx.tenant().uuid())
        .bind(id)
        .execute(&mut **tx)
        .await?
        .rows_affected();
    if deleted == 1 {
        Ok(())
    } else {
        Err(Error::AssignmentNotFound(id))
    }
}
