//! Aggregates: which tables of a service hold them, and the last version of each, whether it is still there or not.
//!
//! Invariant: an aggregate that was committed has a row or a tombstone with the version of its last event.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::Error;
use crate::db::{Tx, schema_sql};
use crate::ids::TenantId;
use crate::session::Session;

/// A table with a row for each aggregate of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate {
    /// Without its schema. It is the kind's noun as well, under which the audit log keeps the events.
    pub table: &'static str,
    /// The version of a row's last event: its column, or an expression of SQL over the row.
    pub version: &'static str,
}

/// What is left of deleted aggregates, in every schema.
pub const TOMBSTONES: Aggregate = Aggregate {
    table: "tombstone",
    version: "version",
};

impl Aggregate {
    /// Ids after `after` with their versions, in the order of ids, of the transaction's tenant.
    pub async fn list(
        &self,
        tx: &mut Tx,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<(Uuid, i64)>, Error> {
        let Self { table, version } = self;
        let schema = tx.sql().schema();
        let sql = format!(
            "select id, ({version})::bigint from {schema}.{table} \
             where tenant_id = $1 and id > $2 order by id limit $3"
        );
        let rows = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tx.tenant().uuid())
            .bind(after)
            .bind(limit);
        Ok(rows.fetch_all(&mut **tx).await?)
    }

    /// Those of `ids` that are there, with their versions.
    pub async fn get(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Error> {
        let Self { table, version } = self;
        let schema = tx.sql().schema();
        // A look into the key for each id: for a list of ids all rows of the tenant would be read where those of most
        // tenants are few.
        let sql = format!(
            "select r.id, r.last from unnest($2::uuid[]) as wanted (id) cross join lateral ( \
                 select id, ({version})::bigint as last from {schema}.{table} \
                 where tenant_id = $1 and id = wanted.id limit 1 \
             ) r"
        );
        let rows = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tx.tenant().uuid())
            .bind(ids);
        Ok(rows.fetch_all(&mut **tx).await?)
    }
}

impl Tx {
    /// Keeps the version of an aggregate's last event, in the transaction that deletes its row.
    pub async fn bury(&mut self, id: Uuid, version: i64) -> Result<(), Error> {
        let sql = self.sql();
        sqlx::query(schema_sql(&sql.bury))
            .bind(self.tenant().uuid())
            .bind(id)
            .bind(version)
            .execute(&mut **self)
            .await?;
        Ok(())
    }
}

/// Those of `ids` that have an event in the outbox of `schema`; for a session of its relay's role.
pub async fn waiting(
    session: &mut Session,
    schema: &'static str,
    tenant: TenantId,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    let sql = format!(
        "select distinct aggregate_id from {schema}.outbox where tenant_id = $1 and aggregate_id = any($2)"
    );
    let waiting = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(tenant.uuid())
        .bind(ids);
    Ok(waiting.fetch_all(session).await?)
}
