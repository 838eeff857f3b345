//! In which order turns are dealt, to whom, and who finds a place to wait in.

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

/// Turns that one tenant of a weight has among a hundred, while three others wait that have each come anew.
fn had_beside_a_row_of_others(weight: u32) -> usize {
    let (mut state, turns) = (State::new(0), turns_of(1, Part::Whole));
    let often = asker(1, weight);
    let mut receivers: Vec<_> = (0..100)
        .map(|_| state.join(often, &turns).unwrap())
        .collect();
    let mut others = 2..;
    let mut had = 0;
    for _ in 0..100 {
        while state.lines.len() < 4 {
            let other = asker(others.next().unwrap(), 4);
            receivers.push(state.join(other, &turns).unwrap());
        }
        state.free = 1;
        let (tenant, _) = state.next(|_| 100).unwrap();
        had += usize::from(tenant == often.tenant);
        state.give_back(tenant);
    }
    had
}

#[test]
fn a_row_of_tenants_that_call_once_does_not_pass_one_that_calls_often() {
    // Of 16, 28 and 13 parts.
    let had = [4, 16, 1].map(had_beside_a_row_of_others);
    for (had, expected) in had.into_iter().zip([25_usize, 57, 8]) {
        assert!(had.abs_diff(expected) <= 3, "{had} in place of {expected}");
    }
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
