//! Makes the tenant directory whole again: what the bucket lacks or has in an older version is written from the rows.
//!
//! Events tell the directory of each change once. A bucket that was lost, or restored from an older copy, would stay
//! behind for ever, and its tenants refused or let in wrongly.

use std::sync::Arc;
use std::time::Duration;

use kit::kit::Kit;
use proto::tenants::v1::TenantDirectoryEntry;
use uuid::Uuid;

use crate::directory::Writer;
use crate::error::Error;
use crate::tenant::{FirmId, Tenant};
use crate::{events, store};

/// How long an entry may be missing.
const EVERY: Duration = Duration::from_secs(15);
/// Tenants compared at once.
const PAGE: i64 = 500;

/// Compares and writes, at once and then again and again, until the process stops.
pub(crate) async fn run(kit: Kit, writer: Arc<Writer>) {
    loop {
        if let Err(error) = refill(&kit, &writer).await {
            tracing::warn!(error = %kit::error::chain(&error), "the tenant directory was not compared with the tenants");
        }
        if !kit.tasks.pause(EVERY).await {
            return;
        }
    }
}

async fn refill(kit: &Kit, writer: &Writer) -> Result<(), Error> {
    let ctx = kit.platform(crate::DEFINITION.name);
    let mut after = FirmId::new(Uuid::nil());
    loop {
        let mut tx = kit.db.begin(&ctx).await?;
        let tenants = store::list(&mut tx, None, after, PAGE).await?;
        tx.commit().await?;
        let Some(last) = tenants.last() else {
            return Ok(());
        };
        after = last.id;
        writer
            .write_all(tenants.iter().map(entry).collect())
            .await?;
    }
}

fn entry(tenant: &Tenant) -> TenantDirectoryEntry {
    TenantDirectoryEntry {
        tenant_id: tenant.id.to_string(),
        state: events::state(tenant).into(),
        version: tenant.version,
        plan: events::plan(tenant.plan).into(),
        cell: tenant.placement.cell.to_string(),
        placement_epoch: tenant.placement.epoch,
    }
}
