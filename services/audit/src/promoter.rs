//! Judges misses: an id that a caller did not find, and that is another tenant's, is an attempt across tenants.
//!
//! Invariant: each side is written in a transaction of its own tenant, and the miss is forgotten after both; whatever
//! ends in between is done again and changes nothing more.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::ctx::Clock;
use kit::db::ExemptDb;
use kit::error::chain;
use kit::tasks::Tasks;
use kit::{Db, TenantId};
use time::OffsetDateTime;

use crate::attempt::{Attempt, SERVICE};
use crate::error::Error;
use crate::flood::Sighting;
use crate::happening::Happening;
use crate::record::Log;
use crate::recorder::{Recorder, keep_offenders};
use crate::rules::offender_key;
use crate::store;

/// Attempts written at once.
const BATCH: i64 = 500;
/// How long a miss is looked at again: the registry trails the events.
const PATIENCE: time::Duration = time::Duration::seconds(60);
/// Misses that are looked at when something was appended; each second looks at all.
const RECENT: time::Duration = time::Duration::seconds(2);
/// Between two looks that were asked for: what comes in a burst is judged together.
const BREATH: Duration = Duration::from_millis(50);

/// The task. Replicas may run it side by side.
pub(crate) struct Promoter {
    pub(crate) exempt: ExemptDb,
    pub(crate) db: Db,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

impl Promoter {
    /// Runs until the process stops.
    pub(crate) async fn run(self) {
        let mut appended = self.recorder.listen();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                () = self.tasks.stopping() => return,
                _ = second.tick() => self.promote_and_expire().await,
                Ok(()) = appended.changed() => {
                    self.tasks.pause(BREATH).await;
                    self.promote(self.clock.now() - RECENT).await
                }
            };
            if let Err(error) = outcome {
                tracing::warn!(error = %chain(&error), "misses could not be judged and will be again");
                self.tasks.pause(Duration::from_secs(1)).await;
            }
        }
    }

    async fn promote_and_expire(&self) -> Result<(), Error> {
        self.promote(OffsetDateTime::UNIX_EPOCH).await?;
        let mut tx = self.exempt.begin().await?;
        store::attempts::expire(&mut tx, self.clock.now() - PATIENCE).await?;
        Ok(tx.commit().await?)
    }

    /// Writes every attempt that is found among misses received since then, the oldest first.
    #[tracing::instrument(name = "audit.promote", skip_all)]
    async fn promote(&self, since: OffsetDateTime) -> Result<(), Error> {
        loop {
            let attempts =
                store::attempts::list(&mut self.exempt.reader().await?, since, BATCH).await?;
            if attempts.is_empty() {
                return Ok(());
            }
            // The offender's record first: whoever reads the victim's alert can look it up.
            for (tenant, group) in grouped(&attempts, |attempt| attempt.offender) {
                self.write(tenant, &group, Log::Operator).await?;
            }
            for (tenant, group) in grouped(&attempts, |attempt| attempt.victim) {
                self.write(tenant, &group, Log::Tenant).await?;
            }
            let mut tx = self.exempt.begin().await?;
            store::attempts::forget(&mut tx, &attempts).await?;
            tx.commit().await?;
            self.recorder.committed();
        }
    }

    /// Writes one side of attempts, those of them that are not written yet.
    async fn write(&self, tenant: TenantId, attempts: &[&Attempt], log: Log) -> Result<(), Error> {
        let ctx = self.exempt.ctx_for(tenant, SERVICE, self.clock.clone());
        let mut tx = self.db.begin(&ctx).await?;
        let ids: Vec<_> = attempts.iter().map(|attempt| attempt.event_id()).collect();
        let fresh = store::attempts::claim(&mut tx, &ids).await?;
        let fresh: Vec<&Attempt> = attempts
            .iter()
            .copied()
            .filter(|attempt| fresh.contains(&attempt.event_id()))
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let happenings: Vec<Happening> = fresh
            .iter()
            .map(|attempt| Happening::of_attempt(attempt))
            .collect();
        let sightings = fresh.iter().zip(&happenings).map(|(attempt, happening)| {
            let id = ctx.clock().new_uuid();
            let entry = match log {
                Log::Operator => attempt.offenders_entry(id),
                Log::Tenant => attempt.victims_entry(id),
            };
            let happening = happening.clone();
            Sighting { happening, entry }
        });
        self.recorder
            .append_sifted(&ctx, &mut tx, log, sightings.collect())
            .await?;
        match log {
            // The victim's rows name nobody: who the offender is, is kept in its own tenant.
            Log::Operator => {
                let offenders = happenings.iter().map(|it| (offender_key(it), &it.actor));
                keep_offenders(&mut tx, offenders).await?;
            }
            Log::Tenant => {
                self.recorder
                    .alert(&ctx, &mut tx, &happenings, false)
                    .await?;
            }
        }
        Ok(tx.commit().await?)
    }
}

fn grouped(
    attempts: &[Attempt],
    by: impl Fn(&Attempt) -> TenantId,
) -> BTreeMap<TenantId, Vec<&Attempt>> {
    let mut groups: BTreeMap<TenantId, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        groups.entry(by(attempt)).or_default().push(attempt);
    }
    groups
}
