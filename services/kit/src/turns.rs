//! Who has the next connection of a pool: tenants take turns, by the weight of their plans, and none holds more than
//! its part of the pool.
//!
//! Turns are dealt by stride scheduling (Waldspurger and Weihl, 1995): each turn moves its tenant's place in the order
//! by a stride that is the smaller the greater its weight, and the tenant that is furthest back comes next.
//! Invariant: nothing is remembered of a tenant that neither holds nor waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::ctx::Ctx;
use crate::ids::TenantId;

/// What one tenant holds at most of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// So much as its plan says, of a pool that many share.
    OfItsPlan,
    /// All of a pool that is for few.
    Whole,
}
/// The stride of weight 1.
const STRIDE: u64 = 1 << 16;

/// In whose name a connection is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// None for the service's own work, which no part bounds.
    tenant: Option<TenantId>,
    weight: u32,
    /// What it holds at most of a shared pool, in percent.
    percent: u32,
}

impl Asker {
    /// The service itself.
    pub(crate) const SERVICE: Self = Self {
        tenant: None,
        weight: 16,
        percent: 100,
    };

    /// The tenant of a call. What an event causes is the service's own work: a consumer has one transaction at a time,
    /// and the events of other tenants come behind it.
    pub(crate) fn of(ctx: &Ctx) -> Self {
        if ctx.method().is_empty() {
            return Self::SERVICE;
        }
        Self {
            tenant: Some(ctx.tenant()),
            weight: ctx.plan().weight(),
            percent: ctx.plan().percent(),
        }
    }
}

/// The turns of one pool.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    size: u32,
    part: Part,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: u32,
    /// Where the last turn stood in the order: whoever comes anew begins there, without credit for its absence.
    place: u64,
    lines: HashMap<Option<TenantId>, Line>,
}

/// One tenant's.
#[derive(Debug, Default)]
struct Line {
    held: u32,
    /// Where its next turn stands in the order.
    place: u64,
    waiting: VecDeque<(Asker, oneshot::Sender<Turn>)>,
}

/// The right to one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    tenant: Option<TenantId>,
}

impl Turns {
    /// Turns for `size` connections, of which one tenant holds at most its part.
    pub(crate) fn new(size: u32, part: Part) -> Self {
        let state = State {
            free: size,
            place: 0,
            lines: HashMap::new(),
        };
        Self {
            size,
            part,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Turns that nobody has.
    pub(crate) fn free(&self) -> u32 {
        self.state().free
    }

    /// Resolves when it is the asker's turn. Dropped before, it leaves the line.
    pub(crate) async fn next(&self, asker: Asker) -> Turn {
        let (sender, turn) = oneshot::channel();
        {
            let mut state = self.state();
            let place = state.place;
            let line = state.lines.entry(asker.tenant).or_insert_with(|| Line {
                place,
                ..Line::default()
            });
            line.waiting.push_back((asker, sender));
        }
        self.deal();
        match turn.await {
            Ok(turn) => turn,
            Err(_) => unreachable!("a line is dropped only when nobody waits in it"),
        }
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
                first.is_some_and(|(asker, _)| tenant.is_none() || line.held < holds(*asker))
            });
            let (tenant, _) = candidates.min_by_key(|(tenant, line)| (line.place, **tenant))?;
            let tenant = *tenant;
            let line = self.lines.get_mut(&tenant)?;
            let Some((asker, sender)) = line.waiting.pop_front() else {
                continue;
            };
            if sender.is_closed() {
                self.forget(tenant);
                continue;
            }
            self.place = self.place.max(line.place);
            line.place = self.place + STRIDE / u64::from(asker.weight.max(1));
            line.held += 1;
            self.free -= 1;
            return Some((tenant, sender));
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
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::plan::Plan;

    fn asker(tenant: u128, weight: u32) -> Asker {
        Asker {
            tenant: Some(TenantId::new(Uuid::from_u128(tenant))),
            weight,
            percent: 40,
        }
    }

    fn has_turn(turns: &Turns, asker: Asker) -> Option<Turn> {
        turns.next(asker).now_or_never()
    }

    #[test]
    fn a_tenant_holds_its_part_and_the_rest_is_for_others() {
        let turns = Turns::new(10, Part::OfItsPlan);
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
            let turns = Turns::new(10, part);
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
        let turns = Turns::new(5, Part::OfItsPlan);
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
        let turns = Turns::new(1, Part::OfItsPlan);
        let first = turns.next(asker(1, 4)).await;
        let mut gone = Box::pin(turns.next(asker(2, 4)));
        assert!((&mut gone).now_or_never().is_none());
        let mut waits = Box::pin(turns.next(asker(3, 4)));
        assert!((&mut waits).now_or_never().is_none());
        drop(gone);
        drop(first);
        let turn = waits.now_or_never().unwrap();
        assert_eq!(turn.tenant(), asker(3, 4).tenant);
        drop(turn);
        assert_eq!(turns.free(), 1);
        assert!(turns.state().lines.is_empty());
    }

    #[test]
    fn a_crowd_of_one_tenant_does_not_hold_up_another() {
        let turns = Turns::new(1, Part::OfItsPlan);
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

    proptest! {
        /// Over any stretch in which all wait, each has had turns by its weight, to within one.
        #[test]
        fn turns_go_by_weight(weights in proptest::collection::vec(prop_oneof![Just(1_u32), Just(4), Just(16)], 2..6)) {
            let mut state = State { free: 0, place: 0, lines: HashMap::new() };
            let mut receivers = Vec::new();
            let total: u32 = weights.iter().sum();
            for (at, weight) in (1_u128..).zip(&weights) {
                let mut line = Line::default();
                for _ in 0..total * 3 {
                    let (sender, receiver) = oneshot::channel();
                    line.waiting.push_back((asker(at, *weight), sender));
                    receivers.push(receiver);
                }
                state.lines.insert(asker(at, *weight).tenant, line);
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
