//! `catalyst events rebuild`: what the stream of domain events has lost, published again from the audit records.
//!
//! Invariant: an event goes the way that it went first, through the outbox of the service that emitted it, with the id,
//! envelope and body that were recorded; so this needs no right to publish, and nothing is lost when it is interrupted.

mod held;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use audit::history;
use indicatif::ProgressBar;
use kit::again::{self, Places};
use kit::bus::Bus;
use kit::events::Event;
use kit::host::StartError;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::ClientOptions;
use crate::client::output::{Output, note};
use crate::reach::{Reach, Service, Tenant};
use crate::servers::ServerOptions;

/// Records that are read at once, and the most events that one transaction writes.
const PIECE: i64 = 1_000;
/// Events that may wait in one outbox before more are written.
const WAITING: i64 = 20_000;
/// How long an outbox may stand still until nobody is thought to move it.
const STILL: Duration = Duration::from_secs(5);
/// Between two looks at an outbox.
const PAUSE: Duration = Duration::from_millis(200);

/// What is rebuilt.
#[derive(Debug, clap::Args)]
pub(crate) struct RebuildOptions {
    /// Only say what is missing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    servers: ServerOptions,
}

/// Events of one tenant, or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// In the stream.
    held: u64,
    /// In the log.
    recorded: u64,
    /// In the log and not in the stream.
    missing: u64,
    /// Written into outboxes; those that waited there already are not.
    written: u64,
}

/// A run.
struct Rebuild {
    reach: Reach,
    stream: async_nats::jetstream::stream::Stream,
    places: Places,
    dry_run: bool,
    bar: ProgressBar,
    /// Nobody moves the outboxes now: there is no use in waiting for room.
    is_still: bool,
}

impl RebuildOptions {
    /// Writes what is missing and waits until it is published.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let reach = Reach::open(&self.servers.find_database(client)?)?;
        let brokers = self.servers.find_brokers(client)?;
        let bus = Bus::connect(&brokers, "migrator").await;
        let stream = held::stream(&bus.map_err(StartError::from)?).await?;
        // Before the stream is read: what is recorded by then was in it.
        let tenants = reach.tenants(client.named_tenant()).await?;
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut rebuild = Rebuild {
            places: Places::new(&reach.clock),
            reach,
            stream,
            dry_run: self.dry_run,
            bar,
            is_still: false,
        };
        let mut tallies = Vec::with_capacity(tenants.len());
        for tenant in &tenants {
            let tally = rebuild.tenant(tenant).await;
            let tally = tally.with_context(|| format!("the tenant {}", tenant.name))?;
            tallies.push((tenant, tally));
        }
        if !self.dry_run {
            rebuild.published().await?;
        }
        rebuild.bar.finish_and_clear();
        show(&tallies, out)
    }
}

impl Rebuild {
    async fn tenant(&mut self, tenant: &Tenant) -> anyhow::Result<Tally> {
        let held = held::ids(&self.stream, tenant.id).await?;
        let mut tally = Tally {
            held: u64::try_from(held.len())?,
            ..Tally::default()
        };
        let mut after = 0;
        while after < tenant.last_record {
            let last = tenant.last_record.min(after + PIECE);
            let mut log = self.reach.log.reader().await?;
            let events = history::events(&mut log, tenant.id, after, last).await?;
            drop(log);
            after = last;
            self.piece(tenant, &held, events, &mut tally).await?;
            self.bar.set_message(format!(
                "{}: {after} of {} records read, {} events missing",
                tenant.name, tenant.last_record, tally.missing
            ));
        }
        Ok(tally)
    }

    /// Writes those of the events that the stream does not hold, in their order for each service.
    async fn piece(
        &mut self,
        tenant: &Tenant,
        held: &HashSet<Uuid>,
        events: Vec<Event>,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        tally.recorded += u64::try_from(events.len())?;
        let mut missing: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in events.into_iter().filter(|event| !held.contains(&event.id)) {
            tally.missing += 1;
            missing.entry(event.noun.clone()).or_default().push(event);
        }
        if self.dry_run {
            return Ok(());
        }
        for (noun, events) in missing {
            let service = self.reach.service(&noun, &tenant.cell).with_context(|| {
                format!("events of {noun} are recorded, which is no service of this program")
            })?;
            let mut tx = self.reach.begin(service, tenant.id).await?;
            tally.written += tx.emit_again(&mut self.places, &events).await?;
            tx.commit().await?;
            if !self.is_still {
                self.is_still = !has_room(service).await?;
            }
        }
        Ok(())
    }

    /// Waits until nothing that was written again is in an outbox.
    async fn published(&self) -> anyhow::Result<()> {
        let mut last = i64::MAX;
        let mut moved = Instant::now();
        loop {
            let mut waiting = 0;
            for service in self.reach.services() {
                waiting += waits(service).await?;
            }
            if waiting == 0 {
                return Ok(());
            }
            if waiting < last {
                (last, moved) = (waiting, Instant::now());
            } else if moved.elapsed() > STILL {
                note(
                    "events wait in the outboxes and nobody publishes them: start the services; all is kept meanwhile",
                );
                moved = Instant::now() + STILL * 12;
            }
            self.bar
                .set_message(format!("{waiting} events wait to be published"));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits for room in a service's outbox; false when nobody makes any.
async fn has_room(service: &Service) -> anyhow::Result<bool> {
    let mut last = i64::MAX;
    let mut moved = Instant::now();
    loop {
        let waiting = waits(service).await?;
        if waiting < WAITING {
            return Ok(true);
        }
        if waiting < last {
            (last, moved) = (waiting, Instant::now());
        } else if moved.elapsed() > STILL {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How many events that were written again wait in a service's outbox.
async fn waits(service: &Service) -> anyhow::Result<i64> {
    let mut relay = service.relay.reader().await?;
    Ok(again::waiting(&mut relay, service.definition.schema).await?)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.held += other.held;
        self.recorded += other.recorded;
        self.missing += other.missing;
        self.written += other.written;
    }

    fn json(self) -> Value {
        json!({
            "held": self.held,
            "recorded": self.recorded,
            "missing": self.missing,
            "written": self.written,
        })
    }
}

/// Each tenant of which something was missing, then all.
fn show(tallies: &[(&Tenant, Tally)], out: &Output) -> anyhow::Result<()> {
    let mut all = Tally::default();
    for (_, tally) in tallies {
        all.add(*tally);
    }
    let told = tallies.iter().filter(|(_, tally)| tally.missing > 0);
    if out.is_json() {
        for (tenant, tally) in told {
            let mut line = tally.json();
            if let Value::Object(fields) = &mut line {
                fields.insert("tenantId".to_owned(), tenant.id.to_string().into());
                fields.insert("tenant".to_owned(), tenant.name.clone().into());
            }
            out.json(&line)?;
        }
        let mut line = all.json();
        if let Value::Object(fields) = &mut line {
            fields.insert("tenants".to_owned(), tallies.len().into());
        }
        return out.json(&line);
    }
    if all.missing > 0 {
        let rows = told.map(|(tenant, tally)| {
            let counts = [tally.held, tally.recorded, tally.missing, tally.written];
            let mut cells = vec![tenant.name.clone()];
            cells.extend(counts.iter().map(ToString::to_string));
            cells
        });
        let columns = ["tenant", "in the stream", "recorded", "missing", "written"];
        out.table(&columns, rows)?;
    }
    out.line(&format!(
        "{} events of {} tenants were in the stream, {} are recorded: {} were missing, {} written again",
        all.held,
        tallies.len(),
        all.recorded,
        all.missing,
        all.written
    ))
}
