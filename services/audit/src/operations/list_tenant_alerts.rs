//! Lists the alerts of all tenants for the operator, newest first.

use kit::TenantId;
use kit::db::ExemptDb;
use kit::page::Page;
use uuid::Uuid;

use crate::alert::{AlertId, Filter};
use crate::error::Error;
use crate::store;
use crate::store::alerts::OperatorAlert;

/// One row more than the page holds, to know whether another page follows.
#[tracing::instrument(name = "audit.list_tenant_alerts", skip_all)]
pub(crate) async fn list_tenant_alerts(
    db: &ExemptDb,
    tenant: Option<TenantId>,
    filter: &Filter,
    page: &Page<Uuid>,
) -> Result<Vec<OperatorAlert>, Error> {
    let mut tx = db.begin().await?;
    let before = AlertId::new(page.after.unwrap_or(Uuid::max()));
    store::alerts::list_of_all(&mut tx, tenant, filter, before, page.limit()).await
}
