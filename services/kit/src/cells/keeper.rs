//! Keeps the cells of a service, each with its relays and its writer of refusals. A dedicated one that the folder names is
//! checked, used and watched; one that it no longer names is closed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use super::{Cell, Cells, Dedicated};
use crate::cells::CellName;
use crate::directory::Directory;
use crate::error::chain;
use crate::events::Stream;
use crate::host::Definition;
use crate::outbox::Wake;
use crate::pool::Pool;
use crate::pressure::Pressure;
use crate::relay::Relays;
use crate::room::Room;
use crate::security::{self, Writer};
use crate::settings::{DatabaseSettings, OutboxSettings, SettingsError};
use crate::start::judge;
use crate::tasks::Tasks;
use crate::telemetry::METRICS;
use crate::{bus::Bus, ctx::Clock};

/// Between two looks into the folder.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at a cell.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a cell may take to say that it is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long the check of a cell may take.
const JUDGE_LIMIT: Duration = Duration::from_secs(15);
/// Looks in a row at which a cell that serves says nothing, until it is away: one that is merely slow loses no call.
const SILENCES: u32 = 2;
/// How long a new process waits for the first look at its cells: their tenants are called as soon as it is ready.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Connections of a cell that no tenant has used for this long are closed.
const UNUSED: Duration = Duration::from_mins(1);

/// What the cells of one service are kept with.
pub(crate) struct Keeper {
    pub(crate) settings: DatabaseSettings,
    pub(crate) outbox: OutboxSettings,
    pub(crate) definition: Definition,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

/// What came of the folder.
#[derive(Default)]
struct Found {
    kept: HashMap<CellName, Kept>,
    /// Why others are not kept, by the name of the file.
    faults: BTreeMap<String, String>,
}

/// A cell that is kept.
struct Kept {
    /// Where it is; a cell that moved is another one.
    url: String,
    cell: Arc<Cell>,
    /// Whether it has been looked at once, whatever was found.
    is_seen: Arc<AtomicBool>,
    /// Its relays, its writer and whoever watches it.
    tasks: Tasks,
}

impl Kept {
    fn is_seen(&self) -> bool {
        self.is_seen.load(Ordering::Acquire)
    }
}

impl Keeper {
    /// Keeps the shared cell, which has been checked, and the dedicated ones of a service that has rows in them, until the
    /// process stops; returns when each has been looked at, or soon.
    pub(crate) async fn open(
        self,
        shared: Pool,
        directory: &Directory,
    ) -> Result<Cells, SettingsError> {
        let name = CellName::SHARED;
        let shared = self.attend(name, shared, &self.settings, None, &self.tasks)?;
        let cells = Cells::one(shared);
        if !self.definition.in_cells {
            return Ok(cells);
        }
        let (cells, dedicated) = cells.placed(directory.clone());
        if self.settings.cells.cells_dir.is_none() {
            return Ok(cells);
        }
        let room = Room::new(self.settings.cells.cells_max_connections);
        let mut found = Found::default();
        // A folder that cannot be read keeps the process from starting; later the last known state holds.
        self.look(&dedicated, &room, &mut found)?;
        let begun = Instant::now();
        while begun.elapsed() < FIRST_LOOK && !found.kept.values().all(Kept::is_seen) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            while self.tasks.pause(LOOK).await {
                if let Err(error) = self.look(&dedicated, &room, &mut found) {
                    tracing::warn!(service = self.definition.name, error = %error, "the dedicated cells could not be read; the last known ones hold");
                }
            }
        });
        Ok(cells)
    }

    /// Begins with what is new in the folder, and ends with what has gone from it.
    fn look(
        &self,
        dedicated: &Dedicated,
        room: &Room,
        found: &mut Found,
    ) -> Result<(), SettingsError> {
        let mut wanted = self.settings.dedicated()?;
        found.kept.retain(|name, it| {
            // One whose file has become unusable stays what it was.
            let stays = wanted.faults.contains_key(name.as_str())
                || (wanted.cells.get(name))
                    .is_some_and(|settings| settings.database_url == it.url);
            if !stays {
                let cells = dedicated.cells.write();
                cells.unwrap_or_else(PoisonError::into_inner).remove(name);
                it.tasks.end();
                it.cell.pool.close();
                tracing::info!(service = self.definition.name, cell = %name, "the cell was closed: the folder names it no longer, or with another database");
            }
            stays
        });
        for (name, settings) in wanted.cells {
            if found.kept.contains_key(&name) {
                continue;
            }
            match self.begin(&name, &settings, dedicated, room) {
                Ok(begun) => {
                    let cells = dedicated.cells.write();
                    cells
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(name.clone(), Arc::clone(&begun.cell));
                    found.kept.insert(name, begun);
                }
                Err(error) => {
                    wanted.faults.insert(name.to_string(), error);
                }
            }
        }
        let faults = wanted.faults.into_iter();
        self.tell(
            found,
            faults.map(|(file, it)| (file, it.to_string())).collect(),
        );
        Ok(())
    }

    /// Tells of files that cannot be used, once each.
    fn tell(&self, found: &mut Found, faults: BTreeMap<String, String>) {
        let service = self.definition.name;
        let record = |file: &str, is_away: bool| {
            let labels = [
                KeyValue::new("service", service),
                KeyValue::new("cell", file.to_owned()),
            ];
            METRICS.cell_away.record(u64::from(is_away), &labels);
        };
        for (file, problem) in &faults {
            if found.faults.get(file) != Some(problem) {
                tracing::error!(
                    service,
                    file,
                    error = problem,
                    "the file of a dedicated cell cannot be used; what is known of the cell holds"
                );
            }
        }
        let is_kept = |file: &str| {
            let mut kept = found.kept.keys();
            kept.any(|cell| cell.as_str() == file)
        };
        for file in faults.keys().filter(|file| !is_kept(file)) {
            record(file, true);
        }
        for file in found.faults.keys() {
            if !faults.contains_key(file) && !is_kept(file) {
                record(file, false);
            }
        }
        found.faults = faults;
    }

    /// A dedicated cell, and whoever watches it.
    fn begin(
        &self,
        name: &CellName,
        settings: &DatabaseSettings,
        dedicated: &Dedicated,
        room: &Room,
    ) -> Result<Kept, SettingsError> {
        let definition = self.definition;
        let pool = Pool::within(settings, &format!("{}_app", definition.schema), room)?;
        let tasks = self.tasks.child();
        let directory = Some(&dedicated.directory);
        let attended = self.attend(name.clone(), pool, settings, directory, &tasks);
        let cell = Arc::new(attended.inspect_err(|_| tasks.end())?);
        let is_seen = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_seen);
        tasks.spawn(watch(Arc::clone(&cell), seen, definition, tasks.clone()));
        Ok(Kept {
            url: settings.database_url.clone(),
            cell,
            is_seen,
            tasks,
        })
    }

    /// A cell with its relays and its writer of refusals.
    fn attend(
        &self,
        name: CellName,
        pool: Pool,
        settings: &DatabaseSettings,
        directory: Option<&Directory>,
        tasks: &Tasks,
    ) -> Result<Cell, SettingsError> {
        let definition = &self.definition;
        let pressure = Pressure::new(definition.name, self.outbox.clone());
        let wake = Wake::default();
        let serves = Arc::new(AtomicBool::new(name.is_shared()));
        let writer = Writer::new(pool.clone(), definition.schema, tasks.clone());
        let relays = Relays {
            database: settings,
            cell: &name,
            definition,
            bus: &self.bus,
            clock: &self.clock,
            pressure: &pressure,
            serves: &serves,
            directory,
            tasks,
        };
        relays.start(Stream::Domain, wake.clone())?;
        relays.start(Stream::Security, writer.wake())?;
        let (refusals, entries) = security::queue();
        tasks.spawn(writer.run(entries));
        Ok(Cell {
            name,
            pool,
            wake,
            pressure: Some(pressure),
            refusals,
            serves,
        })
    }
}

/// Looks at a cell again and again: one that answers serves, and one that was away is checked from the beginning.
async fn watch(cell: Arc<Cell>, seen: Arc<AtomicBool>, definition: Definition, tasks: Tasks) {
    let service = definition.name;
    let labels = [
        KeyValue::new("service", service),
        KeyValue::new("cell", cell.name.to_string()),
    ];
    let mut told = None;
    let mut silences = 0;
    loop {
        let found = tokio::select! {
            () = tasks.stopping() => break,
            found = look_at(&cell, &definition) => found,
        };
        silences = if found.is_ok() { 0 } else { silences + 1 };
        if cell.serves() && (1..SILENCES).contains(&silences) {
            tasks.pause(PERIOD).await;
            continue;
        }
        cell.serves.store(found.is_ok(), Ordering::Release);
        seen.store(true, Ordering::Release);
        METRICS.cell_away.record(u64::from(found.is_err()), &labels);
        if told.as_ref() != Some(&found) {
            match &found {
                Ok(()) => tracing::info!(service, cell = %cell.name, "the cell serves its tenants"),
                Err(reason) => {
                    tracing::error!(service, cell = %cell.name, reason, "the cell does not serve; its tenants' calls are refused");
                }
            }
            told = Some(found);
        }
        if !tasks.pause(PERIOD).await {
            break;
        }
    }
    METRICS.cell_away.record(0, &labels);
}

/// Whether the cell may serve, or why not.
async fn look_at(cell: &Cell, definition: &Definition) -> Result<(), String> {
    if !cell.serves() {
        // Those from before it was away may be dead without a word.
        cell.pool.close_idle();
        let judged = judge(&cell.pool, definition);
        let judged = tokio::time::timeout(JUDGE_LIMIT, judged).await;
        let judged = judged.map_err(|_| "it does not answer in time".to_owned())?;
        return judged.map_err(|error| chain(&error));
    }
    if cell.pool.unused() > UNUSED {
        // Whoever comes next opens a connection, and is told if there is none.
        cell.pool.close_idle();
        return Ok(());
    }
    let reached = cell.pool.reaches(ANSWER_LIMIT).await;
    reached.map_err(|error| chain(&error))
}
