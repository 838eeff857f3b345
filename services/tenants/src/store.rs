//! Rows of tenants. Every statement names the tenant that owns them, the platform; decides nothing.

use kit::cells::CellName;
use kit::money::Currency;
use kit::plan::Plan;
use kit::{TenantId, Tx};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Error;
use crate::tenant::{FirmId, Placement, Profile, Tenant};

#[derive(FromRow)]
struct Row {
    id: FirmId,
    slug: String,
    display_name: String,
    time_zone: String,
    #[sqlx(try_from = "String")]
    currency_code: Currency,
    active: bool,
    #[sqlx(try_from = "String")]
    plan: Plan,
    #[sqlx(try_from = "String")]
    cell: CellName,
    placement_epoch: i64,
    admitted: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Tenant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            profile: Profile {
                slug: row.slug,
                display_name: row.display_name,
                time_zone: row.time_zone,
                currency: row.currency_code,
            },
            active: row.active,
            plan: row.plan,
            placement: Placement {
                cell: row.cell,
                epoch: row.placement_epoch,
                settled: row.admitted,
            },
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[tracing::instrument(name = "db.tenant.insert", skip_all, fields(firm.id = %tenant.id))]
pub(crate) async fn insert(tx: &mut Tx, tenant: &Tenant) -> Result<(), Error> {
    sqlx::query(
        "insert into tenants.tenant \
             (tenant_id, id, slug, display_name, time_zone, currency_code, active, plan, cell, \
              placement_epoch, admitted, version, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(tx.tenant().uuid())
    .bind(tenant.id)
    .bind(&tenant.profile.slug)
    .bind(&tenant.profile.display_name)
    .bind(&tenant.profile.time_zone)
    .bind(tenant.profile.currency.as_str())
    .bind(tenant.active)
    .bind(tenant.plan.name())
    .bind(tenant.placement.cell.as_str())
    .bind(tenant.placement.epoch)
    .bind(tenant.placement.settled)
    .bind(tenant.version)
    .bind(tenant.created_at)
    .bind(tenant.updated_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.tenant.get", skip_all, fields(firm.id = %id))]
pub(crate) async fn get(tx: &mut Tx, id: FirmId) -> Result<Option<Tenant>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, slug, display_name, time_zone, currency_code, active, plan, cell, \
                placement_epoch, admitted, version, created_at, updated_at \
         from tenants.tenant where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(Tenant::from))
}

/// Reads and locks a tenant: the lock orders the events of one aggregate.
#[tracing::instrument(name = "db.tenant.lock", skip_all, fields(firm.id = %id))]
pub(crate) async fn lock(tx: &mut Tx, id: FirmId) -> Result<Tenant, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select id, slug, display_name, time_zone, currency_code, active, plan, cell, \
                placement_epoch, admitted, version, created_at, updated_at \
         from tenants.tenant where tenant_id = $1 and id = $2 for update",
    )
    .bind(tx.tenant().uuid())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Tenant::from).ok_or(Error::NotFound(id))
}

/// Tenants after `after` in the order of creation, in either state or in the given one.
#[tracing::instrument(name = "db.tenant.list", skip_all)]
pub(crate) async fn list(
    tx: &mut Tx,
    active: Option<bool>,
    after: FirmId,
    limit: i64,
) -> Result<Vec<Tenant>, Error> {
    // An optional filter is a statement of its own, so that each has its index.
    let query = match active {
        None => sqlx::query_as(
            "select id, slug, display_name, time_zone, currency_code, active, plan, cell, \
                placement_epoch, admitted, version, created_at, updated_at \
             from tenants.tenant where tenant_id = $1 and id > $2 order by id limit $3",
        )
        .bind(tx.tenant().uuid())
        .bind(after)
        .bind(limit),
        Some(active) => sqlx::query_as(
            "select id, slug, display_name, time_zone, currency_code, active, plan, cell, \
                placement_epoch, admitted, version, created_at, updated_at \
             from tenants.tenant where tenant_id = $1 and id > $2 and active = $4 order by id limit $3",
        )
        .bind(tx.tenant().uuid())
        .bind(after)
        .bind(limit)
        .bind(active),
    };
    let rows: Vec<Row> = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Tenant::from).collect())
}

/// What a command must know of a firm.
#[derive(Clone, Debug)]
pub struct Firm {
    /// Whose rows.
    pub id: TenantId,
    /// Its short name.
    pub slug: String,
    /// Where its rows are.
    pub cell: CellName,
}

/// Every firm, for whoever acts as the platform: hundreds, so all at once.
pub async fn firms(tx: &mut Tx) -> Result<Vec<Firm>, kit::Error> {
    let rows: Vec<(Uuid, String, String)> = sqlx::query_as(
        "select id, slug, cell from tenants.tenant where tenant_id = $1 order by id",
    )
    .bind(tx.tenant().uuid())
    .fetch_all(&mut **tx)
    .await?;
    let firms = rows.into_iter().map(|(id, slug, cell)| {
        let cell = CellName::try_from(cell).map_err(kit::Error::internal)?;
        let id = TenantId::new(id);
        Ok(Firm { id, slug, cell })
    });
    firms.collect()
}

/// Writes what verbs may change: state, plan and placement.
#[tracing::instrument(name = "db.tenant.update", skip_all, fields(firm.id = %tenant.id))]
pub(crate) async fn update(tx: &mut Tx, tenant: &Tenant) -> Result<(), Error> {
    sqlx::query(
        "update tenants.tenant set active = $3, plan = $4, version = $5, updated_at = $6, cell = $7, \
                placement_epoch = $8, admitted = $9 \
         where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant().uuid())
    .bind(tenant.id)
    .bind(tenant.active)
    .bind(tenant.plan.name())
    .bind(tenant.version)
    .bind(tenant.updated_at)
    .bind(tenant.placement.cell.as_str())
    .bind(tenant.placement.epoch)
    .bind(tenant.placement.settled)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kit::TenantId;

    #[test]
    fn the_table_takes_rows_of_the_platform_alone() {
        let migration = include_str!("../migrations/0100_tenant.sql");
        let check = format!(
            "constraint tenant_platform_check check (tenant_id = '{}')",
            TenantId::PLATFORM
        );
        assert!(migration.contains(&check));
    }
}
