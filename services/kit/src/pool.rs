//! Connections of one database role.
//!
//! Our own and not the driver's pool, for two reasons that were tried: in sqlx 0.9.0 a cancelled `begin` returns a
//! connection inside a transaction to the pool, and every return pings the server, a round trip for each call.
//! Invariant: a [`Lease`] that is dropped closes its connection; only [`Lease::give_back`] keeps it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::cells::{CellName, OtherCell};
use crate::room::{Place, Room, TENURE, Tenancy};
use crate::settings::{DatabaseSettings, SettingsError};
use crate::turns::{Asker, Crowded, Part, Turn, Turns};
use crate::usage::USAGE;
use crate::{db::role_options, migrate};

mod upkeep;

/// How long a new connection may take to open, an old one to begin a transaction, and how long the service's own work
/// waits for one that is free.
pub(crate) const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// The last part of the age, in which the connections of a pool end one by one if nobody renews them before.
const SPREAD: f64 = 0.1;
/// What the times of use are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    /// What the database must say that it is.
    cell: CellName,
    turns: Turns,
    size: u32,
    /// How old a connection may be when a call gets it.
    age: Duration,
    idle: Mutex<Vec<Idle>>,
    /// Raised when a connection turned out dead: idle ones of before are suspect and are not reused.
    generation: AtomicU64,
    /// Connections that came back sound; it rises while the server works.
    returned: AtomicU64,
    /// Where its connections must have places, if they must.
    room: Option<Room>,
    /// Milliseconds since the beginning at which a tenant last had a connection.
    used: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    opened: Instant,
    /// Its own share of the age, so that those that were opened at once do not end at once.
    lifetime: Duration,
    generation: u64,
    /// Given up after the connection.
    place: Option<Place>,
}

impl Idle {
    /// Whether it has been open for so long that it may be closed for another.
    fn is_tenured(&self) -> bool {
        self.opened.elapsed() >= TENURE
    }
}

/// One connection, borrowed.
#[derive(Debug)]
pub(crate) struct Lease {
    idle: Idle,
    shared: Arc<Shared>,
    turn: Turn,
    since: Instant,
}

impl Pool {
    /// As the named role.
    pub(crate) fn new(
        settings: &DatabaseSettings,
        role: &str,
        size: u32,
    ) -> Result<Self, SettingsError> {
        Self::of(
            settings,
            role,
            Turns::new(size, Part::OfItsPlan, patience(settings)),
            size,
            None,
        )
    }

    /// A pool for few tenants, each of which may hold all of it, with its connections in the room.
    pub(crate) fn within(
        settings: &DatabaseSettings,
        role: &str,
        room: &Room,
    ) -> Result<Self, SettingsError> {
        let size = settings.database_max_connections;
        let turns = Turns::new(size, Part::Whole, patience(settings));
        let pool = Self::of(settings, role, turns, size, Some(room.clone()))?;
        let tenancy: Arc<dyn Tenancy> = Arc::clone(&pool.shared) as Arc<dyn Tenancy>;
        room.admit(Arc::downgrade(&tenancy));
        Ok(pool)
    }

    fn of(
        settings: &DatabaseSettings,
        role: &str,
        turns: Turns,
        size: u32,
        room: Option<Room>,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            shared: Arc::new(Shared {
                options: role_options(settings, role)?.disable_statement_logging(),
                cell: settings.cell.clone(),
                turns,
                size,
                age: Duration::from_secs(settings.database_connection_age_seconds),
                idle: Mutex::default(),
                generation: AtomicU64::new(0),
                returned: AtomicU64::new(0),
                room,
                used: AtomicU64::new(now()),
                closed: AtomicBool::new(false),
            }),
        })
    }

    /// Closes every connection, those in use as they come back, and lets nobody open another.
    pub(crate) fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.idle().clear();
    }

    /// How long no tenant has had a connection.
    pub(crate) fn unused(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.shared.used.load(Ordering::Relaxed)))
    }

    /// Closes the connections that nobody has now.
    pub(crate) fn close_idle(&self) {
        self.shared.idle().clear();
    }

    /// Whether few may wait for its connections now.
    pub(crate) fn is_crowded(&self) -> bool {
        self.shared.turns.are_crowded()
    }

    /// Whether the asker would find a place to wait for a connection. Where there is none, it counts as told.
    pub(crate) fn has_place(&self, asker: Asker) -> bool {
        self.shared.turns.have_place(asker)
    }

    /// Connections in use.
    pub(crate) fn in_use(&self) -> u32 {
        self.shared.in_use()
    }

    /// Whether the server answers within `limit`: a statement of its own or, when every connection is taken, one of
    /// those that have them.
    pub(crate) async fn answers(&self, limit: Duration) -> bool {
        let before = self.shared.returned();
        let asked = self.open("select 1".into(), Asker::SERVICE, limit);
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(lease)) => {
                lease.give_back();
                true
            }
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => self.shared.returned() != before,
            Ok(Err(_)) => false,
        }
    }

    /// Whether the server answers within `limit`, however many wait for connections: over one that nobody has now, or one
    /// of its own that is closed again.
    pub(crate) async fn reaches(&self, limit: Duration) -> Result<(), sqlx::Error> {
        let before = self.shared.returned();
        let generation = self.shared.generation();
        let idle = self.shared.take_idle(generation);
        let asked = async {
            if let Some(mut idle) = idle {
                sqlx::raw_sql("select 1")
                    .execute(&mut idle.connection)
                    .await?;
                if !self.shared.gives_up(&idle) {
                    self.shared.idle().push(idle);
                }
                return Ok(());
            }
            self.shared.reach().await?.close().await
        };
        let answered = tokio::time::timeout(limit, asked).await;
        match answered.unwrap_or_else(|_| Err(silence())) {
            // Others have come back meanwhile: it is busy.
            Err(_) if self.shared.returned() != before => Ok(()),
            answered => answered,
        }
    }

    /// A connection in the asker's name, for which it waits at most `wait`: then it is `PoolTimedOut`, and at once when too
    /// many wait.
    pub(crate) async fn acquire(&self, asker: Asker, wait: Duration) -> Result<Lease, sqlx::Error> {
        let begun = Instant::now();
        let turn = match tokio::time::timeout(wait, self.shared.turns.next(asker)).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(Crowded)) | Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        // By consumers, too: a cell that has work is watched, or each of its events would wait for one that has vanished.
        self.shared.used.store(now(), Ordering::Relaxed);
        let since = Instant::now();
        let generation = self.shared.generation();
        let idle = match self.shared.take_idle(generation) {
            Some(idle) => idle,
            None => {
                let left = wait.saturating_sub(begun.elapsed());
                let place = self.shared.place(&turn, left).await?;
                self.shared.connect(generation, place).await?
            }
        };
        Ok(Lease {
            idle,
            shared: Arc::clone(&self.shared),
            turn,
            since,
        })
    }

    /// Borrows a connection and runs `statement` on it: the first words of a transaction.
    /// An idle connection may have died with the server; then the rest of that generation is dropped and a new
    /// connection tried, once. One that is silent while others come back is closed alone: to open all of them anew
    /// on a server that is merely slow makes it slower still. A caller that goes away in between drops the lease and
    /// so closes the connection.
    pub(crate) async fn open(
        &self,
        statement: Arc<str>,
        asker: Asker,
        wait: Duration,
    ) -> Result<Lease, sqlx::Error> {
        let mut retried = false;
        loop {
            let mut lease = self.acquire(asker, wait).await?;
            let before = self.shared.returned();
            let begin = sqlx::raw_sql(AssertSqlSafe(Arc::clone(&statement)));
            let begun = tokio::time::timeout(ACQUIRE_LIMIT, begin.execute(lease.connection()));
            match begun.await.unwrap_or_else(|_| Err(silence())) {
                Ok(_) => return Ok(lease),
                Err(error) if !retried && is_dead(&error) => {
                    retried = true;
                    if self.shared.returned() == before || !is_silence(&error) {
                        lease.discard();
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Half of what a call waits: whoever comes behind one that has waited so long would wait in vain.
fn patience(settings: &DatabaseSettings) -> Duration {
    Duration::from_millis(settings.database_wait_milliseconds / 2)
}

/// Whether the connection, not the statement, is what failed.
pub(crate) fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => matches!(
            error.code().as_deref(),
            Some("57P01" | "57P02" | "57P05" | "25P03")
        ),
        _ => false,
    }
}

/// What a server that says nothing is to the driver.
pub(crate) fn silence() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Whether the connection said nothing for too long.
fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

impl Shared {
    /// Connections in use, those that are being opened among them.
    fn in_use(&self) -> u32 {
        self.size.saturating_sub(self.turns.free())
    }

    /// Connections, whether in use or not.
    fn open(&self) -> u32 {
        let idle = u32::try_from(self.idle().len()).unwrap_or(u32::MAX);
        idle.saturating_add(self.in_use())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn returned(&self) -> u64 {
        self.returned.load(Ordering::Acquire)
    }

    /// A new connection, in time, for the pool as it was at the generation.
    async fn connect(&self, generation: u64, place: Option<Place>) -> Result<Idle, sqlx::Error> {
        let reaching = tokio::time::timeout(ACQUIRE_LIMIT, self.reach()).await;
        Ok(Idle {
            connection: reaching.unwrap_or_else(|_| Err(silence()))?,
            opened: Instant::now(),
            lifetime: self.age.mul_f64(1.0 - SPREAD * fastrand::f64()),
            generation,
            place,
        })
    }

    /// A new connection, to a database that says that it is the cell: a name may lead elsewhere from one connection to the
    /// next.
    async fn reach(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let found = migrate::cell_of(&mut connection).await?;
        if found.as_ref() != Some(&self.cell) {
            // Whoever looks at the cell must not be answered by a connection of before.
            self.forget_idle();
            let expected = self.cell.clone();
            let other = OtherCell { expected, found };
            return Err(sqlx::Error::Configuration(Box::new(other)));
        }
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of one more connection, where it must have one. The service's own work does without when there is none:
    /// it is little, and must tell a cell that is away from one that others leave no room for.
    async fn place(&self, turn: &Turn, wait: Duration) -> Result<Option<Place>, sqlx::Error> {
        let Some(room) = &self.room else {
            return Ok(None);
        };
        if turn.tenant().is_none() {
            return Ok(room.try_enter());
        }
        let place = room.enter(wait).await;
        place.map(Some).ok_or(sqlx::Error::PoolTimedOut)
    }

    /// Whether a connection that comes back is not to be kept.
    fn gives_up(&self, idle: &Idle) -> bool {
        let is_crowded =
            |room: &Room| idle.place.is_none() || (room.is_wanted() && idle.is_tenured());
        self.closed.load(Ordering::Acquire) || self.room.as_ref().is_some_and(is_crowded)
    }

    /// Lets no idle connection of before be used again.
    fn forget_idle(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn take_idle(&self, generation: u64) -> Option<Idle> {
        let mut idle = self.idle();
        while let Some(candidate) = idle.pop() {
            if candidate.generation == generation && candidate.opened.elapsed() < candidate.lifetime
            {
                return Some(candidate);
            }
        }
        None
    }
}

impl Tenancy for Shared {
    fn idle_since(&self) -> Option<u64> {
        let is_there = self.idle().iter().any(Idle::is_tenured);
        is_there.then(|| self.used.load(Ordering::Relaxed))
    }

    fn close_one(&self) {
        let mut idle = self.idle();
        // The first is the one that came back first.
        if let Some(place) = idle.iter().position(Idle::is_tenured) {
            idle.remove(place);
        }
    }
}

/// Milliseconds since the beginning.
fn now() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Lease {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.idle.connection
    }

    /// Closes the connection and, since the server may have gone, lets no idle one of its generation be used again.
    pub(crate) fn discard(self) {
        self.shared.forget_idle();
    }

    /// Returns a connection that is outside any transaction.
    pub(crate) fn give_back(self) {
        let Self {
            idle,
            shared,
            turn,
            since,
        } = self;
        USAGE.held(turn.tenant(), since.elapsed());
        shared.returned.fetch_add(1, Ordering::AcqRel);
        if shared.gives_up(&idle) {
            drop(idle);
        } else {
            shared.idle().push(idle);
        }
        // The next in line finds the connection that this one brought back.
        drop(turn);
    }
}
