//! Ends the windows of floods: what a window counted becomes one record of its log.
//!
//! Invariant: the record is appended and the window removed in one transaction, under the lock of the log.

use std::time::Duration;

use kit::ctx::Clock;
use kit::db::ExemptDb;
use kit::error::chain;
use kit::tasks::Tasks;
use kit::{Db, TenantId};

use crate::attempt::SERVICE;
use crate::error::Error;
use crate::flood::Limits;
use crate::record::Log;
use crate::recorder::Recorder;
use crate::store;

/// The task. Replicas may run it side by side.
pub(crate) struct Sweeper {
    pub(crate) exempt: ExemptDb,
    pub(crate) db: Db,
    pub(crate) recorder: Recorder,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

impl Sweeper {
    /// Runs until the process stops.
    pub(crate) async fn run(self) {
        while self.tasks.pause(Duration::from_secs(1)).await {
            if let Err(error) = self.sweep().await {
                tracing::warn!(error = %chain(&error), "windows of floods could not be ended and will be again");
            }
        }
    }

    #[tracing::instrument(name = "audit.sweep", skip_all)]
    async fn sweep(&self) -> Result<(), Error> {
        let before = self.clock.now() - self.limits.window;
        let logs = store::floods::logs_with_over(&mut self.exempt.reader().await?, before).await?;
        for (tenant, log) in logs {
            self.end(tenant, log).await?;
        }
        store::counters::expire(&mut self.exempt.reader().await?, self.clock.now()).await
    }

    async fn end(&self, tenant: TenantId, log: Log) -> Result<(), Error> {
        let ctx = self.exempt.ctx_for(tenant, SERVICE, self.clock.clone());
        let mut tx = self.db.begin(&ctx).await?;
        store::log::lock(&mut tx, log).await?;
        let before = ctx.now() - self.limits.window;
        let over = store::floods::take_over(&mut tx, log, before).await?;
        let aggregates: Vec<_> = over
            .iter()
            .filter_map(|window| window.aggregate(ctx.clock().new_uuid()))
            .collect();
        let wrote = !aggregates.is_empty();
        if wrote {
            self.recorder.append(&ctx, &mut tx, log, aggregates).await?;
        }
        tx.commit().await?;
        if wrote {
            self.recorder.committed();
        }
        Ok(())
    }
}
