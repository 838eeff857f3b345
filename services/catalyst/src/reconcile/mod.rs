//! `catalyst events reconcile`: whether every change of every aggregate is on record, and every record's row there.
//!
//! Invariant: what is told was seen twice and had not moved, the second time at least as long after the first as an event
//! may be on its way, and nothing of it waited in an outbox then.

mod compare;
mod judge;
mod suspects;

use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use crate::client::ClientOptions;
use crate::client::output::{Output, note};
use crate::reach::{Reach, Tenant};
use crate::servers::ServerOptions;
use compare::Comparison;
use judge::Departure;
use suspects::Suspects;

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

/// What was found of all.
#[derive(Default)]
struct Findings {
    tenants: usize,
    aggregates: u64,
    suspects: Suspects,
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
        for place in 0..tenants.len() {
            findings.compare(&reach, &tenants, place, &bar).await?;
        }
        bar.set_message("looking again at what differs");
        let departures = findings.suspects.settle(&reach, &tenants).await?;
        bar.finish_and_clear();
        findings.show(&tenants, &departures, out)?;
        match u64::try_from(departures.len())? + findings.suspects.more {
            0 => Ok(()),
            count => Err(Departed(count).into()),
        }
    }
}

impl Findings {
    async fn compare(
        &mut self,
        reach: &Reach,
        tenants: &[Tenant],
        place: usize,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let Some(tenant) = tenants.get(place) else {
            return Ok(());
        };
        let mut aggregates = Comparison::new(reach, tenant);
        while let Some(judged) = aggregates.next().await? {
            self.aggregates += 1;
            if self.aggregates.is_multiple_of(1_000) {
                let count = self.aggregates;
                bar.set_message(format!("{count} aggregates compared, now {}", tenant.name));
            }
            let Some(departure) = judged else { continue };
            let adding = self.suspects.add(reach, tenants, place, departure);
            adding.await?;
        }
        Ok(())
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
                "sound": departures.is_empty() && self.suspects.more == 0,
                "tenants": self.tenants,
                "aggregates": self.aggregates,
                "departures": departures.len(),
                "departuresNotTold": self.suspects.more,
                "onTheirWay": self.suspects.on_their_way,
            }));
        }
        if !departures.is_empty() {
            let columns = ["tenant", "aggregate", "id", "version", "recorded", "found"];
            out.table(&columns, named.map(|(tenant, it)| cells(tenant, it)))?;
        }
        if self.suspects.more > 0 {
            note(&format!(
                "{} more differ and were not looked at again: mend these, then run it again",
                self.suspects.more
            ));
        }
        out.line(&format!(
            "{} aggregates of {} tenants compared: {} departures, {} on their way",
            self.aggregates,
            self.tenants,
            departures.len(),
            self.suspects.on_their_way
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
