//! What one tenant may ask of a process: calls a second, and calls at the same time, by its plan.
//!
//! A plan that changes takes effect with the next call. Invariant: nothing is kept of a tenant that is quiet.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::ids::TenantId;
use crate::plan::Plan;
use crate::settings::LimitSettings;

/// When a call that met too many others of its tenant may be worth repeating.
const SOON: Duration = Duration::from_millis(100);

/// The limits of one process. A clone is of the same process.
#[derive(Clone)]
pub(crate) struct Limits {
    settings: LimitSettings,
    /// A limiter for each plan, in their order: a tenant whose plan changes begins anew in another one.
    rates: Arc<[DefaultKeyedRateLimiter<TenantId>; 3]>,
    at_work: Arc<Mutex<HashMap<TenantId, u32>>>,
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
    at_work: Arc<Mutex<HashMap<TenantId, u32>>>,
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
        if let Err(refused) = rate.check_key(&tenant) {
            // The limiter's own clock: to make one asks the processor what it is, which a virtual machine answers slowly
            // (100 us a refusal, measured).
            let now = rate.clock().now();
            return Err(Exceeded {
                kind: Limit::Rate,
                limit: plan.scaled(self.settings.tenant_calls_per_second),
                wait: refused.wait_time_from(now),
            });
        }
        let limit = plan.scaled(self.settings.tenant_concurrent_calls);
        let mut at_work = lock(&self.at_work);
        let calls = at_work.entry(tenant).or_default();
        if *calls >= limit.get() {
            return Err(Exceeded {
                kind: Limit::Concurrency,
                limit,
                wait: SOON,
            });
        }
        *calls += 1;
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
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut at_work = lock(&self.at_work);
        if let Some(calls) = at_work.get_mut(&self.tenant) {
            *calls -= 1;
            if *calls == 0 {
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

fn lock(at_work: &Mutex<HashMap<TenantId, u32>>) -> MutexGuard<'_, HashMap<TenantId, u32>> {
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
}
