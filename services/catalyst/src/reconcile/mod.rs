//! `catalyst events reconcile`: whether every change of every aggregate is on record, and every record's row there.
//!
//! Invariant: what is told was seen twice and had not moved, the second time at least as long after the first as an event
//! may be on its way, and nothing of it waited in an outbox then.

mod compare;
mod judge;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;
use uuid::Uuid;

use crate::client::ClientOptions;
use crate::client::output::{Output, note};
use crate::reach::{Reach, Tenant};
use crate::servers::ServerOptions;
use compare::{Comparison, look_again};
use judge::Departure;

/// How long an event may be on its way from the outbox to the log.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// Aggregates that are looked at again at once.
const PIECE: usize = 500;
/// Departures that are kept to be looked at again and told; where there are more, something is wrong at large.
const KEPT: usize = 10_000;

/// What is compared.
#[derive(Debug, clap::Args)]
pub(crate) struct ReconcileOptions {
    #[command(flatten)]
    servers: ServerOptions,
}

/// Rows and records do not agree.
#[derive(Debug, thiserror::Error)]
#[error("{0} aggregates and their records do not agree; deploy/README.md says what to do")]
pub(crate) struct Departed(u64);

/// An aggregate that does not agree, and since when it has been seen like that.
struct Suspect {
    seen: Instant,
    departure: Departure,
}

/// What was found of all.
#[derive(Default)]
struct Findings {
    tenants: usize,
    aggregates: u64,
    /// By the place of the tenant.
    suspects: BTreeMap<usize, Vec<Suspect>>,
    kept: usize,
    /// Departures beyond those that are kept.
    more: u64,
    on_their_way: u64,
}

impl ReconcileOptions {
    /// Compares and says what was found; a departure is an error.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let reach = Reach::open(&self.servers.find_database(client)?)?;
        let tenants = reach.tenants(client.named_tenant()).await?;
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut findings = Findings {
            tenants: tenants.len(),
            ..Findings::default()
        };
        for (place, tenant) in tenants.iter().enumerate() {
            findings.compare(&reach, place, tenant, &bar).await?;
        }
        bar.set_message("looking again at what differs");
        let departures = findings.settle(&reach, &tenants).await?;
        bar.finish_and_clear();
        findings.show(&tenants, &departures, out)?;
        match u64::try_from(departures.len())? + findings.more {
            0 => Ok(()),
            count => Err(Departed(count).into()),
        }
    }
}

impl Findings {
    async fn compare(
        &mut self,
        reach: &Reach,
        place: usize,
        tenant: &Tenant,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let mut aggregates = Comparison::new(reach, tenant.id);
        while let Some(judged) = aggregates.next().await? {
            self.aggregates += 1;
            if self.aggregates.is_multiple_of(1_000) {
                let count = self.aggregates;
                bar.set_message(format!("{count} aggregates compared, now {}", tenant.name));
            }
            let Some(departure) = judged else { continue };
            if self.kept == KEPT {
                self.more += 1;
                continue;
            }
            self.kept += 1;
            let seen = Instant::now();
            let suspects = self.suspects.entry(place).or_default();
            suspects.push(Suspect { seen, departure });
        }
        Ok(())
    }

    /// Looks at the suspects until each agrees, or has stayed as it is for the time that an event may take. What still
    /// moves at the end is on its way. Those that remain, each with the place of its tenant.
    async fn settle(
        &mut self,
        reach: &Reach,
        tenants: &[Tenant],
    ) -> anyhow::Result<Vec<(usize, Departure)>> {
        let began = Instant::now();
        let mut departures = Vec::new();
        let mut suspects = std::mem::take(&mut self.suspects);
        loop {
            let mut remaining: BTreeMap<usize, Vec<Suspect>> = BTreeMap::new();
            for (place, group) in suspects {
                let Some(tenant) = tenants.get(place) else {
                    continue;
                };
                for piece in group.chunks(PIECE) {
                    let ids: Vec<Uuid> = piece.iter().map(|suspect| suspect.departure.id).collect();
                    let (still, waiting) = look_again(reach, tenant.id, &ids).await?;
                    for departure in still {
                        let known = piece.iter().find(|it| it.departure == departure);
                        let seen = known.map_or_else(Instant::now, |known| known.seen);
                        let is_over = began.elapsed() > PATIENCE + PAUSE * 3;
                        if waiting.contains(&departure.id) || seen.elapsed() < PATIENCE {
                            if is_over {
                                self.on_their_way += 1;
                                continue;
                            }
                            let suspects = remaining.entry(place).or_default();
                            suspects.push(Suspect { seen, departure });
                        } else {
                            departures.push((place, departure));
                        }
                    }
                }
            }
            if remaining.is_empty() {
                return Ok(departures);
            }
            suspects = remaining;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn show(
        &self,
        tenants: &[Tenant],
        departures: &[(usize, Departure)],
        out: &Output,
    ) -> anyhow::Result<()> {
        let named = departures
            .iter()
            .filter_map(|(place, departure)| Some((tenants.get(*place)?, departure)));
        if out.is_json() {
            for (tenant, departure) in named {
                out.json(&json_of(tenant, departure))?;
            }
            return out.json(&json!({
                "sound": departures.is_empty() && self.more == 0,
                "tenants": self.tenants,
                "aggregates": self.aggregates,
                "departures": departures.len(),
                "departuresNotTold": self.more,
                "onTheirWay": self.on_their_way,
            }));
        }
        if !departures.is_empty() {
            let columns = ["tenant", "aggregate", "id", "version", "recorded", "found"];
            out.table(&columns, named.map(|(tenant, it)| cells(tenant, it)))?;
        }
        if self.more > 0 {
            note(&format!(
                "{} more differ and were not looked at again: name single tenants with --tenant",
                self.more
            ));
        }
        out.line(&format!(
            "{} aggregates of {} tenants compared: {} departures, {} on their way",
            self.aggregates,
            self.tenants,
            departures.len(),
            self.on_their_way
        ))
    }
}

fn cells(tenant: &Tenant, departure: &Departure) -> Vec<String> {
    let look = &departure.look;
    let version = match (look.row, look.tombstone) {
        (Some(row), Some(tombstone)) => format!("{}, deleted at {}", row.number, tombstone.number),
        (Some(row), None) => row.number.to_string(),
        (None, Some(tombstone)) => format!("deleted at {}", tombstone.number),
        (None, None) => String::new(),
    };
    let recorded = look.recorded.as_ref().map_or_else(String::new, |recorded| {
        if recorded.versions == recorded.last {
            recorded.last.to_string()
        } else {
            format!("{} of {}", recorded.versions, recorded.last)
        }
    });
    vec![
        tenant.name.clone(),
        look.kind(),
        departure.id.to_string(),
        version,
        recorded,
        departure.fault.to_string(),
    ]
}

fn json_of(tenant: &Tenant, departure: &Departure) -> serde_json::Value {
    let look = &departure.look;
    let recorded = look.recorded.as_ref();
    json!({
        "tenantId": tenant.id.to_string(),
        "tenant": tenant.name,
        "aggregate": look.kind(),
        "id": departure.id,
        "version": look.row.map(|row| row.number),
        "deletedAtVersion": look.tombstone.map(|tombstone| tombstone.number),
        "recordedVersion": recorded.map(|recorded| recorded.last),
        "recordedVersions": recorded.map(|recorded| recorded.versions),
        "code": departure.fault.code(),
        "problem": departure.fault.to_string(),
    })
}
