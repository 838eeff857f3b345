//! The databases that tenants' rows are in: the shared cell, and dedicated cells of a few tenants each.
//!
//! A tenant's rows are all in one cell, which the tenant directory names. Invariants: of a tenant that the directory does
//! not know, no rows are looked for anywhere; a database is used as a cell only when it says of itself that it is that
//! cell and isolates tenants as the shared one must; one cell that is away, or that is not as it must be, costs its own
//! tenants alone.

mod keeper;
mod name;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::Error;
use crate::ctx::Ctx;
use crate::directory::Directory;
use crate::error::DATABASE;
use crate::ids::TenantId;
use crate::outbox::Wake;
use crate::pool::Pool;
use crate::pressure::Pressure;
use crate::security::{self, Queue};

pub(crate) use keeper::Keeper;
pub use name::{CellFolder, CellName, OtherCell};

/// How long what an event causes waits for its tenant to be known: the event may be faster than the directory.
const BECOMES_KNOWN: Duration = Duration::from_secs(2);

/// One cell, as one service has it.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) name: CellName,
    pub(crate) pool: Pool,
    /// Tells the relay of rows that were written.
    pub(crate) wake: Wake,
    pub(crate) pressure: Option<Pressure>,
    /// Where refusals of its tenants wait to be written.
    pub(crate) refusals: Queue,
    /// Its relays ask as well: nothing of a database is touched that has not been judged.
    serves: Arc<AtomicBool>,
}

impl Cell {
    /// Of a command, which connects as it needs to and writes no refusals.
    pub(crate) fn of_command(pool: Pool, wake: Wake) -> Self {
        let (refusals, _) = security::queue();
        Self {
            name: CellName::SHARED,
            pool,
            wake,
            pressure: None,
            refusals,
            serves: Arc::new(AtomicBool::new(true)),
        }
    }

    fn serves(&self) -> bool {
        self.serves.load(Ordering::Acquire)
    }
}

/// The cells of a service, and which of them a tenant is in. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Cells {
    shared: Arc<Cell>,
    dedicated: Option<Dedicated>,
}

#[derive(Clone, Debug)]
struct Dedicated {
    directory: Directory,
    cells: Arc<RwLock<HashMap<CellName, Arc<Cell>>>>,
}

impl Cells {
    /// One cell for every tenant: of a service whose rows are not placed, or of a command.
    pub(crate) fn one(shared: Cell) -> Self {
        Self {
            shared: Arc::new(shared),
            dedicated: None,
        }
    }

    /// The same, with the dedicated cells that a [`Keeper`] finds, for the tenants that the directory places there.
    fn placed(self, directory: Directory) -> (Self, Dedicated) {
        let dedicated = Dedicated {
            directory,
            cells: Arc::default(),
        };
        let cells = Self {
            dedicated: Some(dedicated.clone()),
            ..self
        };
        (cells, dedicated)
    }

    pub(crate) fn shared(&self) -> &Arc<Cell> {
        &self.shared
    }

    /// All of them, the shared one first.
    pub(crate) fn all(&self) -> Vec<Arc<Cell>> {
        let mut all = vec![Arc::clone(&self.shared)];
        if let Some(dedicated) = &self.dedicated {
            let cells = dedicated.cells.read();
            all.extend(
                cells
                    .unwrap_or_else(PoisonError::into_inner)
                    .values()
                    .cloned(),
            );
        }
        all
    }

    /// Whether the tenant is in the shared cell and there is no other: then nobody else waits for what it waits for.
    pub(crate) fn are_one_for(&self, tenant: TenantId) -> bool {
        let Some(dedicated) = &self.dedicated else {
            return true;
        };
        let cells = dedicated.cells.read();
        let is_alone = cells.unwrap_or_else(PoisonError::into_inner).is_empty();
        let placement = dedicated.directory.placement(tenant);
        is_alone && placement.is_some_and(|it| it.cell.is_shared())
    }

    /// Whether some tenants can be served although the shared cell is away.
    pub(crate) fn some_dedicated_serves(&self) -> bool {
        let all = self.all();
        all.iter()
            .any(|cell| !cell.name.is_shared() && cell.serves())
    }

    /// The cell that the rows of the context's tenant are in.
    pub(crate) async fn of(&self, ctx: &Ctx) -> Result<Arc<Cell>, Error> {
        let tenant = ctx.tenant();
        if let Some(dedicated) = &self.dedicated
            && ctx.method().is_empty()
            && dedicated.directory.placement(tenant).is_none()
        {
            let directory = &dedicated.directory;
            directory.becomes_known(tenant, BECOMES_KNOWN).await;
        }
        self.serving(tenant)
    }

    fn serving(&self, tenant: TenantId) -> Result<Arc<Cell>, Error> {
        let cell = self.find(tenant)?;
        if cell.serves() {
            Ok(cell)
        } else {
            Err(away(format!("the cell {} does not serve", cell.name)))
        }
    }

    /// Where refusals of the tenant are written. Of one that is not let in, or that nothing is known of, that is the shared
    /// cell: it may yet be placed anew, and the cell that it leaves may tell no more of it.
    pub(crate) fn of_refusals(&self, tenant: TenantId) -> Result<Arc<Cell>, Error> {
        match &self.dedicated {
            Some(dedicated) if dedicated.directory.is_active(tenant) => self.serving(tenant),
            _ => Ok(Arc::clone(&self.shared)),
        }
    }

    /// Whether the rows of the tenant are in the shared cell, as far as is known.
    pub(crate) fn is_shared_for(&self, tenant: TenantId) -> bool {
        self.find(tenant).is_ok_and(|cell| cell.name.is_shared())
    }

    fn find(&self, tenant: TenantId) -> Result<Arc<Cell>, Error> {
        let Some(dedicated) = &self.dedicated else {
            return Ok(Arc::clone(&self.shared));
        };
        let Some(placement) = dedicated.directory.placement(tenant) else {
            return Err(away(format!("the tenant {tenant} is placed nowhere")));
        };
        if placement.cell.is_shared() {
            return Ok(Arc::clone(&self.shared));
        }
        let cells = dedicated.cells.read();
        let found = cells
            .unwrap_or_else(PoisonError::into_inner)
            .get(&placement.cell)
            .cloned();
        found.ok_or_else(|| away(format!("CATALYST_CELLS_DIR has no cell {}", placement.cell)))
    }
}

/// The cause is for the log: a caller is not told where its rows are.
fn away(cause: String) -> Error {
    Error::Unavailable {
        what: DATABASE,
        source: cause.into(),
    }
}
