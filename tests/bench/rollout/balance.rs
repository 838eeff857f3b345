//! What a client with health checks does: a call goes to a replica that is ready; one that was told to stop gets no
//! more, and ends those that it has. No call is made twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt as _};

/// Where a replica serves, and whether its probe has said that it is ready.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) ready: AtomicBool,
}

/// The places of every service.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<&'static str, Vec<Arc<Place>>>);

impl Places {
    pub(super) fn add(&mut self, service: &'static str, place: Arc<Place>) {
        self.0.entry(service).or_default().push(place);
    }

    /// A client's connections to a service, one to each replica.
    pub(super) fn line(&self, service: &str) -> anyhow::Result<Line> {
        let mut lines = Vec::new();
        for place in self.0.get(service).into_iter().flatten() {
            let endpoint = Endpoint::from_shared(format!("http://{}", place.address))?;
            let channel = endpoint.tcp_nodelay(true).connect_lazy();
            lines.push((Arc::clone(place), channel));
        }
        Ok(Line {
            lines: lines.into(),
            next: Arc::default(),
        })
    }
}

/// Connections to the replicas of one service, used in turns.
#[derive(Clone, Debug)]
pub(super) struct Line {
    lines: Arc<[(Arc<Place>, Channel)]>,
    next: Arc<AtomicUsize>,
}

impl Line {
    fn chosen(&self) -> Option<Channel> {
        let ready: Vec<_> = self
            .lines
            .iter()
            .filter(|(place, _)| place.ready.load(Ordering::Acquire))
            .collect();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = turn.checked_rem(ready.len())?;
        ready.get(turn).map(|(_, channel)| channel.clone())
    }
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.chosen();
        Box::pin(async move {
            let channel = channel.ok_or_else(|| Status::unavailable("no replica is ready"))?;
            let answer = channel.oneshot(request).await;
            answer.map_err(|error| Status::from_error(Box::new(error)))
        })
    }
}
