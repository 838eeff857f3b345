//! What a pool does for its connections while nobody waits for them: it opens them all as its process begins to serve,
//! and renews them one by one, since calls that find all too old at once wait for as many handshakes.

use futures::TryStreamExt;

use super::{Idle, Pool, Shared};
use crate::turns::{Asker, Crowded, Turn};

/// Connections that a new pool opens at the same time, or half of those that it may have.
const AT_ONCE: u32 = 4;
/// The part of its age at which a connection may be renewed.
const RIPE: f64 = 0.5;
/// The part of the age within which all are renewed, if the server lets them: over before the first ends by itself.
const ROUND: f64 = 0.4;

impl Pool {
    /// Opens the connections that the pool may hold, and renews them for as long as this is awaited.
    pub(crate) async fn keep_up(&self) {
        self.fill().await;
        let period = self.shared.age.mul_f64(ROUND) / self.shared.size.max(1);
        let mut lacks_one = false;
        loop {
            tokio::time::sleep(period).await;
            let renewed = self.renew_oldest(lacks_one).await;
            lacks_one = renewed.is_err();
            if let Err(error) = renewed {
                tracing::warn!(error = %error, "a connection to the database could not be renewed yet");
            }
        }
    }

    /// Opens the connections that the pool may hold, so that the first calls of a new process, which come all at once when
    /// another one stops, do not wait for handshakes each. What the server refuses is opened when it is needed, and so is
    /// all that comes after it. Calls may be served meanwhile: each connection that is being opened takes one turn, no
    /// more than half of them do, and none for longer than a call may.
    async fn fill(&self) {
        let open = |()| async {
            let turn = self.own_turn().await?;
            if self.shared.open() > self.shared.size {
                return Ok(());
            }
            self.shared.open_within(turn).await
        };
        let at_once = AT_ONCE.min(self.shared.size / 2);
        let wanted = if at_once == 0 { 0 } else { self.shared.size };
        let filled = futures::stream::iter((0..wanted).map(|_| Ok(())))
            .try_for_each_concurrent(usize::try_from(at_once).ok(), open)
            .await;
        if let Err(error) = filled {
            tracing::warn!(error = %error, "connections to the database could not be opened yet");
        }
    }

    /// Puts a new connection in the place of the oldest that nobody has now, if that is ripe, or of the one that the last
    /// attempt lost. The old one goes first, so that the server never has more than it was told of; a server that lets
    /// nobody in takes one so, and not one after the other.
    async fn renew_oldest(&self, lacks_one: bool) -> Result<(), sqlx::Error> {
        let turn = self.own_turn().await?;
        let has_room = if lacks_one {
            // A call may have opened it meanwhile, and an attempt in a crowd has lost none.
            self.shared.open() <= self.shared.size
        } else {
            self.shared.take_ripe().is_some()
        };
        if has_room {
            self.shared.open_within(turn).await?;
        }
        Ok(())
    }

    async fn own_turn(&self) -> Result<Turn, sqlx::Error> {
        let turn = self.shared.turns.next(Asker::SERVICE).await;
        turn.map_err(|Crowded| sqlx::Error::PoolTimedOut)
    }
}

impl Shared {
    /// Adds a connection to those that nobody has.
    async fn open_within(&self, turn: Turn) -> Result<(), sqlx::Error> {
        let opened = self.connect(self.generation(), None).await?;
        self.idle().push(opened);
        drop(turn);
        Ok(())
    }

    /// The oldest connection that nobody has, once it is ripe.
    fn take_ripe(&self) -> Option<Idle> {
        let mut idle = self.idle();
        let oldest = idle.iter().enumerate().min_by_key(|(_, it)| it.opened);
        let (place, oldest) = oldest?;
        let is_ripe = oldest.opened.elapsed() >= self.age.mul_f64(RIPE);
        is_ripe.then(|| idle.remove(place))
    }
}
