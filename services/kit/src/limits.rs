//! What one tenant may ask of a process: calls a second, and calls at the same time, by its plan.
//!
//! A large answer counts as several calls, or a tenant could have a hundred times of the process what another has and be
//! within the same limit. What it counts is known when it is sent, so the calls that come after it pay.
//! Calls are counted by virtual scheduling (ITU-T I.371, the generic cell rate algorithm): of a tenant one instant is kept,
//! at which all that it has asked for is paid, and it may be ahead of it by a second. (A limiter that keeps what is left
//! has no room for a debt: it would be forgiven, or be paid once by time and once by calls.)
//! A plan that changes takes effect with the next call, which begins anew. Invariant: nothing is kept of a tenant that is
//! quiet.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::arrival::MAX_CALLS;
use crate::ids::TenantId;
use crate::plan::Plan;
use crate::settings::LimitSettings;

/// When a call that met too many others of its tenant may be worth repeating.
const SOON: Duration = Duration::from_millis(100);

/// An answer counts as one call, and as one more for so many bytes of it: a page of fifty is one call.
const BYTES_OF_A_CALL: usize = 8 * 1024;
/// The most calls that one tenant has at work, whatever is set: half of those that the process works on.
const MOST_AT_WORK: NonZeroU32 = NonZeroU32::new(512).unwrap();
const _: () = assert!(MOST_AT_WORK.get() as usize * 2 == MAX_CALLS);
/// How far a tenant may be ahead of what it has paid when it calls: a second of its limit at once.
const BURST: Duration = Duration::from_secs(1);
/// How far a stream may be, which waits otherwise: the rest is for calls.
const STREAM_BURST: Duration = Duration::from_millis(500);
/// The most that a tenant comes to owe, however many large answers it has asked for at once.
const MOST_OWED: Duration = Duration::from_secs(10);

/// The limits of one process. A clone is of the same process.
#[derive(Clone)]
pub(crate) struct Limits {
    settings: LimitSettings,
    at_work: AtWork,
}

type AtWork = Arc<Mutex<HashMap<TenantId, Work>>>;

/// What a tenant has at work, and what it has had.
#[derive(Debug)]
struct Work {
    calls: u32,
    plan: Plan,
    /// When all that it has asked for is paid.
    paid_at: Instant,
}

impl Work {
    fn new(plan: Plan) -> Self {
        Self {
            calls: 0,
            plan,
            paid_at: Instant::now(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.calls == 0 && self.is_ahead_by().is_zero()
    }

    fn is_ahead_by(&self) -> Duration {
        self.paid_at.saturating_duration_since(Instant::now())
    }

    /// Counts calls, each of which is paid by so much time.
    fn owes(&mut self, calls: u32, each: Duration) {
        let now = Instant::now();
        let owed = self.is_ahead_by() + each.saturating_mul(calls);
        self.paid_at = now + owed.min(BURST + MOST_OWED);
    }
}

/// Why a call is not let in, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) kind: Limit,
    /// What the tenant may do.
    pub(crate) limit: NonZeroU32,
    /// When to call again.
    pub(crate) wait: Duration,
}

/// What there is a limit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Calls a second.
    Rate,
    /// Calls at the same time.
    Concurrency,
}

/// One call of a tenant among those at work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    bill: Bill,
}

/// Where the answer to a call is charged.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    tenant: TenantId,
    plan: Plan,
    /// The time that pays for a call.
    each: Duration,
    at_work: AtWork,
}

impl Limits {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        Self {
            settings,
            at_work: Arc::default(),
        }
    }

    /// Lets a call of the tenant in, or says what it has too much of.
    pub(crate) fn admit(&self, tenant: TenantId, plan: Plan) -> Result<Seat, Exceeded> {
        let limit = plan.scaled(self.settings.tenant_calls_per_second);
        let each = Duration::from_secs(1) / limit.get();
        let mut at_work = lock(&self.at_work);
        let work = at_work.entry(tenant).or_insert_with(|| Work::new(plan));
        if work.plan != plan {
            *work = Work {
                calls: work.calls,
                ..Work::new(plan)
            };
        }
        let too_far = (work.is_ahead_by() + each).saturating_sub(BURST);
        if !too_far.is_zero() {
            return Err(Exceeded {
                kind: Limit::Rate,
                limit,
                wait: too_far,
            });
        }
        work.owes(1, each);
        let limit = plan.scaled(self.settings.tenant_concurrent_calls);
        let limit = limit.min(MOST_AT_WORK);
        if work.calls >= limit.get() {
            return Err(Exceeded {
                kind: Limit::Concurrency,
                limit,
                wait: SOON,
            });
        }
        work.calls += 1;
        drop(at_work);
        Ok(Seat {
            bill: Bill {
                tenant,
                plan,
                each,
                at_work: Arc::clone(&self.at_work),
            },
        })
    }

    /// Forgets tenants that have been quiet, so that state stays bounded by the busy ones.
    pub(crate) fn forget_quiet(&self) {
        lock(&self.at_work).retain(|_, work| !work.is_nothing());
    }
}

impl Seat {
    pub(crate) fn bill(&self) -> Bill {
        self.bill.clone()
    }
}

impl Bill {
    /// Counts what of an answer was sent, of which so many bytes had been sent before.
    pub(crate) fn charge(&self, before: usize, bytes: usize) {
        let calls = (before + bytes) / BYTES_OF_A_CALL - before / BYTES_OF_A_CALL;
        if calls == 0 {
            return;
        }
        let mut at_work = lock(&self.at_work);
        let work = at_work
            .entry(self.tenant)
            .or_insert_with(|| Work::new(self.plan));
        work.owes(u32::try_from(calls).unwrap_or(u32::MAX), self.each);
    }

    /// How long a stream waits with its next piece, so that its tenant's calls are let in beside it.
    pub(crate) fn pause(&self) -> Duration {
        let at_work = lock(&self.at_work);
        let ahead = at_work.get(&self.tenant).map(Work::is_ahead_by);
        ahead.unwrap_or_default().saturating_sub(STREAM_BURST)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Bill {
            tenant, at_work, ..
        } = &self.bill;
        let mut at_work = lock(at_work);
        if let Some(work) = at_work.get_mut(tenant) {
            work.calls -= 1;
            if work.is_nothing() {
                at_work.remove(tenant);
            }
        }
    }
}

impl Limit {
    /// As it stands in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
        }
    }
}

fn lock(at_work: &Mutex<HashMap<TenantId, Work>>) -> MutexGuard<'_, HashMap<TenantId, Work>> {
    at_work.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: u32, concurrent: u32) -> Limits {
        Limits::new(LimitSettings {
            tenant_calls_per_second: NonZeroU32::new(rate).unwrap(),
            tenant_concurrent_calls: NonZeroU32::new(concurrent).unwrap(),
        })
    }

    #[test]
    fn one_tenant_has_half_of_the_process_at_most_whatever_is_set() {
        let limits = limits(u32::MAX, u32::MAX);
        let admit = || limits.admit(TenantId::PLATFORM, Plan::Large);
        let seats: Vec<_> = std::iter::repeat_with(admit)
            .map_while(Result::ok)
            .collect();
        assert_eq!(seats.len(), MAX_CALLS / 2);
        assert!(limits.admit(TenantId::NONE, Plan::Small).is_ok());
    }

    #[test]
    fn a_tenant_over_its_rate_waits_and_no_other_does() {
        let limits = limits(1, 9);
        drop(limits.admit(TenantId::PLATFORM, Plan::Standard).unwrap());
        let exceeded = limits
            .admit(TenantId::PLATFORM, Plan::Standard)
            .unwrap_err();
        assert_eq!(exceeded.kind, Limit::Rate);
        assert!(exceeded.wait <= Duration::from_secs(1));
        drop(limits.admit(TenantId::NONE, Plan::Standard).unwrap());
    }

    #[test]
    fn a_tenant_with_too_many_calls_at_work_waits_until_one_ends() {
        let limits = limits(1_000, 2);
        let admit = |tenant| limits.admit(tenant, Plan::Standard);
        let first = admit(TenantId::PLATFORM).unwrap();
        let _second = admit(TenantId::PLATFORM).unwrap();
        let exceeded = admit(TenantId::PLATFORM).unwrap_err();
        assert_eq!(
            (exceeded.kind, exceeded.limit.get()),
            (Limit::Concurrency, 2)
        );
        drop(admit(TenantId::NONE).unwrap());
        drop(first);
        drop(admit(TenantId::PLATFORM).unwrap());
        let at_work = lock(&limits.at_work);
        assert_eq!(at_work.values().map(|it| it.calls).sum::<u32>(), 1);
    }

    #[test]
    fn a_plan_scales_both_limits_from_the_next_call_on() {
        let limits = limits(4, 4);
        let held: Vec<_> = (0..4)
            .map(|_| limits.admit(TenantId::NONE, Plan::Standard).unwrap())
            .collect();
        let exceeded = |plan| limits.admit(TenantId::NONE, plan).unwrap_err();
        assert_eq!(exceeded(Plan::Standard).kind, Limit::Rate);
        assert_eq!(exceeded(Plan::Small).kind, Limit::Concurrency);
        assert!(limits.admit(TenantId::NONE, Plan::Large).is_ok());
        drop(held);
    }

    #[test]
    fn a_large_answer_is_paid_by_the_calls_after_it_and_not_forgiven() {
        let limits = limits(5, 9);
        let admit = || limits.admit(TenantId::PLATFORM, Plan::Standard);
        // Of five at once: one, then twice one and what the answer before counts.
        for _ in 0..2 {
            let seat = admit().unwrap();
            seat.bill().charge(0, BYTES_OF_A_CALL);
        }
        assert!(admit().is_ok());
        assert_eq!(admit().unwrap_err().kind, Limit::Rate);
        // Many at once, all let in before one of them counts.
        let other = || limits.admit(TenantId::NONE, Plan::Standard);
        let seats = [(); 2].map(|()| other().unwrap());
        for seat in &seats {
            seat.bill().charge(0, 10 * BYTES_OF_A_CALL);
        }
        let wait = other().unwrap_err().wait.as_secs_f64();
        assert!((1.6..=3.6).contains(&wait), "{wait}");
        seats[0].bill().charge(0, usize::MAX / 2);
        assert!(other().unwrap_err().wait <= MOST_OWED + Duration::from_millis(200));
    }

    #[test]
    fn what_an_answer_counts_is_the_same_in_pieces() {
        let limits = limits(1, 9);
        let bill = limits.admit(TenantId::NONE, Plan::Standard).unwrap().bill();
        let (mut sent, piece) = (0, BYTES_OF_A_CALL / 3);
        for _ in 0..10 {
            bill.charge(sent, piece);
            sent += piece;
        }
        // The call, and three more.
        let at_work = lock(&limits.at_work);
        let ahead = at_work[&TenantId::NONE].is_ahead_by().as_secs_f64();
        assert!((3.1..=4.0).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_stream_waits_where_a_call_is_let_in() {
        let limits = limits(10, 9);
        let admit = || limits.admit(TenantId::NONE, Plan::Standard);
        let bill = admit().unwrap().bill();
        assert_eq!(bill.pause(), Duration::ZERO);
        bill.charge(0, 8 * BYTES_OF_A_CALL);
        assert!(!bill.pause().is_zero());
        assert!(admit().is_ok());
    }

    #[test]
    fn a_tenant_is_forgotten_when_all_is_paid() {
        let limits = limits(10, 9);
        let seat = limits.admit(TenantId::PLATFORM, Plan::Standard).unwrap();
        let bill = seat.bill();
        drop(seat);
        bill.charge(0, BYTES_OF_A_CALL);
        limits.forget_quiet();
        assert_eq!(lock(&limits.at_work).len(), 1);
        if let Some(work) = lock(&limits.at_work).get_mut(&TenantId::PLATFORM) {
            work.paid_at = Instant::now();
        }
        limits.forget_quiet();
        assert!(lock(&limits.at_work).is_empty());
    }
}
