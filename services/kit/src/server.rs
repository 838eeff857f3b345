//! The layer that every call of a process passes.
//!
//! Invariant: each call runs to its end, even when its caller hangs up; a cancelled future never owns a transaction. The caller still gets DEADLINE_EXCEEDED in time.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use proto::common::v1::{ErrorReason, ProtocolAbuse};
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use crate::Error;
use crate::abuse::Reports;
use crate::arrival::{Arriving, Capacity, Place, Sender};
use crate::charged::Charged;
use crate::class::Class;
use crate::ctx::Clock;
use crate::door::Doors;
use crate::error::{ServiceError as _, Verdict};
use crate::limits::Bill;
use crate::protocol;
use crate::start::Methods;
use crate::tasks::Tasks;
use crate::telemetry::{self, METRICS};
use crate::usage::{Outcome, USAGE};

/// A call without a deadline gets this one; a longer wish is cut to it.
pub const MAX_DEADLINE: Duration = Duration::from_secs(10);
/// The answer leaves this much before the deadline, so that it is ours and not the transport's.
const DEADLINE_MARGIN: Duration = Duration::from_millis(5);

/// What is read at most of a call that is refused as it arrives, in bytes, and for how long.
const DISCARDED: usize = 64 * 1024;
const DISCARD: Duration = Duration::from_secs(1);

/// Who called what; set by the layer for the gate.
#[derive(Clone, Debug)]
pub struct Called {
    /// The full name of the RPC, without the leading slash.
    pub method: Arc<str>,
    /// The address of the peer, without its port.
    pub peer: Option<IpAddr>,
    /// Names this call in logs, and in the answer to a fault of ours.
    pub request_id: Uuid,
    /// When its caller stops waiting; none for a stream, which goes on after its head.
    pub(crate) deadline: Option<Instant>,
    pub(crate) place: Place,
}

/// Carries every call to its end, with its span, its deadline and its measure.
#[derive(Clone, Debug)]
pub(crate) struct CallLayer {
    tasks: Tasks,
    capacity: Capacity,
    methods: Arc<Methods>,
    doors: Arc<Doors>,
    reports: Reports,
}

impl CallLayer {
    pub(crate) fn new(tasks: Tasks, methods: Methods, doors: Doors, reports: Reports) -> Self {
        Self {
            tasks,
            capacity: Capacity::default(),
            methods: Arc::new(methods),
            doors: Arc::new(doors),
            reports,
        }
    }

    /// The answer to what is no call of a method that is served.
    fn refuse(&self, request: &Request<Body>, peer: Option<IpAddr>) -> Option<Response<Body>> {
        if let Some(refused) = protocol::not_grpc(request) {
            self.reports.abuse(peer, ProtocolAbuse::RequestNotGrpc);
            return Some(refused);
        }
        let method = protocol::method_of(request);
        if !method.is_some_and(|method| self.methods.is_served(method)) {
            self.reports.unknown_method(peer);
            return Some(protocol::unknown_method());
        }
        None
    }

    /// The answer to a call that finds no place before the database. A stream of requests is let pass: it may have begun to
    /// send much, and its handler answers before it reads.
    fn turn_away(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let method = protocol::method_of(request)?;
        if self.methods.is_client_streaming(method) {
            return None;
        }
        self.doors.refuse(method, request.headers())
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
        let peer = peer_of(request.extensions()).map(|peer| peer.ip());
        let reports = self.layer.reports.clone();
        if let Some(refused) = self.layer.refuse(&request, peer) {
            return Box::pin(async move { Ok(refused) });
        }
        if let Some(busy) = self.layer.turn_away(&request) {
            return Box::pin(async move {
                discard(request.into_body()).await;
                Ok(busy)
            });
        }
        let method: Arc<str> = protocol::method_of(&request).unwrap_or_default().into();
        let request_id = Clock::system().new_uuid();
        let span = tracing::info_span!("rpc", otel.kind = "server", otel.name = %method, rpc.method = %method, request.id = %request_id, tenant.id = Empty, trace.id = Empty);
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
        let place = Place::new(Class::of(&method));
        let is_one = self.layer.methods.is_unary(&method);
        request.extensions_mut().insert(Called {
            method: Arc::clone(&method),
            peer,
            request_id,
            deadline: is_one.then(|| deadline.into_std()),
            place: place.clone(),
        });
        let capacity = self.layer.capacity.clone();
        let sender = Sender {
            peer,
            reports: reports.clone(),
            doors: Arc::clone(&self.layer.doors),
            method: Arc::clone(&method),
            authorization: request.headers().get("authorization").cloned(),
        };
        let is_stream = self.layer.methods.is_client_streaming(&method);
        if is_stream {
            // Its handler answers before it reads, so the place is not held by who sends slowly.
            if let Err(refused) = place.take(&capacity) {
                return Box::pin(async move { Ok(refused.into_http()) });
            }
            request = request.map(|body| Body::new(Arriving::stream(body, capacity, sender)));
        } else {
            let place = place.clone();
            request = request
                .map(|body| Body::new(Arriving::one(body, deadline, place, capacity, sender)));
        }

        let answer = self.inner.call(request);
        let called = place.clone();
        let mut running = self.layer.tasks.to_its_end(
            async move {
                let answer = answer.await;
                place.leave();
                // Here, or who hangs up does not pay.
                answer.map(|answer| charged(answer, place.bill(), !is_one))
            }
            .instrument(span),
        );
        Box::pin(async move {
            let mut response = match tokio::time::timeout_at(deadline, &mut running).await {
                Ok(Ok(Ok(response))) => response,
                // The panic has told its message and its place itself.
                Ok(Err(_panic)) => {
                    tracing::error!(rpc.method = %method, request.id = %request_id, "a call ended by a panic");
                    let message = "internal error";
                    Verdict::new(Code::Internal, ErrorReason::Internal, message)
                        .into_status()
                        .into_http()
                }
                // The call runs on to its end; only its caller stops waiting.
                Err(_elapsed) => too_late(),
            };
            if let Some(abuse) = protocol::explain(response.headers_mut()) {
                reports.abuse(peer, abuse);
            }
            if is_stream {
                response = response.map(|body| explained(body, reports, peer));
            }
            let code = Status::from_header_map(response.headers())
                .map_or(0, |status| status.code() as i32);
            METRICS.rpc_duration.record(
                started.elapsed().as_secs_f64(),
                &telemetry::rpc_attributes(&method, code),
            );
            if let Some(tenant) = called.tenant() {
                USAGE.called(tenant, Outcome::of(Code::from_i32(code)), started.elapsed());
            }
            Ok(response)
        })
    }
}

/// Reads what a call sends that is answered already, within bounds. A stream that ends before it has arrived is reset, and
/// its peer's frames that come later are taken for a flood when there are hundreds.
async fn discard(mut body: Body) {
    let reading = async {
        let mut bytes = 0;
        while bytes < DISCARDED
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Who sends more, or later, is reset.
    let _ = tokio::time::timeout(DISCARD, reading).await;
}

/// The answer, which its tenant is charged for if the call was let in.
fn charged(answer: Response<Body>, bill: Option<&Bill>, is_stream: bool) -> Response<Body> {
    match bill.cloned() {
        Some(bill) => answer.map(|body| Body::new(Charged::new(body, bill, is_stream))),
        None => answer,
    }
}

/// A stream's answer, with a reason on the status at its end as well.
fn explained(body: Body, reports: Reports, peer: Option<IpAddr>) -> Body {
    Body::new(body.map_frame(move |mut frame| {
        if let Some(trailers) = frame.trailers_mut()
            && let Some(abuse) = protocol::explain(trailers)
        {
            reports.abuse(peer, abuse);
        }
        frame
    }))
}

/// Who is at the other end of the connection.
pub(crate) fn peer_of(extensions: &http::Extensions) -> Option<SocketAddr> {
    extensions.get::<TcpConnectInfo>()?.remote_addr()
}

fn too_late() -> Response<Body> {
    Error::TooLate.verdict().into_status().into_http()
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

    #[test]
    fn only_methods_of_the_contract_are_served_and_reflection_when_it_is_on() {
        let mut methods = Methods::outside_the_contract(false);
        methods.add(&["catalyst.projects.v1.ProjectService"]);
        assert!(methods.is_served("catalyst.projects.v1.ProjectService/GetProject"));
        assert!(methods.is_served("grpc.health.v1.Health/Check"));
        for other in [
            "catalyst.projects.v1.ProjectService/Steal",
            "catalyst.projects.v1.projectservice/GetProject",
            "/catalyst.projects.v1.ProjectService/GetProject",
            "catalyst.projects.v1.ProjectService/GetProject/",
            "",
        ] {
            assert!(!methods.is_served(other), "{other}");
        }
        let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert!(!methods.is_served(reflection));
        assert!(Methods::outside_the_contract(true).is_served(reflection));
    }
}
