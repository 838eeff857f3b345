//! The gate: from a request's metadata to a [`Ctx`], or to a refusal that is on record before the caller has it.
//!
//! Order of checks: token, tenant metadata, suspension, role, limits. All of it before the first row is read, so that a
//! refusal depends on token, metadata, tenant state and role alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::KeyValue;
use proto::common::v1::{
    AuthenticationFailure, ErrorReason, PermissionDenied, ServiceIdentityMisused,
    ServiceIdentityProblem, Severity, SuspendedTenantRefused, TenantMetadataProblem,
    TenantMetadataTampered, TenantMismatchDetected,
};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::ctx::{Actor, Clock, Ctx};
use crate::directory::Directory;
use crate::error::{ServiceError, Verdict};
use crate::ids::TenantId;
use crate::limits::{Exceeded, Limit, Limits, Seat};
use crate::permission::{Allows, Permission, Role, Rpc};
use crate::plan::Plan;
use crate::security::{SecurityLog, Unverified};
use crate::server::Called;
use crate::telemetry::METRICS;
use crate::token::{Principal, Verifier};

/// How long a call of a tenant that this process has never heard of waits for the news of its creation, so that
/// "create a tenant, at once call in its name" works.
const NEWS: Duration = Duration::from_secs(1);

/// Lets callers in.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) directory: Directory,
    pub(crate) security: SecurityLog,
    pub(crate) clock: Clock,
    pub(crate) table: &'static [Rpc],
    pub(crate) limits: Limits,
}

impl Gate {
    /// Lets the call in as the permission says. Every refusal of a verified tenant is committed before it is returned.
    pub(crate) async fn authorize<T>(
        &self,
        request: &Request<T>,
        permission: &Permission,
    ) -> Result<Ctx, Status> {
        let called = request
            .extensions()
            .get::<Called>()
            .ok_or_else(|| internal("the server's layer is missing"))?;
        // The handler's own words and the table must agree; a mismatch is a fault of ours and lets nobody in.
        let rpc = self
            .table
            .iter()
            .find(|rpc| *rpc.method == *called.method && rpc.permission == *permission)
            .ok_or_else(|| internal("the handler's permission is not the one of the role table"))?;

        let headers = request.metadata().as_ref();
        let principal = match self.authenticate(headers).await {
            Ok(principal) => principal,
            Err(failure) => return Err(self.unauthenticated(called.peer, failure)),
        };
        let tenant = principal.tenant();
        tracing::Span::current().record("tenant.id", tracing::field::display(tenant));
        called.place.is_of(tenant);
        let actor = match &principal {
            Principal::User { subject, .. } => Actor::User(subject.to_string()),
            Principal::Service { service, .. } => Actor::Service(service.to_string()),
        };
        self.check_metadata(headers, tenant, &actor, rpc.method)
            .await?;
        self.check_active(tenant, &actor, rpc.method).await?;
        let roles = self.check_role(&principal, &actor, rpc).await?;
        let plan = self.directory.plan(tenant);
        let seat = self.check_limits(tenant, plan, &actor, rpc.method)?;
        called.place.keep(seat);
        let ctx = Ctx::of_call(
            tenant,
            actor,
            roles,
            rpc.method,
            called.request_id,
            self.clock.clone(),
        );
        Ok(ctx.within(plan, called.deadline))
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthenticationFailure> {
        self.verifier.verify(bearer(headers)?).await
    }

    /// One constant answer for every failure of authentication.
    fn unauthenticated(&self, peer: Option<IpAddr>, failure: AuthenticationFailure) -> Status {
        self.security
            .count_unverified(peer, Unverified::Token(failure));
        let message = "a valid bearer token is required";
        Verdict::new(Code::Unauthenticated, ErrorReason::Unauthenticated, message).into_status()
    }

    async fn check_metadata(
        &self,
        headers: &HeaderMap,
        tenant: TenantId,
        actor: &Actor,
        method: &str,
    ) -> Result<(), Status> {
        match claimed_tenant(headers) {
            Ok(claimed) if claimed == tenant => Ok(()),
            Ok(claimed) => {
                let event = TenantMismatchDetected {
                    severity: Severity::High.into(),
                    claimed_tenant_id: claimed.to_string(),
                    method: method.to_owned(),
                };
                self.on_record(tenant, actor, &event).await?;
                let message = "metadata x-tenant-id does not name the tenant of the token";
                Err(
                    Verdict::new(Code::PermissionDenied, ErrorReason::TenantMismatch, message)
                        .into_status(),
                )
            }
            Err(problem) => {
                if problem != TenantMetadataProblem::Missing {
                    let severity = if names_another(headers, tenant) {
                        Severity::High
                    } else {
                        Severity::Medium
                    };
                    let event = TenantMetadataTampered {
                        severity: severity.into(),
                        problem: problem.into(),
                        method: method.to_owned(),
                    };
                    self.on_record(tenant, actor, &event).await?;
                }
                let message = "metadata x-tenant-id must be sent exactly once, as a lowercase hyphenated UUID";
                Err(Verdict::new(
                    Code::InvalidArgument,
                    ErrorReason::TenantMetadataInvalid,
                    message,
                )
                .into_status())
            }
        }
    }

    async fn check_active(
        &self,
        tenant: TenantId,
        actor: &Actor,
        method: &str,
    ) -> Result<(), Status> {
        if self.directory.is_active(tenant) {
            return Ok(());
        }
        self.directory.becomes_known(tenant, NEWS).await;
        if self.directory.is_active(tenant) {
            return Ok(());
        }
        let event = SuspendedTenantRefused {
            severity: Severity::Medium.into(),
            method: method.to_owned(),
        };
        self.on_record(tenant, actor, &event).await?;
        Err(not_active())
    }

    async fn check_role(
        &self,
        principal: &Principal,
        actor: &Actor,
        rpc: &Rpc,
    ) -> Result<Arc<[Role]>, Status> {
        if is_let_in(principal, rpc) {
            return Ok(match principal {
                Principal::User { roles, .. } => Arc::clone(roles),
                Principal::Service { .. } => [].into(),
            });
        }
        let misuse = match (principal, rpc.permission.allows) {
            (Principal::User { .. }, Allows::Roles(_) | Allows::Operator) => None,
            (Principal::Service { service, .. }, Allows::Services(_)) => Some((
                ServiceIdentityProblem::ServiceNotAllowed,
                service.to_string(),
            )),
            (Principal::User { .. }, Allows::Services(_)) => {
                Some((ServiceIdentityProblem::UserOnInternalMethod, String::new()))
            }
            (Principal::Service { service, .. }, Allows::Roles(_) | Allows::Operator) => Some((
                ServiceIdentityProblem::ServiceOnUserMethod,
                service.to_string(),
            )),
        };
        let tenant = principal.tenant();
        match misuse {
            Some((problem, service)) => {
                let event = ServiceIdentityMisused {
                    severity: Severity::High.into(),
                    problem: problem.into(),
                    service,
                    method: rpc.method.to_owned(),
                };
                self.on_record(tenant, actor, &event).await?;
            }
            None => {
                let control_plane = rpc.permission.allows == Allows::Operator;
                let event = PermissionDenied {
                    severity: if control_plane {
                        Severity::Medium
                    } else {
                        Severity::Low
                    }
                    .into(),
                    permission: rpc.permission.name.to_owned(),
                    method: rpc.method.to_owned(),
                };
                self.on_record(tenant, actor, &event).await?;
            }
        }
        let message = "no role of the caller grants the permission that this method needs";
        Err(Verdict::new(
            Code::PermissionDenied,
            ErrorReason::PermissionDenied,
            message,
        )
        .with("permission", &rpc.permission.name)
        .into_status())
    }

    fn check_limits(
        &self,
        tenant: TenantId,
        plan: Plan,
        actor: &Actor,
        method: &'static str,
    ) -> Result<Seat, Status> {
        self.limits.admit(tenant, plan).map_err(|exceeded| {
            let labels = [
                KeyValue::new("rpc.method", method),
                KeyValue::new("limit", exceeded.kind.name()),
            ];
            METRICS.limited.add(1, &labels);
            self.security.count_limited(tenant, actor, method);
            limited(tenant, &exceeded)
        })
    }

    /// Commits the event; a refusal that cannot be recorded becomes UNAVAILABLE.
    async fn on_record<M>(&self, tenant: TenantId, actor: &Actor, event: &M) -> Result<(), Status>
    where
        M: prost::Message + prost::Name,
    {
        self.security
            .record(tenant, actor.clone(), event)
            .await
            .map_err(|error| error.verdict().into_status())
    }
}

/// Whether the permission of the method allows the principal.
pub(crate) fn is_let_in(principal: &Principal, rpc: &Rpc) -> bool {
    let platform = principal.tenant() == TenantId::PLATFORM;
    match (principal, rpc.permission.allows) {
        (Principal::User { roles, .. }, Allows::Roles(allowed)) => {
            !platform && roles.iter().any(|role| allowed.contains(role))
        }
        (Principal::User { roles, .. }, Allows::Operator) => {
            platform && roles.contains(&Role::PlatformOperator)
        }
        (Principal::Service { service, .. }, Allows::Services(allowed)) => {
            allowed.contains(&&**service)
        }
        (Principal::User { .. }, Allows::Services(_))
        | (Principal::Service { .. }, Allows::Roles(_) | Allows::Operator) => false,
    }
}

/// PERMISSION_DENIED for a tenant that may not use the deployment, whether suspended or unknown.
pub(crate) fn not_active() -> Status {
    let message = "the tenant is not active";
    Verdict::new(
        Code::PermissionDenied,
        ErrorReason::TenantNotActive,
        message,
    )
    .into_status()
}

/// RESOURCE_EXHAUSTED for a tenant that asks for more than its plan lets it.
fn limited(tenant: TenantId, exceeded: &Exceeded) -> Status {
    let limit = exceeded.limit;
    let (reason, message, quota) = match exceeded.kind {
        Limit::Rate => (
            ErrorReason::RateLimited,
            "the tenant asks for more than it may; a large answer counts as several calls",
            format!("{limit} calls a second in each process"),
        ),
        Limit::Concurrency => (
            ErrorReason::ConcurrencyLimited,
            "the tenant has as many calls at work as it may",
            format!("{limit} calls at the same time in each process"),
        ),
    };
    Verdict::new(Code::ResourceExhausted, reason, message)
        .over_quota(format!("tenant:{tenant}"), quota)
        .retry_after(exceeded.wait)
        .into_status()
}

fn internal(why: &str) -> Status {
    tracing::error!(
        error = why,
        "a call was refused for a fault of this service"
    );
    crate::Error::internal(why).verdict().into_status()
}

/// The token that the call brings.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, AuthenticationFailure> {
    let mut values = headers.get_all("authorization").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(AuthenticationFailure::Missing);
    };
    token_in(value)
}

/// The token of one `authorization`.
pub(crate) fn token_in(value: &http::HeaderValue) -> Result<&str, AuthenticationFailure> {
    let value = value
        .to_str()
        .map_err(|_| AuthenticationFailure::Malformed)?;
    let (scheme, token) = value
        .split_once(' ')
        .ok_or(AuthenticationFailure::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthenticationFailure::Malformed);
    }
    Ok(token)
}

/// The tenant that the metadata names: exactly one plain value in the one accepted form.
pub(crate) fn claimed_tenant(headers: &HeaderMap) -> Result<TenantId, TenantMetadataProblem> {
    let mut values = headers.get_all("x-tenant-id").iter();
    let twin = headers.contains_key("x-tenant-id-bin");
    match (values.next(), values.next(), twin) {
        (None, _, false) => Err(TenantMetadataProblem::Missing),
        (Some(value), None, false) => value
            .to_str()
            .ok()
            .and_then(TenantId::parse_strict)
            .ok_or(TenantMetadataProblem::Malformed),
        _ => Err(TenantMetadataProblem::Repeated),
    }
}

/// Whether refused tenant metadata has an id of another tenant in it, in whatever spelling: a mistake repeats or misspells
/// the own one.
fn names_another(headers: &HeaderMap, tenant: TenantId) -> bool {
    let plain = headers
        .get_all("x-tenant-id")
        .iter()
        .map(|value| value.as_bytes().to_vec());
    let metadata = MetadataMap::from_headers(headers.clone());
    let binary = metadata
        .get_all_bin("x-tenant-id-bin")
        .iter()
        .filter_map(|value| value.to_bytes().ok())
        .map(|bytes| bytes.to_vec());
    plain.chain(binary).any(|value| {
        uuid::Uuid::from_slice(&value).is_ok_and(|id| id != tenant.uuid())
            || String::from_utf8_lossy(&value)
                .split(|c: char| c == ',' || c.is_whitespace())
                .filter_map(|word| uuid::Uuid::try_parse(word).ok())
                .any(|id| !id.is_nil() && id != tenant.uuid())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tampered_metadata_is_worse_when_it_names_another_tenant() {
        let own = TenantId::PLATFORM;
        let other = "0190b5a2-7c1e-7d4f-8a3b-5c6d7e8f9a0b";
        let named = |values: &[&str]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append("x-tenant-id", value.parse().unwrap());
            }
            names_another(metadata.as_ref(), own)
        };
        let own_text = own.to_string();
        assert!(!named(&[&own_text, &own_text]));
        assert!(!named(&[&own_text.replace('-', "")]));
        assert!(!named(&[
            "acme",
            "",
            "00000000-0000-0000-0000-000000000000"
        ]));
        assert!(named(&[&own_text, other]));
        assert!(named(&[other, &own_text]));
        assert!(named(&[&format!("{own_text}, {other}")]));
        assert!(named(&[&other.to_uppercase()]));
        assert!(named(&[&other.replace('-', "")]));
        assert!(named(&[&format!(" {other}")]));
    }

    #[test]
    fn the_binary_twin_counts_in_either_form() {
        let other = uuid::Uuid::from_u128(7);
        for value in [other.as_bytes().to_vec(), other.to_string().into_bytes()] {
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(
                "x-tenant-id-bin",
                tonic::metadata::MetadataValue::from_bytes(&value),
            );
            assert!(names_another(metadata.as_ref(), TenantId::PLATFORM));
        }
    }
}
