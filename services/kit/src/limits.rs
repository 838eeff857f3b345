//! What one tenant may ask of a process: calls a second, and calls at the same time, by its plan.
//!
//! A large answer counts as several calls, or a tenant could have a hundred times of the process what another has and be
//! within the same limit. What it counts is known when it has been sent, so the next call of the tenant pays for it.
//! A plan that changes takes effect with the next call. Invariant: nothing is kept of a tenant that is quiet.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::ids::TenantId;
use crate::plan::Plan;
use crate::settings::LimitSettings;

/// When a call that met too many others of its tenant may be worth repeating.
const SOON: Duration = Duration::from_millis(100);

/// An answer counts as one call, and as one more for so many bytes of it: a page of fifty is one call.
pub(crate) const BYTES_OF_A_CALL: usize = 8 * 1024;
/// After this time a tenant owes nothing: a call pays a second of its limit at most, and its next second comes on top.
const PAID_AFTER: Duration = Duration::from_secs(2);

/// The limits of one process. A clone is of the same process.
#[derive(Clone)]
pub(crate) struct Limits {
    settings: LimitSettings,
    /// A limiter for each plan, in their order: a tenant whose plan changes begins anew in another one.
    rates: Arc<[DefaultKeyedRateLimiter<TenantId>; 3]>,
    at_work: AtWork,
}

type AtWork = Arc<Mutex<HashMap<TenantId, Work>>>;

/// What a tenant has at work, and what it has had.
#[derive(Debug, Default)]
struct Work {
    calls: u32,
    /// Calls that its answers count beyond those that were let in.
    owed: u32,
    /// When it came to owe the last of them.
    since: Option<Instant>,
}

impl Work {
    fn is_nothing(&self) -> bool {
        self.calls == 0 && self.owes() == 0
    }

    fn owes(&self) -> u32 {
        let is_due = |since: Instant| since.elapsed() <= PAID_AFTER;
        if self.since.is_some_and(is_due) {
            self.owed
        } else {
            0
        }
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
    tenant: TenantId,
    at_work: AtWork,
}

/// Where the answer to a call is charged.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    tenant: TenantId,
    at_work: AtWork,
}

impl Limits {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        let rates = Plan::ALL.map(|plan| {
            let limit = plan.scaled(settings.tenant_calls_per_second);
            DefaultKeyedRateLimiter::keyed(Quota::per_second(limit))
        });
        Self {
            settings,
            rates: Arc::new(rates),
            at_work: Arc::default(),
        }
    }

    /// Lets a call of the tenant in, or says what it has too much of.
    pub(crate) fn admit(&self, tenant: TenantId, plan: Plan) -> Result<Seat, Exceeded> {
        let [small, standard, large] = &*self.rates;
        let rate = match plan {
            Plan::Small => small,
            Plan::Standard => standard,
            Plan::Large => large,
        };
        let limit = plan.scaled(self.settings.tenant_calls_per_second);
        let mut at_work = lock(&self.at_work);
        let owed = at_work.get(&tenant).map_or(0, Work::owes);
        // More than the burst is never there.
        let counts = NonZeroU32::MIN.saturating_add(owed).min(limit);
        if let Ok(Err(refused)) = rate.check_key_n(&tenant, counts) {
            // The limiter's own clock: to make one asks the processor what it is, which a virtual machine answers slowly
            // (5 % of the services' processor time, measured with 780 refusals a second).
            let now = rate.clock().now();
            return Err(Exceeded {
                kind: Limit::Rate,
                limit,
                wait: refused.wait_time_from(now),
            });
        }
        let work = at_work.entry(tenant).or_default();
        (work.owed, work.since) = (0, None);
        let limit = plan.scaled(self.settings.tenant_concurrent_calls);
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
            tenant,
            at_work: Arc::clone(&self.at_work),
        })
    }

    /// Forgets tenants that have been quiet, so that state stays bounded by the busy ones.
    pub(crate) fn forget_quiet(&self) {
        for rate in self.rates.iter() {
            rate.retain_recent();
        }
        lock(&self.at_work).retain(|_, work| !work.is_nothing());
    }
}

impl Seat {
    pub(crate) fn bill(&self) -> Bill {
        Bill {
            tenant: self.tenant,
            at_work: Arc::clone(&self.at_work),
        }
    }
}

impl Bill {
    /// Notes that an answer counts as so many calls beyond the one that was let in.
    pub(crate) fn charge(&self, calls: usize) {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        let mut at_work = lock(&self.at_work);
        let work = at_work.entry(self.tenant).or_default();
        work.owed = work.owes().saturating_add(calls);
        work.since = Some(Instant::now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut at_work = lock(&self.at_work);
        if let Some(work) = at_work.get_mut(&self.tenant) {
            work.calls -= 1;
            if work.is_nothing() {
                at_work.remove(&self.tenant);
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
        assert_eq!(lock(&limits.at_work).len(), 1);
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
    fn a_large_answer_is_paid_by_the_next_call_and_costs_no_more_than_a_second() {
        let limits = limits(5, 9);
        let admit = || limits.admit(TenantId::PLATFORM, Plan::Standard);
        // Of a burst of five: one, then twice one and what the answer before counts.
        for _ in 0..2 {
            let seat = admit().unwrap();
            seat.bill().charge(1);
        }
        assert!(admit().is_ok());
        assert_eq!(admit().unwrap_err().kind, Limit::Rate);
        let other = || limits.admit(TenantId::NONE, Plan::Standard);
        let huge = other().unwrap();
        huge.bill().charge(usize::MAX);
        drop(huge);
        let exceeded = other().unwrap_err();
        assert!(exceeded.wait <= Duration::from_secs(1), "{exceeded:?}");
    }

    #[test]
    fn what_is_owed_is_kept_for_as_long_as_it_would_take_to_pay() {
        let limits = limits(10, 9);
        let seat = limits.admit(TenantId::PLATFORM, Plan::Standard).unwrap();
        let bill = seat.bill();
        drop(seat);
        assert!(lock(&limits.at_work).is_empty());
        bill.charge(1);
        limits.forget_quiet();
        assert_eq!(lock(&limits.at_work).len(), 1);
        if let Some(work) = lock(&limits.at_work).get_mut(&TenantId::PLATFORM) {
            work.since = Instant::now().checked_sub(PAID_AFTER + Duration::from_millis(1));
            assert_eq!((work.owed, work.owes()), (1, 0));
        }
        limits.forget_quiet();
        assert!(lock(&limits.at_work).is_empty());
    }
}
