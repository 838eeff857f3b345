//! Rows of references to projects and consultants.

use kit::Tx;
use sqlx::FromRow;
use uuid::Uuid;

use super::column;
use crate::error::Error;
use crate::reference::{Consultant, ConsultantId, Named, Project, ProjectId, References};

/// A project, or a consultant, which has no client.
#[derive(FromRow)]
struct Row {
    id: Uuid,
    client_id: Option<Uuid>,
    code: String,
    display_name: String,
    subject: Option<String>,
    active: bool,
    billable: bool,
    version: i64,
}

/// What is known of all that is named, in one round trip.
#[tracing::instrument(name = "db.reference.find", skip_all)]
pub(crate) async fn find(tx: &mut Tx, named: &Named) -> Result<References, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, client_id, code, display_name, null as subject, active, billable, version \
         from time_entries.project where tenant_id = $1 and id = any($2) \
         union all \
         select id, null, code, display_name, subject, active, false, version \
         from time_entries.consultant where tenant_id = $1 and id = any($3)",
    )
    .bind(tx.tenant().uuid())
    .bind(&named.projects)
    .bind(&named.consultants)
    .fetch_all(&mut **tx)
    .await?;
    let mut known = References::default();
    for row in rows {
        match row.client_id {
            Some(client_id) => known.add_project(Project {
                id: ProjectId::new(row.id),
                client_id,
                code: row.code,
                display_name: row.display_name,
                active: row.active,
                billable: row.billable,
                version: row.version,
            }),
            None => known.add_consultant(Consultant {
                id: ConsultantId::new(row.id),
                code: row.code,
                display_name: row.display_name,
                subject: row.subject,
                active: row.active,
                version: row.version,
            }),
        }
    }
    Ok(known)
}

/// The consultants that have a subject: one, or two while the events of a handover cross.
#[tracing::instrument(name = "db.consultant.find_by_subject", skip_all)]
pub(crate) async fn find_by_subject(
    tx: &mut Tx,
    subject: &str,
) -> Result<Vec<ConsultantId>, Error> {
    let ids = sqlx::query_scalar(
        "select id from time_entries.consultant where tenant_id = $1 and subject = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(subject)
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids)
}

/// Stores what was told; a row that is as new or newer stays as it is.
pub(crate) async fn upsert(tx: &mut Tx, told: &References) -> Result<(), Error> {
    if !told.projects.is_empty() {
        upsert_projects(tx, told).await?;
    }
    if !told.consultants.is_empty() {
        upsert_consultants(tx, told).await?;
    }
    Ok(())
}

#[tracing::instrument(name = "db.project.upsert", skip_all)]
async fn upsert_projects(tx: &mut Tx, told: &References) -> Result<(), Error> {
    let projects = || told.projects.values();
    sqlx::query(
        "insert into time_entries.project as known \
             (tenant_id, id, client_id, code, display_name, active, billable, version) \
         select $1, told.id, told.client_id, told.code, told.display_name, told.active, told.billable, told.version \
         from unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::boolean[], $7::boolean[], $8::bigint[]) \
              as told (id, client_id, code, display_name, active, billable, version) \
         on conflict (tenant_id, id) do update set \
             client_id = excluded.client_id, code = excluded.code, display_name = excluded.display_name, \
             active = excluded.active, billable = excluded.billable, version = excluded.version \
         where excluded.version > known.version",
    )
    .bind(tx.tenant().uuid())
    .bind(column(projects(), |project| project.id))
    .bind(column(projects(), |project| project.client_id))
    .bind(column(projects(), |project| project.code.as_str()))
    .bind(column(projects(), |project| project.display_name.as_str()))
    .bind(column(projects(), |project| project.active))
    .bind(column(projects(), |project| project.billable))
    .bind(column(projects(), |project| project.version))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.consultant.upsert", skip_all)]
async fn upsert_consultants(tx: &mut Tx, told: &References) -> Result<(), Error> {
    let consultants = || told.consultants.values();
    sqlx::query(
        "insert into time_entries.consultant as known \
             (tenant_id, id, code, display_name, subject, active, version) \
         select $1, told.id, told.code, told.display_name, told.subject, told.active, told.version \
         from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::bigint[]) \
              as told (id, code, display_name, subject, active, version) \
         on conflict (tenant_id, id) do update set \
             code = excluded.code, display_name = excluded.display_name, subject = excluded.subject, \
             active = excluded.active, version = excluded.version \
         where excluded.version > known.version",
    )
    .bind(tx.tenant().uuid())
    .bind(column(consultants(), |consultant| consultant.id))
    .bind(column(consultants(), |consultant| consultant.code.as_str()))
    .bind(column(consultants(), |consultant| consultant.display_name.as_str()))
    .bind(column(consultants(), |consultant| consultant.subject.as_deref()))
    .bind(column(consultants(), |consultant| consultant.active))
    .bind(column(consultants(), |consultant| consultant.version))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
