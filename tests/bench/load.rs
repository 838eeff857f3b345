//! Callers of the services: closed loops over a few connections, with real tokens; any error fails the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use catalyst::deployment::Deployment;
use http::{HeaderMap, HeaderName, HeaderValue};
use kit::TenantId;
use kit::ctx::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::seed::Firm;
use crate::system::System;
use crate::wire::Wire;

/// Callers that share a connection.
pub(crate) const CALLERS_PER_CONNECTION: usize = 4;
/// Longer than any run.
const TOKEN_SECONDS: i64 = 86_400;

/// Who calls: users of all firms, each call of one by chance, and of a great firm more often.
pub(crate) struct Callers {
    url: String,
    users: Users,
    clients: u16,
    /// What the next caller's sequence of random numbers begins with, so that no round repeats another.
    seed: AtomicU64,
}

/// The users, with the sum of the weights of their firms up to each.
#[derive(Clone)]
struct Users(Arc<[(Arc<User>, f64)]>);

/// Somebody of a firm, with a token.
pub(crate) struct User {
    pub(crate) firm: Arc<Firm>,
    metadata: MetadataMap,
}

/// One caller: a connection that some share, and the users in whose names it calls.
pub(crate) struct Caller {
    pub(crate) wire: Wire,
    /// Another connection, for whoever wants it anew when it ends.
    pub(crate) channel: Channel,
    users: Users,
    random: fastrand::Rng,
}

impl Callers {
    pub(crate) fn new(system: &System, firms: &[Arc<Firm>], clients: u16) -> anyhow::Result<Self> {
        let mut users = Vec::new();
        let mut sum = 0.0;
        for firm in firms {
            sum += firm.weight();
            users.push((Arc::new(User::of(system, firm)?), sum));
        }
        Ok(Self {
            url: system.url.clone(),
            users: Users(users.into()),
            clients,
            seed: AtomicU64::new(0),
        })
    }

    /// A client for each caller. Connections are new, since the services end those that are minutes old.
    pub(crate) async fn each<C>(&self, client: impl Fn(Caller) -> C) -> anyhow::Result<Vec<C>> {
        self.so_many(self.clients, client).await
    }

    /// As [`Callers::each`], for another number of callers.
    pub(crate) async fn so_many<C>(
        &self,
        clients: u16,
        client: impl Fn(Caller) -> C,
    ) -> anyhow::Result<Vec<C>> {
        let mut callers = Vec::new();
        let mut connections = None;
        for number in 0..usize::from(clients) {
            if number.is_multiple_of(CALLERS_PER_CONNECTION) {
                let channel = endpoint(&self.url)?.connect_lazy();
                connections = Some((Wire::connect(&self.url).await?, channel));
            }
            let seed = self.seed.fetch_add(1, Ordering::Relaxed);
            let connections = connections.clone();
            let (wire, channel) = connections.context("the first caller opens a connection")?;
            callers.push(client(Caller {
                wire,
                channel,
                users: self.users.clone(),
                random: fastrand::Rng::with_seed(seed),
            }));
        }
        Ok(callers)
    }
}

impl Caller {
    /// In whose name the next call is made; the same sequence in every run.
    pub(crate) fn user(&mut self) -> Result<Arc<User>, Status> {
        let users = &self.users.0;
        let all = users.last().map_or(0.0, |(_, sum)| *sum);
        let drawn = self.random.f64() * all;
        let place = users.partition_point(|(_, sum)| *sum <= drawn);
        let user = users.get(place).or(users.last());
        user.map(|(user, _)| Arc::clone(user))
            .ok_or_else(|| Status::internal("there is no user"))
    }

    /// A number below `end`; the same sequence in every run.
    pub(crate) fn random(&mut self, end: u64) -> u64 {
        self.random.u64(..end)
    }
}

impl User {
    pub(crate) fn of(system: &System, firm: &Arc<Firm>) -> anyhow::Result<Self> {
        Ok(Self {
            firm: Arc::clone(firm),
            metadata: metadata(system, firm.tenant, "caller", "admin")?,
        })
    }

    /// A request with the user's token.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().clone_from(&self.metadata);
        request
    }

    /// What a request carries of the user.
    pub(crate) fn header_map(&self) -> HeaderMap {
        self.metadata.clone().into_headers()
    }

    /// The same, for other programs.
    pub(crate) fn headers(&self) -> anyhow::Result<Vec<(String, String)>> {
        let headers = self.header_map();
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Ok((name.to_string(), value.to_str()?.to_owned()))
        };
        headers.iter().map(text).collect()
    }
}

/// A connection of its own to the services.
pub(crate) async fn connect(system: &System) -> anyhow::Result<Channel> {
    Ok(endpoint(&system.url)?.connect().await?)
}

fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true))
}

/// What every call of a user carries.
pub(crate) fn metadata(
    system: &System,
    tenant: TenantId,
    subject: &str,
    role: &str,
) -> anyhow::Result<MetadataMap> {
    metadata_of(&system.deployment, tenant, subject, role)
}

/// As [`metadata`], wherever the services run.
pub(crate) fn metadata_of(
    deployment: &Deployment,
    tenant: TenantId,
    subject: &str,
    role: &str,
) -> anyhow::Result<MetadataMap> {
    let issuer = deployment.keys.development_issuer()?;
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

/// How long the one who tells of calls that are due sleeps at least: to be awake for each of thousands would cost more than
/// the call.
const NAP: Duration = Duration::from_micros(200);

/// When calls are due that wait for no answer: evenly, and all of those that nobody was awake for at once. A thread of its
/// own tells of them, since the runtime's timers come up to a millisecond late, which would count as the services'.
pub(crate) struct Pace(mpsc::UnboundedReceiver<Instant>);

impl Pace {
    /// So many a second, from now on.
    #[expect(
        clippy::disallowed_methods,
        reason = "the thread is this one's own, and does nothing else"
    )]
    pub(crate) fn of(rate: u32) -> anyhow::Result<Self> {
        let (tell, due) = mpsc::unbounded_channel();
        let started = Instant::now();
        thread::Builder::new()
            .name("pace".to_owned())
            .spawn(move || {
                for number in 0_u32.. {
                    let due = started + Duration::from_secs(1) / rate * number;
                    let early = due.saturating_duration_since(Instant::now());
                    if !early.is_zero() {
                        thread::sleep(early.max(NAP));
                    }
                    if tell.send(due).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self(due))
    }

    /// When the next call is due, as soon as it is.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Instant> {
        self.0.recv().await.context("nobody tells of calls")
    }
}

/// One call, made again and again.
pub(crate) trait Call: Send + 'static {
    fn call(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// What the callers reached together.
pub(crate) struct Load {
    pub(crate) calls: f64,
    pub(crate) per_second: f64,
    /// From the shortest to the longest; [`NEVER`] for calls that were shed.
    latencies: Vec<Duration>,
}

/// How long a call takes that is not done.
const NEVER: Duration = Duration::MAX;
/// What a caller waits that was shed without being told when to come back.
const PAUSE: Duration = Duration::from_millis(100);

/// Of so many calls one may be shed in a run that none should be: the disk stands still at times, for longer than a call
/// waits.
const RARELY: usize = 1_000;

/// What a call means that the services do not do, since they have more than they can.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shed {
    /// It is made again when it was told to be, and takes all that time.
    IsRepeated,
    TakesForEver,
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

    /// In percent of all calls.
    pub(crate) fn shed(&self) -> f64 {
        let done = self.latencies.partition_point(|latency| *latency < NEVER);
        100.0 * count(self.latencies.len() - done) / self.calls
    }

    /// In milliseconds: as long or shorter was this share of the calls, in percent.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let index = self.latencies.len().saturating_sub(1) * percent / 100;
        match self.latencies.get(index) {
            None => f64::NAN,
            Some(&NEVER) => f64::INFINITY,
            Some(latency) => latency.as_secs_f64() * 1_000.0,
        }
    }
}

/// Every caller calls until the time is over, each again as soon as it has its answer. Fails when calls are shed, but for
/// one in a thousand.
pub(crate) async fn closed_loop<C: Call>(callers: Vec<C>, time: Duration) -> anyhow::Result<Load> {
    looping(callers, time, Shed::IsRepeated).await
}

/// The same with more callers than the services may want to serve: calls that are shed count as taking for ever.
pub(crate) async fn crowded_loop<C: Call>(callers: Vec<C>, time: Duration) -> anyhow::Result<Load> {
    looping(callers, time, Shed::TakesForEver).await
}

async fn looping<C: Call>(callers: Vec<C>, time: Duration, shed: Shed) -> anyhow::Result<Load> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let (mut latencies, mut repeated) = (Vec::new(), 0);
            let mut begun = None;
            while started.elapsed() < time {
                let sent = begun.take().unwrap_or_else(Instant::now);
                match caller.call().await {
                    Ok(()) => latencies.push(sent.elapsed()),
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        match shed {
                            Shed::IsRepeated => (begun, repeated) = (Some(sent), repeated + 1),
                            Shed::TakesForEver => latencies.push(NEVER),
                        }
                        let told = status.get_details_retry_info();
                        let told = told.and_then(|retry| retry.retry_delay);
                        sleep(told.unwrap_or(PAUSE)).await;
                    }
                    Err(status) => return Err(status),
                }
            }
            Ok::<_, Status>((latencies, repeated))
        });
    }
    let (mut latencies, mut repeated) = (Vec::new(), 0);
    while let Some(caller) = running.join_next().await {
        let (took, again) = caller?.context("a call failed")?;
        latencies.extend(took);
        repeated += again;
    }
    if repeated * RARELY > latencies.len() + RARELY {
        let calls = latencies.len();
        bail!("{repeated} calls were shed beside {calls} that were done");
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

/// The code, the message, and what lies beneath.
pub(crate) fn told(status: &Status) -> String {
    let mut told = vec![format!("{:?}: {}", status.code(), status.message())];
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        told.push(error.to_string());
        source = error.source();
    }
    told.join(": ")
}
