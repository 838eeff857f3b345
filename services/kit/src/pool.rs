//! Connections of one database role.
//!
//! Our own and not the driver's pool, for two reasons that were tried: in sqlx 0.9.0 a cancelled `begin` returns a
//! connection inside a transaction to the pool, and every return pings the server, a round trip for each call.
//! Invariant: a [`Lease`] that is dropped closes its connection; only [`Lease::give_back`] keeps it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::turns::{Asker, Turn, Turns};
use crate::usage::USAGE;

/// How long a new connection may take to open, an old one to begin a transaction, and how long the service's own work
/// waits for one that is free.
pub(crate) const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// How long a new process waits for each of its first connections: nobody calls it yet.
const FILL_LIMIT: Duration = Duration::from_secs(10);
/// A connection this old is replaced, so that a changed password, address or setting of the role takes effect.
const MAX_AGE: Duration = Duration::from_mins(30);
/// Connections that a new pool opens at the same time.
const AT_ONCE: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    turns: Turns,
    size: u32,
    idle: Mutex<Vec<Idle>>,
    /// Raised when a connection turned out dead: idle ones of before are suspect and are not reused.
    generation: AtomicU64,
    /// Connections that came back sound; it rises while the server works.
    returned: AtomicU64,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    opened: Instant,
    generation: u64,
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
    pub(crate) fn new(options: PgConnectOptions, size: u32) -> Self {
        let options = options.disable_statement_logging();
        Self {
            shared: Arc::new(Shared {
                options,
                turns: Turns::new(size),
                size,
                idle: Mutex::default(),
                generation: AtomicU64::new(0),
                returned: AtomicU64::new(0),
            }),
        }
    }

    /// Connections in use, and the most there may be.
    pub(crate) fn usage(&self) -> (u32, u32) {
        let free = self.shared.turns.free();
        (self.shared.size.saturating_sub(free), self.shared.size)
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

    /// Opens every connection that the pool may hold, so that the first calls of a new process, which come all at
    /// once when another one stops, do not wait for handshakes. What the server refuses is opened when it is needed.
    pub(crate) async fn fill(&self) {
        let opened = futures::stream::iter(0..self.shared.size)
            .map(|_| self.acquire_within(Asker::SERVICE, FILL_LIMIT, FILL_LIMIT))
            .buffer_unordered(AT_ONCE);
        // None goes back before all are open, or the next would be given the same.
        for lease in opened.collect::<Vec<_>>().await {
            match lease {
                Ok(lease) => lease.give_back(),
                Err(error) => {
                    tracing::warn!(error = %error, "a connection to the database could not be opened yet");
                }
            }
        }
    }

    /// A connection in the asker's name, for which it waits at most `wait`: then it is `PoolTimedOut`.
    pub(crate) async fn acquire(&self, asker: Asker, wait: Duration) -> Result<Lease, sqlx::Error> {
        self.acquire_within(asker, wait, ACQUIRE_LIMIT).await
    }

    async fn acquire_within(
        &self,
        asker: Asker,
        wait: Duration,
        connect: Duration,
    ) -> Result<Lease, sqlx::Error> {
        let turn = tokio::time::timeout(wait, self.shared.turns.next(asker))
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?;
        let since = Instant::now();
        let generation = self.shared.generation.load(Ordering::Acquire);
        let idle = match self.shared.take_idle(generation) {
            Some(idle) => idle,
            None => {
                let connecting = self.shared.options.connect();
                let connection = tokio::time::timeout(connect, connecting)
                    .await
                    .map_err(|_| silence())??;
                Idle {
                    connection,
                    opened: Instant::now(),
                    generation,
                }
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
    fn returned(&self) -> u64 {
        self.returned.load(Ordering::Acquire)
    }

    fn take_idle(&self, generation: u64) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(candidate) = idle.pop() {
            if candidate.generation == generation && candidate.opened.elapsed() < MAX_AGE {
                return Some(candidate);
            }
        }
        None
    }
}

impl Lease {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.idle.connection
    }

    /// Closes the connection and, since the server may have gone, lets no idle one of its generation be used again.
    pub(crate) fn discard(self) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
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
        shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(idle);
        // The next in line finds the connection that this one brought back.
        drop(turn);
    }
}
