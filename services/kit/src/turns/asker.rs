//! Who asks for a turn.

use crate::class::Class;
use crate::ctx::Ctx;
use crate::ids::TenantId;
use crate::plan::Plan;

/// The stride of weight 1: much more than the weights of all tenants together.
pub(super) const STRIDE: u64 = 1 << 24;

/// In whose name a connection is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// None for the service's own work, which no part bounds.
    pub(super) tenant: Option<TenantId>,
    pub(super) weight: u32,
    /// What it holds at most of a shared pool, in percent.
    pub(super) percent: u32,
    pub(super) class: Class,
}

impl Asker {
    /// The service itself.
    pub(crate) const SERVICE: Self = Self {
        tenant: None,
        weight: 16,
        percent: 100,
        class: Class::Health,
    };

    /// The tenant of a call. What an event causes is the service's own work: a consumer has one transaction at a time,
    /// and the events of other tenants come behind it.
    pub(crate) fn of(ctx: &Ctx) -> Self {
        if ctx.method().is_empty() {
            return Self::SERVICE;
        }
        Self::of_call(ctx.tenant(), ctx.plan(), Class::of(ctx.method()))
    }

    /// The tenant of a call, with its plan, for work of a class.
    pub(crate) fn of_call(tenant: TenantId, plan: Plan, class: Class) -> Self {
        Self {
            tenant: Some(tenant),
            weight: plan.weight(),
            percent: plan.percent(),
            class,
        }
    }

    /// Whether it may be told that there is no place to wait in: not the service, nor the operators, who are few and come
    /// to help.
    pub(super) fn is_bounded(self) -> bool {
        self.tenant
            .is_some_and(|tenant| tenant != TenantId::PLATFORM)
    }

    pub(super) fn stride(self) -> u64 {
        stride(self.weight)
    }
}

/// How far a turn of this weight moves.
pub(super) fn stride(weight: u32) -> u64 {
    STRIDE / u64::from(weight.max(1))
}
