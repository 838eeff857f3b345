//! Who has the next connection of a pool: tenants take turns, by the weight of their plans, and none holds more than
//! its part of the pool.
//!
//! Turns are dealt by stride scheduling (Waldspurger and Weihl, 1995): each turn moves its tenant's place in the order
//! by a stride that is the smaller the greater its weight, and the tenant that is furthest back comes next. Whoever comes
//! anew begins where one would stand now who has waited all the time, which each turn moves by the stride of all who wait
//! together (virtual time: Demers et al., 1989). Were it where the last turn stood, a row of tenants that call once each
//! would all go before the one that calls often, for as long as it lasts.
//!
//! In a crowd a place to wait in is taken from the tenant that has most of them by its weight (longest queue drop: Suter
//! et al., 1998), and one who has none finds one wherever another has two.
//!
//! Invariant: nothing is remembered of a tenant that neither holds nor waits.

mod asker;
mod crowd;
mod line;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::class::Class;
use crate::ids::TenantId;
pub(crate) use asker::Asker;
use crowd::{Crowd, Room};
use line::{Line, Waits, length};

/// What one tenant holds at most of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// So much as its plan says, of a pool that many share.
    OfItsPlan,
    /// All of a pool that is for few.
    Whole,
}

/// The turns of one pool.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    size: u32,
    part: Part,
    /// How long one may have waited before it is a crowd.
    patience: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: u32,
    /// Where whoever comes anew begins in the order, without credit for its absence.
    place: u64,
    lines: HashMap<Option<TenantId>, Line>,
    /// In all lines.
    crowd: Crowd,
}

/// There are so many who wait that one more is not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// The right to one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    tenant: Option<TenantId>,
}

impl Turns {
    /// Turns for `size` connections, of which one tenant holds at most its part. When one has waited longer than `patience`
    /// it is a crowd.
    pub(crate) fn new(size: u32, part: Part, patience: Duration) -> Self {
        Self {
            size,
            part,
            patience,
            state: Arc::new(Mutex::new(State::new(size))),
        }
    }

    /// Turns that nobody has.
    pub(crate) fn free(&self) -> u32 {
        self.state().free
    }

    /// Whether few may wait now.
    pub(crate) fn are_crowded(&self) -> bool {
        self.state().crowd.is_there(Instant::now())
    }

    /// Whether the asker would find a place to wait in. Where there is none, it counts as told.
    pub(crate) fn have_place(&self, asker: Asker) -> bool {
        self.state().place_for(asker, self, Instant::now()).is_ok()
    }

    /// Resolves when it is the asker's turn, or when there is no place for it in the crowd, which the service itself always
    /// has. Dropped before, it leaves the line.
    pub(crate) async fn next(&self, asker: Asker) -> Result<Turn, Crowded> {
        let turn = self.state().join(asker, self)?;
        self.deal();
        // Without an answer its place was given to another.
        turn.await.map_err(|_| Crowded)
    }

    /// Gives every turn that is free to whoever is next.
    fn deal(&self) {
        loop {
            let Some((tenant, sender)) = self.state().next(|asker| self.holds(asker)) else {
                return;
            };
            let turn = Turn {
                turns: self.clone(),
                tenant,
            };
            // One who has gone meanwhile gives it back at once, as the turn is dropped.
            drop(sender.send(turn));
        }
    }

    /// What the asker may hold at most.
    fn holds(&self, asker: Asker) -> u32 {
        match self.part {
            Part::OfItsPlan => (self.size * asker.percent / 100).max(1),
            Part::Whole => self.size,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(size: u32) -> Self {
        Self {
            free: size,
            place: 0,
            lines: HashMap::new(),
            crowd: Crowd::default(),
        }
    }

    /// Waits at the end of the asker's line, if it may.
    fn join(&mut self, asker: Asker, turns: &Turns) -> Result<oneshot::Receiver<Turn>, Crowded> {
        let since = Instant::now();
        if let Some((other, class)) = self.place_for(asker, turns, since)? {
            let line = self.lines.get_mut(&other);
            if let Some(last) = line.and_then(|line| line.take_last(class)) {
                self.crowd.goes(last.asker.class);
                self.crowd.tells();
            }
            self.forget(other);
        }
        let (turn, receiver) = oneshot::channel();
        let line = self.lines.entry(asker.tenant).or_default();
        if line.waiting.is_empty() {
            line.place = line.place.max(self.place);
        }
        line.waiting.push_back(Waits { asker, since, turn });
        self.crowd.comes(asker.class);
        Ok(receiver)
    }

    /// Whether one more may wait; if need be, in the place of one of a line whose work is of a class, or shed sooner.
    fn place_for(
        &mut self,
        asker: Asker,
        turns: &Turns,
        now: Instant,
    ) -> Result<Option<(Option<TenantId>, Class)>, Crowded> {
        let places = turns.size as usize;
        if self.free > 0
            || !asker.is_bounded()
            || self.crowd.room(asker.class, places) == Room::Free
        {
            return Ok(None);
        }
        self.forget_gone();
        if !self.crowd.is_there(now) {
            // One that waits for its own part says nothing of the others.
            let late = self.lines.values().filter_map(|line| {
                let first = line.waiting.front()?;
                (line.held < turns.holds(first.asker)).then_some(first.since)
            });
            if late.min().is_none_or(|since| now - since <= turns.patience) {
                return Ok(None);
            }
            self.crowd.begins(now);
        }
        let Room::Full(class) = self.crowd.room(asker.class, places) else {
            return Ok(None);
        };
        let own = self.lines.get(&asker.tenant);
        let own = own.map_or(0, |line| line.waiting.len());
        let lines = self.lines.iter();
        // Nobody loses the only place it has.
        let others = lines.filter(|(_, line)| line.waiting.len() > 1 && line.last(class).is_some());
        let most = others.max_by_key(|(_, line)| line.length());
        let most = most.filter(|(_, line)| own == 0 || line.length() > length(own + 1, asker));
        let Some((tenant, _)) = most else {
            self.crowd.tells();
            return Err(Crowded);
        };
        Ok(Some((*tenant, class)))
    }

    /// Lets those go who do not wait any more.
    fn forget_gone(&mut self) {
        self.lines.retain(|_, line| {
            line.waiting.retain(|waits| {
                let is_gone = waits.turn.is_closed();
                if is_gone {
                    self.crowd.goes(waits.asker.class);
                }
                !is_gone
            });
            line.held > 0 || !line.waiting.is_empty()
        });
    }

    /// Takes a turn for the one who waits and is furthest back in the order.
    fn next(
        &mut self,
        holds: impl Fn(Asker) -> u32,
    ) -> Option<(Option<TenantId>, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        loop {
            let candidates = self.lines.iter().filter(|(tenant, line)| {
                let first = line.waiting.front();
                first.is_some_and(|first| tenant.is_none() || line.held < holds(first.asker))
            });
            // The weights of all who wait, and who is next.
            let (mut weights, mut next) = (0, None);
            for (tenant, line) in candidates {
                weights += line.weight();
                let stands = (line.place, line.first());
                if next.is_none_or(|(before, _)| stands < before) {
                    next = Some((stands, *tenant));
                }
            }
            let (_, tenant) = next?;
            let line = self.lines.get_mut(&tenant)?;
            let Some(Waits { asker, turn, .. }) = line.waiting.pop_front() else {
                continue;
            };
            self.crowd.goes(asker.class);
            if turn.is_closed() {
                self.forget(tenant);
                continue;
            }
            // Who could have no turn because it had its part has little credit for it. Nobody else is so far back.
            let place = line.place.max(self.place.saturating_sub(asker::STRIDE));
            self.place = self.place.max(place) + asker::stride(weights);
            line.place = place + asker.stride();
            line.held += 1;
            self.free -= 1;
            self.crowd.deals();
            return Some((tenant, turn));
        }
    }

    fn give_back(&mut self, tenant: Option<TenantId>) {
        self.free += 1;
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.held -= 1;
        }
        self.forget(tenant);
    }

    fn forget(&mut self, tenant: Option<TenantId>) {
        let idle = |line: &Line| line.held == 0 && line.waiting.is_empty();
        if self.lines.get(&tenant).is_some_and(idle) {
            self.lines.remove(&tenant);
        }
    }
}

impl Turn {
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.state().give_back(self.tenant);
        self.turns.deal();
    }
}
