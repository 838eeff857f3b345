//! What differed at first sight, until it agrees or has differed for as long as an event may be on its way.
//!
//! Invariant: only so many are kept; when there are more, those that agree by now make room, and the others are counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::compare::look_again;
use super::judge::Departure;
use crate::reach::{Reach, Tenant};

/// How long an event may be on its way from the outbox to the log.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// Aggregates that are looked at again at once.
const PIECE: usize = 500;
/// How many are kept to be looked at again and told; where there are more, something is wrong at large.
const KEPT: usize = 10_000;

/// An aggregate that differs.
struct Suspect {
    departure: Departure,
    /// Since when it has been seen like that.
    seen: Instant,
    /// An event of it was in an outbox when it was last looked at.
    waits: bool,
}

/// Those of all tenants.
#[derive(Default)]
pub(super) struct Suspects {
    /// By the place of their tenant.
    kept: BTreeMap<usize, Vec<Suspect>>,
    is_full: bool,
    /// How many differed for which there was no room; they were not looked at again.
    pub(super) more: u64,
    /// How many were still moving at the end.
    pub(super) on_their_way: u64,
}

impl Suspects {
    /// Adds one of the tenant at `place`.
    pub(super) async fn add(
        &mut self,
        reach: &Reach,
        tenants: &[Tenant],
        place: usize,
        departure: Departure,
    ) -> anyhow::Result<()> {
        if !self.is_full && self.len() >= KEPT {
            self.look(reach, tenants).await?;
            self.is_full = self.len() >= KEPT / 2;
        }
        if self.is_full {
            self.more += 1;
            return Ok(());
        }
        let suspect = Suspect {
            departure,
            seen: Instant::now(),
            waits: false,
        };
        self.kept.entry(place).or_default().push(suspect);
        Ok(())
    }

    fn len(&self) -> usize {
        self.kept.values().map(Vec::len).sum()
    }

    /// Looks until each agrees, or has stayed as it is for long enough. What still moves at the end is on its way.
    /// Those that remain, each with the place of its tenant.
    pub(super) async fn settle(
        &mut self,
        reach: &Reach,
        tenants: &[Tenant],
    ) -> anyhow::Result<Vec<(usize, Departure)>> {
        let began = Instant::now();
        let mut departures = Vec::new();
        loop {
            self.look(reach, tenants).await?;
            let is_over = began.elapsed() > PATIENCE + PAUSE * 3;
            for (place, group) in std::mem::take(&mut self.kept) {
                for suspect in group {
                    if suspect.seen.elapsed() >= PATIENCE && !suspect.waits {
                        departures.push((place, suspect.departure));
                    } else if is_over {
                        self.on_their_way += 1;
                    } else {
                        self.kept.entry(place).or_default().push(suspect);
                    }
                }
            }
            if self.kept.is_empty() {
                return Ok(departures);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One look at all of them: those that agree go.
    async fn look(&mut self, reach: &Reach, tenants: &[Tenant]) -> anyhow::Result<()> {
        for (place, group) in std::mem::take(&mut self.kept) {
            let Some(tenant) = tenants.get(place) else {
                continue;
            };
            for piece in group.chunks(PIECE) {
                let ids: Vec<Uuid> = piece.iter().map(|it| it.departure.id).collect();
                let (still, waiting) = look_again(reach, tenant, &ids).await?;
                let still = still.into_iter().map(|departure| {
                    // What has moved since is as new.
                    let same = piece.iter().find(|it| it.departure == departure);
                    Suspect {
                        seen: same.map_or_else(Instant::now, |same| same.seen),
                        waits: waiting.contains(&departure.id),
                        departure,
                    }
                });
                self.kept.entry(place).or_default().extend(still);
            }
        }
        self.kept.retain(|_, group| !group.is_empty());
        Ok(())
    }
}
