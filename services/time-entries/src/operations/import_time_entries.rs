//! Records a chunk of entries that were worked elsewhere.
//!
//! Invariant: whether a row gets in is decided by the constraints as it is written, never by a read before, so that
//! imports side by side and chunks sent twice store each row once.

use std::collections::{HashMap, HashSet};

use kit::{Ctx, Db};
use proto::common::v1::ErrorReason;

use crate::error::Error;
use crate::import::{Chunk, Outcome, OverlapPolicy, Rejection, admit};
use crate::owners::Owners;
use crate::reference::Named;
use crate::time_entry::TimeEntry;
use crate::{events, store};

/// How often a chunk that collided with another writer is tried in all.
const ATTEMPTS: usize = 5;

/// What became of a chunk.
pub(crate) struct Imported {
    /// One for each row, in their order.
    pub(crate) outcomes: Vec<Outcome>,
    /// What rows named and nobody knows.
    pub(crate) missing: Named,
}

/// Emits `TimeEntryCreated` for each row that was stored. What is returned is durable.
#[tracing::instrument(name = "time_entries.import_time_entries", skip_all, fields(rows = chunk.rows.len()))]
pub(crate) async fn import_time_entries(
    ctx: &Ctx,
    db: &Db,
    owners: &Owners,
    chunk: &Chunk,
) -> Result<Imported, Error> {
    let mut attempt = 1;
    loop {
        match import_once(ctx, db, owners, chunk).await {
            // A single call wrote what the chunk conflicts with at the same moment: the database ended this one.
            Err(Error::Kit(kit::Error::Collision(_))) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn import_once(
    ctx: &Ctx,
    db: &Db,
    owners: &Owners,
    chunk: &Chunk,
) -> Result<Imported, Error> {
    let named = chunk.named();
    let (mut tx, known) = owners.begin(ctx, db, &named).await?;
    let now = ctx.now();
    let rows: Vec<Result<TimeEntry, Rejection>> = chunk
        .rows
        .iter()
        .map(|row| admit(ctx.new_id(), row.clone(), &known, now))
        .collect();

    let entries: Vec<&TimeEntry> = rows.iter().flatten().collect();
    store::import::in_turn(&mut tx).await?;
    let stored = store::import::insert_all(&mut tx, &entries, false).await?;
    let mut left: Vec<&TimeEntry> = entries
        .into_iter()
        .filter(|entry| !stored.contains(&entry.id))
        .collect();
    let mut kept = HashSet::new();
    if chunk.policy == OverlapPolicy::Keep && !left.is_empty() {
        // A kept entry is outside the rule of overlaps: what is left out again has a taken external id.
        kept = store::import::insert_all(&mut tx, &left, true).await?;
        left.retain(|entry| !kept.contains(&entry.id));
    }
    let mut taken = HashMap::new();
    if !left.is_empty() {
        let external_ids: Vec<&str> = left
            .iter()
            .filter_map(|entry| entry.external_id.as_deref())
            .collect();
        taken = store::import::find_by_external_id(&mut tx, &external_ids).await?;
    }

    let mut outcomes = Vec::with_capacity(rows.len());
    for row in rows {
        outcomes.push(match row {
            Err(rejection) => Outcome::Rejected(rejection),
            Ok(entry) if stored.contains(&entry.id) => {
                tx.emit(events::created(ctx, &entry));
                Outcome::Created(entry.id)
            }
            Ok(entry) if kept.contains(&entry.id) => {
                let entry = TimeEntry {
                    overlap_kept: true,
                    ..entry
                };
                tx.emit(events::created(ctx, &entry));
                Outcome::CreatedOverlapping(entry.id)
            }
            Ok(entry) => match entry.external_id.and_then(|key| taken.get(&key)) {
                Some(first) => Outcome::AlreadyExists(*first),
                None => Outcome::Rejected(Rejection::new(
                    ErrorReason::TimeEntryOverlaps,
                    "the consultant has another time entry that overlaps this one",
                )),
            },
        });
    }
    tx.commit().await?;
    Ok(Imported {
        outcomes,
        missing: named.unknown_to(&known),
    })
}
