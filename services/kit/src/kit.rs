//! What one running service is given: its database, its identity, its gate and its record of refusals.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::common::v1::{
    ErrorReason, InputRejected, PageTokenTampered, ResourceNotFound, Severity,
};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::Error;
use crate::broker_watch;
use crate::bus::Bus;
use crate::cache::Caches;
use crate::ctx::{Actor, Clock, Ctx};
use crate::db::Db;
use crate::directory::Directory;
use crate::error::{ServiceError, Verdict, chain};
use crate::gate::{self, Gate};
use crate::ids::TenantId;
use crate::page::Pages;
use crate::permission::Permission;
use crate::security::SecurityLog;
use crate::settings::{DatabaseSettings, NatsSettings, SettingsError};
use crate::tasks::Tasks;
use crate::tls::ClientTls;
use crate::wire::WireSettings;
use crate::workload::{self, Workload};

/// The parts that a service is built from. Cloning is cheap.
#[derive(Clone)]
pub struct Kit {
    /// The door to tenants' rows.
    pub db: Db,
    /// Resources that were read a moment ago.
    pub caches: Caches,
    /// Page tokens.
    pub pages: Pages,
    /// This service's identity towards others.
    pub workload: Workload,
    /// The broker.
    pub bus: Bus,
    /// Which tenants are active.
    pub directory: Directory,
    /// Time and ids, for tasks without a call.
    pub clock: Clock,
    /// Tasks that live as long as the service.
    pub tasks: Tasks,
    /// Database settings, for a service with an exempt role.
    pub database: DatabaseSettings,
    /// Settings of the broker, for a service with a user besides its own.
    pub nats: NatsSettings,
    /// Where this process serves gRPC.
    pub address: SocketAddr,
    /// How this process speaks to others.
    pub wire: WireSettings,
    pub(crate) tls: Option<Arc<ClientTls>>,
    pub(crate) draining: tokio_util::sync::CancellationToken,
    pub(crate) gate: Gate,
    pub(crate) security: SecurityLog,
}

impl Kit {
    /// Lets a call in, or refuses it with everything that must be on record committed.
    pub async fn authorize<T>(
        &self,
        request: &Request<T>,
        permission: &Permission,
    ) -> Result<Ctx, Status> {
        self.gate.authorize(request, permission).await
    }

    /// Turns the outcome of an operation into the caller's answer. A miss, a forged page token and a malformed filter
    /// are on record before the caller has its answer; a fault of ours is logged here, once.
    pub async fn answer<T, E: ServiceError + 'static>(
        &self,
        ctx: &Ctx,
        outcome: Result<T, E>,
    ) -> Result<T, Status> {
        let error = match outcome {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let verdict = told(ctx, error.verdict());
        if let Some((kind, id)) = verdict.missing() {
            let miss = ResourceNotFound {
                severity: Severity::Low.into(),
                kind: kind.to_owned(),
                resource_id: id.to_string(),
                method: ctx.method().to_owned(),
            };
            self.on_record(ctx, &miss).await?;
        }
        if verdict.is_page_token_forged() {
            let severity = if verdict.is_page_token_foreign() {
                Severity::High
            } else {
                Severity::Medium
            };
            let forged = PageTokenTampered {
                severity: severity.into(),
                method: ctx.method().to_owned(),
            };
            self.on_record(ctx, &forged).await?;
        }
        let mut fields = verdict.malformed_fields();
        fields.retain(|field| field != "page_size");
        if !fields.is_empty() && is_query(ctx.method()) {
            let rejected = InputRejected {
                severity: Severity::Low.into(),
                fields,
                method: ctx.method().to_owned(),
            };
            self.on_record(ctx, &rejected).await?;
        }
        log_fault(ctx, verdict.code(), &error);
        Err(verdict.into_status())
    }

    /// Turns the outcome of a look-up for another service into its answer. A miss is not on record here:
    /// the asking service knows the user behind the call and records it.
    pub fn answer_service<T, E: ServiceError + 'static>(
        &self,
        ctx: &Ctx,
        outcome: Result<T, E>,
    ) -> Result<T, Status> {
        outcome.map_err(|error| {
            let verdict = told(ctx, error.verdict());
            log_fault(ctx, verdict.code(), &error);
            verdict.into_status()
        })
    }

    /// Records the miss of a resource that a batch names, where the answer itself is not an error.
    pub async fn note_missing(
        &self,
        ctx: &Ctx,
        kind: &'static str,
        id: uuid::Uuid,
    ) -> Result<(), Status> {
        let miss = ResourceNotFound {
            severity: Severity::Low.into(),
            kind: kind.to_owned(),
            resource_id: id.to_string(),
            method: ctx.method().to_owned(),
        };
        self.on_record(ctx, &miss).await
    }

    /// Puts connections that the broker refuses on record from now on; one service of a deployment does.
    pub fn watch_broker(&self) {
        let watching =
            broker_watch::run(self.nats.clone(), self.security.clone(), self.tasks.clone());
        self.tasks.spawn(watching);
    }

    /// The context of a task of the service `name` over the platform's own rows. No firm's are within its reach.
    pub fn platform(&self, name: &str) -> Ctx {
        let actor = Actor::Service(name.to_owned());
        Ctx::of_event(TenantId::PLATFORM, actor, self.clock.clone())
    }

    /// A channel to the service at `url`; without one, to this very process, which answers only in plaintext without
    /// a name that its certificate would have to carry.
    pub fn channel(
        &self,
        variable: &'static str,
        url: Option<&str>,
    ) -> Result<Channel, SettingsError> {
        match url {
            Some(url) => {
                self.wire.plaintext.check_url(variable, url)?;
                workload::channel(variable, url, self.tls.as_ref())
            }
            None if self.wire.tls_cert_file.is_some() => Err(SettingsError::new(
                variable,
                "is required with CATALYST_TLS_CERT_FILE: https://HOST:PORT, with a name of the certificate",
            )),
            None => workload::channel(variable, &format!("http://{}", self.address), None),
        }
    }

    /// Resolves when the process begins to stop; open streams end with it, or the drain would wait for them.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.draining.clone().cancelled_owned()
    }

    /// The status that ends an open stream when the process stops.
    pub fn shutting_down(&self) -> Status {
        let message = "the server is stopping: open the stream again";
        Verdict::new(tonic::Code::Unavailable, ErrorReason::ShuttingDown, message).into_status()
    }

    /// The status that ends an open stream of a tenant that is no longer active.
    pub fn not_active(&self) -> Status {
        gate::not_active()
    }

    /// Raises a security event of `tenant` that no call caused; durable when this returns `Ok`.
    pub async fn raise<M: prost::Message + prost::Name>(
        &self,
        tenant: crate::TenantId,
        actor: crate::ctx::Actor,
        event: &M,
    ) -> Result<(), Error> {
        self.security.record(tenant, actor, event).await
    }

    async fn on_record<M: prost::Message + prost::Name>(
        &self,
        ctx: &Ctx,
        event: &M,
    ) -> Result<(), Status> {
        self.security
            .record(ctx.tenant(), ctx.actor().clone(), event)
            .await
            .map_err(|error: Error| error.verdict().into_status())
    }
}

/// Whether the fields of the method's request select rows. Programs fill those in: one that is malformed is somebody
/// trying what a filter lets through, while a malformed name or note is somebody's typing.
fn is_query(method: &str) -> bool {
    let verb = method.rsplit('/').next().unwrap_or_default();
    ["List", "Summarize", "Watch"]
        .iter()
        .any(|query| verb.starts_with(query))
}

/// A fault of ours is told with the id under which the operator finds it in the logs.
fn told(ctx: &Ctx, verdict: Verdict) -> Verdict {
    if verdict.code() == tonic::Code::Internal {
        verdict.with("request_id", &ctx.request_id())
    } else {
        verdict
    }
}

/// A failure is logged once, where it is handled; refusals for the caller's own reasons are not failures.
fn log_fault(ctx: &Ctx, code: tonic::Code, error: &(dyn std::error::Error + 'static)) {
    match code {
        tonic::Code::Internal => {
            tracing::error!(rpc.method = ctx.method(), request.id = %ctx.request_id(), tenant.id = %ctx.tenant(), error = %chain(error), "a call failed for a fault of this service");
        }
        tonic::Code::Unavailable => {
            tracing::warn!(rpc.method = ctx.method(), request.id = %ctx.request_id(), tenant.id = %ctx.tenant(), error = %chain(error), "a call failed for want of a dependency");
        }
        _ => {}
    }
}
