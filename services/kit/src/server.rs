//! The gRPC server of a process: limits, and the layer that every call passes.
//!
//! Invariant: each call runs in a task of its own, to its end, even when its caller hangs up; a cancelled future never
//! owns a transaction. The caller still gets DEADLINE_EXCEEDED in time.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use proto::common::v1::ErrorReason;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use crate::ctx::Clock;
use crate::error::Verdict;
use crate::security::SecurityLog;
use crate::start::Methods;
use crate::tasks::Tasks;
use crate::telemetry::{self, METRICS};

/// A call without a deadline gets this one; a longer wish is cut to it.
pub const MAX_DEADLINE: Duration = Duration::from_secs(10);
/// The answer leaves this much before the deadline, so that it is ours and not the transport's.
const DEADLINE_MARGIN: Duration = Duration::from_millis(5);
/// The largest request message, in bytes. Answers are bounded by page sizes.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Calls that one process works on at the same time; more are shed.
const MAX_CALLS: usize = 1_024;

/// Who called what; set by the layer for the gate.
#[derive(Clone, Debug)]
pub struct Called {
    /// The full name of the RPC, without the leading slash.
    pub method: Arc<str>,
    /// The address of the peer, without its port.
    pub peer: Option<IpAddr>,
    /// Names this call in logs, and in the answer to a fault of ours.
    pub request_id: Uuid,
}

/// Puts every call into a task, with its span, its deadline and its measure.
#[derive(Clone, Debug)]
pub(crate) struct CallLayer {
    tasks: Tasks,
    permits: Arc<tokio::sync::Semaphore>,
    methods: Arc<Methods>,
    /// Where calls of methods that are not served are counted: the log of one of the services.
    security: Option<SecurityLog>,
}

impl CallLayer {
    pub(crate) fn new(tasks: Tasks, methods: Methods, security: Option<SecurityLog>) -> Self {
        Self {
            tasks,
            permits: Arc::new(tokio::sync::Semaphore::new(MAX_CALLS)),
            methods: Arc::new(methods),
            security,
        }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        CallService {
            inner,
            layer: self.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let method: Arc<str> = request.uri().path().trim_start_matches('/').into();
        let Ok(permit) = Arc::clone(&self.layer.permits).try_acquire_owned() else {
            let refused = Verdict::new(
                Code::ResourceExhausted,
                ErrorReason::Overloaded,
                "the server is at its limit of calls",
            )
            .retry_after(Duration::from_millis(200))
            .into_status();
            return Box::pin(async move { Ok(refused.into_http()) });
        };
        let request_id = Clock::system().new_uuid();
        let peer = request
            .extensions()
            .get::<TcpConnectInfo>()
            .and_then(TcpConnectInfo::remote_addr);
        let peer = peer.map(|peer: SocketAddr| peer.ip());
        request.extensions_mut().insert(Called {
            method: Arc::clone(&method),
            peer,
            request_id,
        });
        if let Some(security) = &self.layer.security
            && !self.layer.methods.is_served(&method)
        {
            security.count_unknown_method(peer);
        }

        let label: Arc<str> = self.layer.methods.label(&method).into();
        let span = tracing::info_span!("rpc", otel.kind = "server", otel.name = %label, rpc.method = %label, request.id = %request_id, tenant.id = Empty, trace.id = Empty);
        telemetry::set_parent(
            &span,
            request
                .headers()
                .get("traceparent")
                .and_then(|value| value.to_str().ok()),
        );
        if let Some(trace) = telemetry::trace_id(&span) {
            span.record("trace.id", trace);
        }
        let limit = deadline(request.headers());
        if limit.is_zero() {
            // Work whose caller no longer waits is not begun.
            return Box::pin(async move { Ok(too_late()) });
        }
        // For a stream this bounds the answer's head; what flows afterwards is the handler's to bound.
        let deadline = tokio::time::Instant::now() + limit;
        if !self.layer.methods.is_client_streaming(&method) {
            request = request.map(|body| Body::new(Until::new(body, deadline)));
        }

        let answer = self.inner.call(request);
        let running = self.layer.tasks.spawn(
            async move {
                let answer = answer.await;
                drop(permit);
                answer
            }
            .instrument(span),
        );
        Box::pin(async move {
            let response = match tokio::time::timeout_at(deadline, running).await {
                Ok(Ok(Ok(response))) => response,
                Ok(Err(panicked)) => {
                    tracing::error!(rpc.method = %label, error = %panicked, "a call ended by a panic");
                    let message = "internal error";
                    Verdict::new(Code::Internal, ErrorReason::Internal, message)
                        .into_status()
                        .into_http()
                }
                // The call runs on to its end; only its caller stops waiting.
                Err(_elapsed) => too_late(),
            };
            let code = Status::from_header_map(response.headers())
                .map_or(0, |status| status.code() as i32);
            METRICS.rpc_duration.record(
                started.elapsed().as_secs_f64(),
                &telemetry::rpc_attributes(&label, code),
            );
            Ok(response)
        })
    }
}

/// A request body that ends with an error at the deadline. The server reads it within the call's task, so a caller
/// that never finishes its request would otherwise hold the task and its place for as long as its connection lives.
struct Until {
    body: Body,
    end: Pin<Box<tokio::time::Sleep>>,
}

impl Until {
    fn new(body: Body, deadline: tokio::time::Instant) -> Self {
        Self {
            body,
            end: Box::pin(tokio::time::sleep_until(deadline)),
        }
    }
}

impl http_body::Body for Until {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.end.as_mut().poll(cx));
        let late = Status::deadline_exceeded("the request did not arrive within its deadline");
        Poll::Ready(Some(Err(late)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn too_late() -> Response<Body> {
    let message =
        "the deadline passed; the call may still take effect: repeat it with the same request_id";
    Verdict::new(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        message,
    )
    .into_status()
    .into_http()
}

/// The caller's `grpc-timeout`, at most [`MAX_DEADLINE`].
fn deadline(headers: &HeaderMap) -> Duration {
    let wished = headers
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout);
    wished
        .unwrap_or(MAX_DEADLINE)
        .min(MAX_DEADLINE)
        .saturating_sub(DEADLINE_MARGIN)
}

/// `250m` is 250 milliseconds: at most eight digits and a unit of H, M, S, m, u, n.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// A server with every limit set; the defaults of the transport leave several open.
pub(crate) fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(256)
        .http2_max_header_list_size(16 * 1024)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(256))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
        .max_connection_age(jittered(Duration::from_mins(5)))
}

/// Within 20 % of `age`, different in each process, so that connections do not all move at once.
fn jittered(age: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness the age is exact, which is harmless.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    age.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_callers_but_never_beyond_the_servers() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", value.parse().unwrap());
            deadline(&headers) + DEADLINE_MARGIN
        };
        assert_eq!(of("250m"), Duration::from_millis(250));
        assert_eq!(of("1H"), MAX_DEADLINE);
        assert_eq!(of("123456789S"), MAX_DEADLINE);
        assert_eq!(of("nonsense"), MAX_DEADLINE);
    }

    /// A body of which nothing comes.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = bytes::Bytes;
        type Error = Status;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_given_up_at_its_deadline() {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
        let mut body = Box::pin(Until::new(Body::new(Silent), deadline));
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await;
        let error = frame.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_path_that_is_not_served_makes_no_label_of_its_own() {
        let mut methods = Methods::outside_the_contract();
        methods.add(&["catalyst.projects.v1.ProjectService"]);
        let known = "catalyst.projects.v1.ProjectService/GetProject";
        assert_eq!(methods.label(known), known);
        assert_eq!(
            methods.label("grpc.health.v1.Health/Check"),
            "grpc.health.v1.Health/Check"
        );
        assert_eq!(
            methods.label("catalyst.projects.v1.ProjectService/Steal"),
            "unknown"
        );
    }
}
