//! Rows of references to consultants.

use kit::Tx;
use sqlx::FromRow;

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;

#[derive(FromRow)]
struct Row {
    id: ConsultantId,
    code: String,
    display_name: String,
    active: bool,
    version: i64,
}

impl From<Row> for Consultant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            code: row.code,
            display_name: row.display_name,
            active: row.active,
            version: row.version,
        }
    }
}

/// Reads a reference and keeps it as it is until the transaction ends.
#[tracing::instrument(name = "db.consultant.share", skip_all, fields(consultant.id = %id))]
pub(crate) async fn share(tx: &mut Tx, id: ConsultantId) -> Result<Consultant, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, code, display_name, active, version \
         from projects.consultant where tenant_id = $1 and id = $2 for share",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Consultant::from)
        .ok_or(Error::ConsultantNotFound(id))
}

/// Stores references, each consultant at most once among them; a row that is as new or newer stays as it is.
#[tracing::instrument(name = "db.consultant.upsert", skip_all)]
pub(crate) async fn upsert(tx: &mut Tx, consultants: &[Consultant]) -> Result<(), Error> {
    sqlx::query(
        "insert into projects.consultant as known (tenant_id, id, code, display_name, active, version) \
         select $1, told.id, told.code, told.display_name, told.active, told.version \
         from unnest($2::uuid[], $3::text[], $4::text[], $5::boolean[], $6::bigint[]) \
              as told (id, code, display_name, active, version) \
         on conflict (tenant_id, id) do update set \
             code = excluded.code, display_name = excluded.display_name, active = excluded.active, \
             version = excluded.version \
         where excluded.version > known.version",
    )
    .bind(tx.tenant().uuid())
    .bind(column(consultants, |consultant| consultant.id))
    .bind(column(consultants, |consultant| consultant.code.as_str()))
    .bind(column(consultants, |consultant| consultant.display_name.as_str()))
    .bind(column(consultants, |consultant| consultant.active))
    .bind(column(consultants, |consultant| consultant.version))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn column<'a, T>(consultants: &'a [Consultant], field: impl Fn(&'a Consultant) -> T) -> Vec<T> {
    consultants.iter().map(field).collect()
}
