//! Callers of the services: closed loops over a few connections, with real tokens; any error fails the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kit::TenantId;
use kit::ctx::Clock;
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::seed::Firm;
use crate::system::System;

/// Callers that share a connection.
const CALLERS_PER_CONNECTION: usize = 4;
/// Longer than any run.
const TOKEN_SECONDS: i64 = 86_400;

/// All callers of a run, spread over the firms.
pub(crate) struct Callers(Vec<Caller>);

/// One caller: somebody of a firm, with a connection and a token.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) firm: Arc<Firm>,
    pub(crate) channel: Channel,
    metadata: MetadataMap,
    random: u64,
}

impl Callers {
    pub(crate) fn new(system: &System, firms: &[Arc<Firm>], clients: u16) -> anyhow::Result<Self> {
        let mut callers = Vec::new();
        let mut channel = None;
        for (number, firm) in firms.iter().cycle().take(usize::from(clients)).enumerate() {
            if number.is_multiple_of(CALLERS_PER_CONNECTION) {
                channel = Some(connect(system)?);
            }
            callers.push(Caller {
                firm: Arc::clone(firm),
                channel: channel
                    .clone()
                    .context("the first caller opens a connection")?,
                metadata: metadata(system, firm.tenant, &format!("caller-{number}"), "admin")?,
                random: number as u64,
            });
        }
        Ok(Self(callers))
    }

    /// A client for each caller.
    pub(crate) fn each<C>(&self, client: impl Fn(Caller) -> C) -> Vec<C> {
        self.0.iter().cloned().map(client).collect()
    }
}

impl Caller {
    /// A request with the caller's token.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().clone_from(&self.metadata);
        request
    }

    /// A number below `end`; the same sequence in every run.
    pub(crate) fn random(&mut self, end: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % end
    }
}

/// A connection of its own to the services.
pub(crate) fn connect(system: &System) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(system.url.clone())?
        .tcp_nodelay(true)
        .connect_lazy())
}

/// What every call of a user carries.
pub(crate) fn metadata(
    system: &System,
    tenant: TenantId,
    subject: &str,
    role: &str,
) -> anyhow::Result<MetadataMap> {
    let issuer = system.deployment.keys.development_issuer()?;
    let token = issuer.token(
        subject,
        tenant,
        &[role],
        Clock::system().now(),
        TOKEN_SECONDS,
    )?;
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse()?);
    metadata.insert("x-tenant-id", tenant.to_string().parse()?);
    Ok(metadata)
}

/// One call, made again and again.
pub(crate) trait Call: Send + 'static {
    fn call(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// What the callers reached together.
pub(crate) struct Load {
    pub(crate) calls: f64,
    pub(crate) per_second: f64,
    /// From the shortest to the longest.
    latencies: Vec<Duration>,
}

impl Load {
    /// What these calls took, made within this time.
    pub(crate) fn of(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        let calls = count(latencies.len());
        Self {
            calls,
            per_second: calls / elapsed.as_secs_f64(),
            latencies,
        }
    }

    /// In milliseconds: as long or shorter was this share of the calls, in percent.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let index = self.latencies.len().saturating_sub(1) * percent / 100;
        self.latencies
            .get(index)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1_000.0)
    }
}

/// Every caller calls until the time is over, each again as soon as it has its answer.
pub(crate) async fn closed_loop<C: Call>(callers: Vec<C>, time: Duration) -> anyhow::Result<Load> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < time {
                let sent = Instant::now();
                caller.call().await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, Status>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(caller) = running.join_next().await {
        latencies.extend(caller?.context("a call failed")?);
    }
    let elapsed = started.elapsed();
    if latencies.is_empty() {
        bail!("no call was made");
    }
    Ok(Load::of(latencies, elapsed))
}

/// A count as a number to divide.
pub(crate) fn count(items: usize) -> f64 {
    f64::from(u32::try_from(items).unwrap_or(u32::MAX))
}
