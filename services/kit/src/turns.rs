//! Who has the next connection of a pool: tenants take turns, by the weight of their plans, and none holds more than
//! its part of the pool.
//!
//! Turns are dealt by stride scheduling (Waldspurger and Weihl, 1995): each turn moves its tenant's place in the order
//! by a stride that is the smaller the greater its weight, and the tenant that is furthest back comes next.
//!
//! In a crowd a place to wait in is taken from the tenant that has most of them by its weight (longest queue drop: Suter
//! et al., 1998), and one who has none finds one wherever another has two.
//!
//! Invariant: nothing is remembered of a tenant that neither holds nor waits.

mod asker;
mod crowd;
mod line;

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
    /// Where the last turn stood in the order: whoever comes anew begins there, without credit for its absence.
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
        let place = self.place;
        let line = self.lines.entry(asker.tenant).or_insert_with(|| Line {
            place,
            ..Line::default()
        });
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
            let next = candidates.min_by_key(|(_, line)| (line.place, line.first()));
            let tenant = *next?.0;
            let line = self.lines.get_mut(&tenant)?;
            let Some(Waits { asker, turn, .. }) = line.waiting.pop_front() else {
                continue;
            };
            self.crowd.goes(asker.class);
            if turn.is_closed() {
                self.forget(tenant);
                continue;
            }
            self.place = self.place.max(line.place);
            line.place = self.place + asker.stride();
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::ctx::Ctx;
    use crate::plan::Plan;

    fn asker(tenant: u128, weight: u32) -> Asker {
        Asker {
            tenant: Some(TenantId::new(Uuid::from_u128(tenant))),
            weight,
            percent: 40,
            class: Class::Write,
        }
    }

    fn turns_of(size: u32, part: Part) -> Turns {
        Turns::new(size, part, Duration::from_mins(1))
    }

    /// Waits, or finds no place.
    fn ask(turns: &Turns, asker: Asker) -> Result<BoxFuture<'_, Result<Turn, Crowded>>, Crowded> {
        let mut waits = turns.next(asker).boxed();
        match (&mut waits).now_or_never() {
            None => Ok(waits),
            Some(Ok(_)) => panic!("there is no turn"),
            Some(Err(crowded)) => Err(crowded),
        }
    }

    fn has_turn(turns: &Turns, asker: Asker) -> Option<Turn> {
        turns.next(asker).now_or_never().and_then(Result::ok)
    }

    #[test]
    fn a_tenant_holds_its_part_and_the_rest_is_for_others() {
        let turns = turns_of(10, Part::OfItsPlan);
        let held: Vec<_> = (0..4)
            .map(|_| has_turn(&turns, asker(1, 4)).unwrap())
            .collect();
        assert!(has_turn(&turns, asker(1, 4)).is_none());
        assert!(has_turn(&turns, asker(2, 4)).is_some());
        let service: Vec<_> = (0..6)
            .map(|_| has_turn(&turns, Asker::SERVICE).unwrap())
            .collect();
        assert_eq!(turns.free(), 0);
        drop((held, service));
        assert_eq!(turns.free(), 10);
        assert!(turns.state().lines.is_empty());
    }

    #[test]
    fn the_part_goes_by_the_plan_and_one_tenant_may_hold_all_of_a_pool_for_few() {
        let most = |part: Part, percent: u32| {
            let turns = turns_of(10, part);
            let own = Asker {
                percent,
                ..asker(1, 4)
            };
            let held: Vec<_> = std::iter::from_fn(|| has_turn(&turns, own)).collect();
            held.len()
        };
        let of_plans = [Plan::Small, Plan::Standard, Plan::Large].map(Plan::percent);
        let parts = of_plans.map(|percent| most(Part::OfItsPlan, percent));
        assert_eq!(parts, [2, 4, 6]);
        assert_eq!(most(Part::Whole, Plan::Small.percent()), 10);
    }

    #[test]
    fn what_an_event_causes_does_not_wait_behind_the_calls_of_its_tenant() {
        let event = Ctx::of_event(
            TenantId::PLATFORM,
            crate::ctx::Actor::Service("audit".to_owned()),
            crate::ctx::Clock::system(),
        );
        let turns = turns_of(5, Part::OfItsPlan);
        let own = Asker {
            tenant: Some(TenantId::PLATFORM),
            ..asker(1, 4)
        };
        let calls: Vec<_> = (0..2).map(|_| has_turn(&turns, own).unwrap()).collect();
        assert!(has_turn(&turns, own).is_none());
        assert!(has_turn(&turns, Asker::of(&event)).is_some());
        drop(calls);
    }

    #[tokio::test]
    async fn whoever_waits_has_the_turn_that_comes_free_and_who_has_left_does_not() {
        let turns = turns_of(1, Part::OfItsPlan);
        let first = turns.next(asker(1, 4)).await.unwrap();
        let mut gone = Box::pin(turns.next(asker(2, 4)));
        assert!((&mut gone).now_or_never().is_none());
        let mut waits = Box::pin(turns.next(asker(3, 4)));
        assert!((&mut waits).now_or_never().is_none());
        drop(gone);
        drop(first);
        let turn = waits.now_or_never().unwrap().unwrap();
        assert_eq!(turn.tenant(), asker(3, 4).tenant);
        drop(turn);
        assert_eq!(turns.free(), 1);
        assert!(turns.state().lines.is_empty());
    }

    #[test]
    fn a_crowd_of_one_tenant_does_not_hold_up_another() {
        let turns = turns_of(1, Part::OfItsPlan);
        let held = has_turn(&turns, Asker::SERVICE).unwrap();
        let mut crowd: Vec<_> = (0..100)
            .map(|_| Box::pin(turns.next(asker(1, 4))))
            .collect();
        for waits in &mut crowd {
            assert!(waits.now_or_never().is_none());
        }
        let mut lone = Box::pin(turns.next(asker(2, 4)));
        assert!((&mut lone).now_or_never().is_none());
        drop(held);
        // One of the crowd came first, and goes.
        assert!(crowd[0].as_mut().now_or_never().is_some());
        assert!(lone.now_or_never().is_some());
    }

    #[test]
    fn one_of_a_crowd_is_told_at_once_and_a_tenant_without_a_place_in_it_finds_one() {
        let turns = turns_of(2, Part::Whole);
        let held = [(); 2].map(|()| has_turn(&turns, Asker::SERVICE).unwrap());
        let mut waiting: Vec<_> = (0..10)
            .map(|_| ask(&turns, asker(1, 16)).unwrap())
            .collect();
        let turns = Turns {
            patience: Duration::ZERO,
            ..turns.clone()
        };
        assert_eq!(ask(&turns, asker(1, 16)).err(), Some(Crowded));
        // However much less its plan has.
        let other = ask(&turns, asker(2, 1)).unwrap();
        let last = waiting.pop().unwrap();
        assert_eq!(last.now_or_never().unwrap().err(), Some(Crowded));
        // It is still one when few wait, and nobody loses its only place.
        waiting.truncate(1);
        assert_eq!(ask(&turns, asker(2, 16)).err(), Some(Crowded));
        assert_eq!(ask(&turns, asker(3, 16)).err(), Some(Crowded));
        let operator = Asker {
            tenant: Some(TenantId::PLATFORM),
            ..asker(1, 1)
        };
        let operator = ask(&turns, operator).unwrap();
        drop(held);
        for waits in waiting.into_iter().chain([other, operator]) {
            assert!(waits.now_or_never().unwrap().is_ok());
        }
        assert_eq!(turns.free(), 2);
        assert!(turns.state().lines.is_empty());
    }

    #[test]
    fn who_waits_for_its_own_part_makes_no_crowd() {
        let turns = Turns {
            patience: Duration::ZERO,
            ..turns_of(5, Part::OfItsPlan)
        };
        let held = [1, 1, 2, 2].map(|it| has_turn(&turns, asker(it, 4)).unwrap());
        let waiting: Vec<_> = (0..20).map(|_| ask(&turns, asker(1, 4)).unwrap()).collect();
        let last = has_turn(&turns, asker(3, 4)).unwrap();
        let more = ask(&turns, asker(1, 4)).unwrap();
        let other = ask(&turns, asker(4, 4)).unwrap();
        // This one waits for anybody's.
        assert_eq!(ask(&turns, asker(1, 4)).err(), Some(Crowded));
        drop((held, waiting, last, more, other));
        assert_eq!(turns.free(), 5);
    }

    proptest! {
        /// Over any stretch in which all wait, each has had turns by its weight, to within one.
        #[test]
        fn turns_go_by_weight(weights in proptest::collection::vec(prop_oneof![Just(1_u32), Just(4), Just(16)], 2..6)) {
            let (mut state, turns) = (State::new(0), turns_of(1, Part::Whole));
            let mut receivers = Vec::new();
            let total: u32 = weights.iter().sum();
            for (at, weight) in (1_u128..).zip(&weights) {
                for _ in 0..total * 3 {
                    receivers.push(state.join(asker(at, *weight), &turns).unwrap());
                }
            }
            let mut turns: HashMap<Option<TenantId>, u32> = HashMap::new();
            for _ in 0..total * 2 {
                state.free = 1;
                let (tenant, _) = state.next(|_| 100).unwrap();
                *turns.entry(tenant).or_default() += 1;
                state.give_back(tenant);
            }
            for (at, weight) in (1_u128..).zip(&weights) {
                let had = turns.get(&asker(at, *weight).tenant).copied().unwrap_or_default();
                prop_assert!(had.abs_diff(weight * 2) <= 1, "weight {weight} had {had} of {}", total * 2);
            }
        }
    }
}
