//! The context of one authenticated and authorized call or one verified event.
//!
//! Invariant: a [`Ctx`] is made only by the gate, by a consumer or by the holder of an exempt database role,
//! so that whoever holds one has been let in; time, ids and the tenant come from it and from nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::ids::{Id, TenantId};
use crate::permission::Role;
use crate::plan::Plan;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person: the `sub` of a verified user token.
    User(String),
    /// A service of this deployment, by name: from a workload token, or itself when it acts on an event.
    Service(String),
}

impl Actor {
    /// `user` or `service`: the value of `ce-authtype` and of stored actor kinds.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Service(_) => "service",
        }
    }

    /// The subject or the service's name.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Service(id) => id,
        }
    }

    /// Reads the stored pair back; an unknown kind is a service that a newer version named.
    pub fn from_parts(kind: &str, id: &str) -> Self {
        if kind == "user" {
            Self::User(id.to_owned())
        } else {
            Self::Service(id.to_owned())
        }
    }
}

/// The source of time, replaceable by tests that need a fixed or an advancing one.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    fixed_micros: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now` until [`Clock::advance`] moves it.
    pub fn fixed(now: OffsetDateTime) -> Self {
        let micros = i64::try_from(now.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        Self {
            fixed_micros: Some(Arc::new(AtomicI64::new(micros))),
        }
    }

    /// Moves a fixed clock and all its clones; without effect on the system clock.
    pub fn advance(&self, by: time::Duration) {
        if let Some(fixed) = &self.fixed_micros {
            let micros = i64::try_from(by.whole_microseconds()).unwrap_or(i64::MAX);
            fixed.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// The instant, UTC, in the database's resolution of a microsecond: a value read back equals the one written.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn now(&self) -> OffsetDateTime {
        let micros = match &self.fixed_micros {
            Some(fixed) => i128::from(fixed.load(Ordering::SeqCst)),
            None => OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000,
        };
        OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// A new UUIDv7: ordered by time, 74 random bits.
    #[expect(clippy::disallowed_methods, reason = "the one id source")]
    pub fn new_uuid(&self) -> Uuid {
        match &self.fixed_micros {
            None => Uuid::now_v7(),
            Some(_) => {
                let now = self.now();
                let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
                Uuid::new_v7(uuid::Timestamp::from_unix(
                    uuid::NoContext,
                    seconds,
                    now.nanosecond(),
                ))
            }
        }
    }
}

/// Tenant, actor, roles, plan, deadline, time and ids of one call or one event.
#[derive(Clone, Debug)]
pub struct Ctx {
    tenant: TenantId,
    actor: Actor,
    roles: Arc<[Role]>,
    method: &'static str,
    request_id: Uuid,
    plan: Plan,
    deadline: Option<Instant>,
    clock: Clock,
}

impl Ctx {
    pub(crate) fn of_call(
        tenant: TenantId,
        actor: Actor,
        roles: Arc<[Role]>,
        method: &'static str,
        request_id: Uuid,
        clock: Clock,
    ) -> Self {
        Self {
            tenant,
            actor,
            roles,
            method,
            request_id,
            plan: Plan::default(),
            deadline: None,
            clock,
        }
    }

    /// The same call of a tenant with this plan, whose caller waits until `deadline`.
    pub(crate) fn within(self, plan: Plan, deadline: Option<Instant>) -> Self {
        Self {
            plan,
            deadline,
            ..self
        }
    }

    /// The context of an event that the consumer has verified, or of a task that an exempt role vouches for.
    pub(crate) fn of_event(tenant: TenantId, actor: Actor, clock: Clock) -> Self {
        Self {
            tenant,
            actor,
            roles: Arc::new([]),
            method: "",
            request_id: Uuid::nil(),
            plan: Plan::default(),
            deadline: None,
            clock,
        }
    }

    /// The same caller and call in a tenant that an exempt role vouches for.
    pub(crate) fn in_tenant(&self, tenant: TenantId) -> Self {
        Self {
            tenant,
            ..self.clone()
        }
    }

    /// The tenant whose rows this context may reach.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Who acts.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The full name of the RPC, `catalyst.projects.v1.ProjectService/GetProject`; empty for an event.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Names this call in logs; nil for an event, which has an id of its own.
    pub fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// How much of the deployment the tenant may use.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// When the caller stops waiting; none for a stream and for an event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the caller still waits, at most `limit`; nothing when it has stopped.
    pub(crate) fn remaining(&self, limit: Duration) -> Duration {
        self.deadline.map_or(limit, |deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .min(limit)
        })
    }

    /// The current instant, UTC, in microseconds.
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// A new id for an aggregate of kind `K`.
    pub fn new_id<K>(&self) -> Id<K> {
        Id::new(self.clock.new_uuid())
    }

    /// The clock and id source themselves, for tasks that outlive the call.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The subject whose own records alone this actor may reach: set when `consultant` is the strongest of its roles.
    /// Admins, managers, viewers and auditors, services and events are not restricted.
    pub fn restricted_to_subject(&self) -> Option<&str> {
        match &self.actor {
            Actor::User(subject)
                if self.roles.contains(&Role::Consultant)
                    && self.roles.iter().all(|role| *role == Role::Consultant) =>
            {
                Some(subject)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx(roles: &[Role]) -> Ctx {
        Ctx::of_call(
            TenantId::NONE,
            Actor::User("kim".into()),
            roles.into(),
            "",
            Uuid::nil(),
            Clock::system(),
        )
    }

    #[test]
    fn only_the_bare_consultant_role_is_restricted_to_its_own_subject() {
        assert_eq!(
            ctx(&[Role::Consultant]).restricted_to_subject(),
            Some("kim")
        );
        assert_eq!(
            ctx(&[Role::Consultant, Role::Manager]).restricted_to_subject(),
            None
        );
        assert_eq!(ctx(&[Role::Viewer]).restricted_to_subject(), None);
        assert_eq!(ctx(&[]).restricted_to_subject(), None);
    }

    #[test]
    fn a_fixed_clock_stands_until_it_is_advanced() {
        let clock = Clock::fixed(OffsetDateTime::UNIX_EPOCH);
        let copy = clock.clone();
        clock.advance(time::Duration::seconds(90));
        assert_eq!(
            copy.now(),
            OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(90)
        );
    }
}
