//! Lists the records of all tenants for the operator, what the tenants themselves may not read included.

use kit::TenantId;
use kit::db::ExemptDb;
use kit::page::Page;

use crate::error::Error;
use crate::record::Filter;
use crate::store;
use crate::store::records::{OperatorPosition, OperatorRecord};

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "audit.list_tenant_records", skip_all)]
pub(crate) async fn list_tenant_records(
    db: &ExemptDb,
    tenant: Option<TenantId>,
    filter: &Filter,
    page: &Page<OperatorPosition>,
) -> Result<Vec<OperatorRecord>, Error> {
    let mut tx = db.begin().await?;
    store::records::list_of_all(
        &mut tx,
        tenant,
        filter,
        page.after.unwrap_or_default(),
        page.limit(),
    )
    .await
}
