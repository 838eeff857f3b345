//! The connections of a process: how many there may be, how long each may live, and why each ended.
//!
//! The transport's own server has no bound on silent connections, none on answers that nobody takes, none on the time
//! after it asked a connection to go, and tells nobody why one ended. So the process runs its connections itself.
//!
//! Invariant: every connection and every stream of it ends, whatever its peer does or leaves undone.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use proto::common::v1::ProtocolAbuse;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::{Service, ServiceExt};

use crate::abuse::Reports;
use crate::frames::{Counted, Seen};
use crate::server::peer_of;
use crate::settings::ConnectionSettings;
use crate::tasks::Tasks;
use crate::telemetry::METRICS;
use crate::tls::ServerTls;

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 256;
/// Headers of one request, decoded.
const MAX_HEADERS: u32 = 16 * 1024;
/// How long a new connection may take to begin.
const BEGIN: Duration = Duration::from_secs(10);
/// How long a connection without a stream may take to go when it was asked to.
const GRACE: Duration = Duration::from_secs(15);
/// The longest that a connection stays once it was asked to go: the longest stream, and a little.
const LONGEST: Duration = Duration::from_mins(61);
/// How often what lasts is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Serves connections until told to stop.
#[derive(Clone)]
pub(crate) struct Connections {
    settings: ConnectionSettings,
    /// None: plaintext.
    tls: Option<Arc<ServerTls>>,
    pub(crate) reports: Reports,
    tasks: Tasks,
    stop: CancellationToken,
    open: Arc<Open>,
}

/// The open connections by their peers.
#[derive(Debug, Default)]
struct Open(Mutex<HashMap<Option<IpAddr>, usize>>);

/// One of the open connections.
struct Admitted {
    open: Arc<Open>,
    peer: Option<IpAddr>,
}

impl Open {
    fn admit(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        settings: &ConnectionSettings,
    ) -> Option<Admitted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.get(&peer).copied().unwrap_or_default();
        let in_all: usize = open.values().sum();
        if of_peer >= settings.max_connections_per_peer || in_all >= settings.max_connections {
            return None;
        }
        open.insert(peer, of_peer + 1);
        METRICS.connections.add(1, &[]);
        Some(Admitted {
            open: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        METRICS.connections.add(-1, &[]);
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

impl Connections {
    pub(crate) fn new(
        settings: &ConnectionSettings,
        tls: Option<Arc<ServerTls>>,
        reports: Reports,
        tasks: Tasks,
        stop: CancellationToken,
    ) -> Self {
        Self {
            settings: settings.clone(),
            tls,
            reports,
            tasks,
            stop,
            open: Arc::default(),
        }
    }

    /// Accepts and serves until the order to stop; what is open then is drained in tasks of its own.
    pub(crate) async fn serve<I, IO, S>(self, incoming: I, service: S)
    where
        I: Stream<Item = std::io::Result<IO>>,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
    {
        let mut incoming = pin!(incoming);
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = incoming.next() => accepted,
            };
            match accepted {
                None => return,
                Some(Ok(io)) => {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(io.connect_info());
                    let peer = peer_of(&extensions).map(|peer| peer.ip());
                    let Some(admitted) = self.open.admit(peer, &self.settings) else {
                        self.reports.abuse(peer, ProtocolAbuse::TooManyConnections);
                        continue;
                    };
                    let connection = self
                        .clone()
                        .begin(io, service.clone(), extensions, admitted);
                    self.tasks.spawn(connection);
                }
                Some(Err(error)) => {
                    // Such as too many open files: the next one may be accepted when another has gone.
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// The handshake counts as a part of the connection, so that what bounds connections bounds handshakes.
    async fn begin<IO, S>(
        self,
        io: IO,
        service: S,
        extensions: http::Extensions,
        admitted: Admitted,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
    {
        let Some(tls) = self.tls.clone() else {
            return self.connection(io, service, extensions, admitted).await;
        };
        let accepted = tokio::select! {
            () = self.stop.cancelled() => return,
            accepted = tls.accept(io) => accepted,
        };
        match accepted {
            Ok(io) => self.connection(io, service, extensions, admitted).await,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                self.reports
                    .abuse(admitted.peer, ProtocolAbuse::ConnectionSilent);
            }
            Err(error) => {
                tracing::debug!(peer.address = ?admitted.peer, %error, "a TLS handshake failed");
            }
        }
    }

    async fn connection<IO, S>(
        self,
        io: IO,
        service: S,
        extensions: http::Extensions,
        admitted: Admitted,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
    {
        let (io, seen) = Counted::new(io);
        let streams = Streams {
            tasks: self.tasks.clone(),
            open: Arc::new(()),
            stall: self.settings.answer_stall(),
            reports: self.reports.clone(),
            peer: admitted.peer,
        };
        let open = Arc::downgrade(&streams.open);
        let answer = hyper::service::service_fn(move |mut request: Request<_>| {
            request.extensions_mut().extend(extensions.clone());
            let answer = service.clone().oneshot(request.map(Body::new));
            async move {
                let answer = answer.await;
                answer.map(|response| response.map(Leaving::new))
            }
        });
        let mut connection = pin!(builder(streams).serve_connection(TokioIo::new(io), answer));

        let age = jittered(self.settings.connection_age());
        let mut asked: Option<Instant> = None;
        let mut stopping = pin!(self.stop.cancelled());
        let mut idle_since: Option<Instant> = None;
        let begun_at = Instant::now();
        let mut look = tokio::time::interval(LOOK.min(age));
        let abuse = loop {
            tokio::select! {
                ended = &mut connection => break ended.err().and_then(|error| abuse_of(&error, &seen)),
                () = &mut stopping, if asked.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    asked = Some(Instant::now());
                }
                now = look.tick() => {
                    if !seen.begun() && now - begun_at > BEGIN {
                        break Some(ProtocolAbuse::ConnectionSilent);
                    }
                    match asked {
                        None if now - begun_at >= age => {
                            connection.as_mut().graceful_shutdown();
                            asked = Some(now);
                        }
                        None => {}
                        Some(asked) => {
                            // The service holds one, and each open stream another.
                            let idle = open.strong_count() <= 1;
                            idle_since = idle.then(|| idle_since.unwrap_or(now));
                            let idle = idle_since.is_some_and(|since| now - since > GRACE);
                            if idle || now - asked > LONGEST {
                                break None;
                            }
                        }
                    }
                }
            }
        };
        if let Some(abuse) = abuse {
            tracing::debug!(peer.address = ?admitted.peer, peer.abuse = abuse.as_str_name(), "a connection was ended");
            self.reports.abuse(admitted.peer, abuse);
        }
        drop(admitted);
    }
}

/// Every limit that HTTP/2 has; the defaults leave several open.
fn builder(streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(Some(20))
        .max_local_error_reset_streams(Some(256))
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Within 20 % of `age`, different for each connection, so that connections do not all move at once.
fn jittered(age: Duration) -> Duration {
    // Nobody gains by guessing it, and the first random byte of the cryptographic source costs 35 ms: it gathers its own
    // entropy.
    age.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// What the peer did that ended its connection; none for what ends any, such as a cable.
fn abuse_of(error: &hyper::Error, seen: &Seen) -> Option<ProtocolAbuse> {
    if seen.flooded() {
        return Some(ProtocolAbuse::Flood);
    }
    let source = error.source()?.downcast_ref::<h2::Error>()?;
    match source.reason()? {
        // What the peer says of us is no abuse of its.
        _ if source.is_remote() => None,
        h2::Reason::NO_ERROR => None,
        h2::Reason::ENHANCE_YOUR_CALM => Some(ProtocolAbuse::Flood),
        _ => Some(ProtocolAbuse::FramesInvalid),
    }
}

tokio::task_local! {
    /// How the answer of the stream whose task this is gets along.
    static PROGRESS: Arc<Progress>;
}

/// Since when an answer, or a piece of it, waits for its caller to take it.
#[derive(Debug)]
struct Progress {
    started: Instant,
    /// In milliseconds after the start, and one; zero when nothing waits.
    waits_since: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            waits_since: AtomicU64::new(0),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn waits(&self) {
        self.waits_since.store(self.millis() + 1, Ordering::Relaxed);
    }

    fn has_nothing(&self) {
        self.waits_since.store(0, Ordering::Relaxed);
    }

    /// Resolves when something has waited for longer than `limit`.
    async fn stalls(&self, limit: Duration) {
        let limit_millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        loop {
            tokio::time::sleep(limit / 2).await;
            let since = self.waits_since.load(Ordering::Relaxed);
            if since > 0 && self.millis().saturating_sub(since) > limit_millis {
                return;
            }
        }
    }
}

/// Runs the streams of a connection, each to its end or until its answer is not taken.
#[derive(Clone)]
struct Streams {
    tasks: Tasks,
    open: Arc<()>,
    stall: Duration,
    reports: Reports,
    peer: Option<IpAddr>,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self {
            open,
            stall,
            reports,
            peer,
            ..
        } = self.clone();
        self.tasks.spawn(async move {
            let progress = Arc::new(Progress::new());
            tokio::select! {
                biased;
                () = PROGRESS.scope(Arc::clone(&progress), stream) => {}
                // The stream is reset as it is dropped; the others of the connection go on.
                () = progress.stalls(stall) => reports.abuse(peer, ProtocolAbuse::AnswerNotTaken),
            }
            drop(open);
        });
    }
}

/// The body of an answer, which tells whether it waits for its caller or for us.
struct Leaving {
    body: Body,
    progress: Option<Arc<Progress>>,
}

impl Leaving {
    fn new(body: Body) -> Self {
        let progress = PROGRESS.try_with(Arc::clone).ok();
        if let Some(progress) = &progress {
            progress.waits();
        }
        Self { body, progress }
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(progress) = &self.progress {
            match frame {
                Poll::Pending => progress.has_nothing(),
                Poll::Ready(_) => progress.waits(),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
