//! Rows of clients.

use kit::Tx;
use sqlx::FromRow;
use time::OffsetDateTime;

use crate::client::{Client, ClientId, Profile};
use crate::error::Error;

#[derive(FromRow)]
struct Row {
    id: ClientId,
    code: String,
    display_name: String,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Client {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            profile: Profile {
                code: row.code,
                display_name: row.display_name,
            },
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[tracing::instrument(name = "db.client.insert", skip_all, fields(client.id = %client.id))]
pub(crate) async fn insert(tx: &mut Tx, client: &Client) -> Result<(), Error> {
    sqlx::query(
        "insert into projects.client (tenant_id, id, code, display_name, version, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tx.tenant().uuid())
    .bind(client.id)
    .bind(&client.profile.code)
    .bind(&client.profile.display_name)
    .bind(client.version)
    .bind(client.created_at)
    .bind(client.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.client.get", skip_all, fields(client.id = %id))]
pub(crate) async fn get(tx: &mut Tx, id: ClientId) -> Result<Client, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, code, display_name, version, created_at, updated_at \
         from projects.client where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Client::from).ok_or(Error::ClientNotFound(id))
}

/// Reads and locks a client: the lock orders the events of one aggregate, and no new project waits for it.
#[tracing::instrument(name = "db.client.lock", skip_all, fields(client.id = %id))]
pub(crate) async fn lock(tx: &mut Tx, id: ClientId) -> Result<Client, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, code, display_name, version, created_at, updated_at \
         from projects.client where tenant_id = $1 and id = $2 for no key update",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Client::from).ok_or(Error::ClientNotFound(id))
}

/// Clients after `after` in the order of creation.
#[tracing::instrument(name = "db.client.list", skip_all)]
pub(crate) async fn list(tx: &mut Tx, after: ClientId, limit: i64) -> Result<Vec<Client>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, code, display_name, version, created_at, updated_at \
         from projects.client where tenant_id = $1 and id > $2 order by id limit $3",
    )
    .bind(tx.tenant().uuid())
    .bind(after)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Client::from).collect())
}

#[tracing::instrument(name = "db.client.update", skip_all, fields(client.id = %client.id))]
pub(crate) async fn update(tx: &mut Tx, client: &Client) -> Result<(), Error> {
    sqlx::query(
        "update projects.client set code = $3, display_name = $4, version = $5, updated_at = $6 \
         where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(client.id)
    .bind(&client.profile.code)
    .bind(&client.profile.display_name)
    .bind(client.version)
    .bind(client.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
