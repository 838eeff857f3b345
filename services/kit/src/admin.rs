//! The HTTP side of a process: metrics, and probes that tell the truth.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// Serves `/metrics` (Prometheus text), `/livez` and `/readyz` until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    registry: prometheus::Registry,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/livez", get(async || "live\n"))
        .route(
            "/readyz",
            get(async move || match readiness.obstacle() {
                None => (StatusCode::OK, "ready\n".to_owned()),
                Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, obstacle),
            }),
        )
        .route("/metrics", get(async move || metrics(&registry)));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(error = %error, "the admin server ended");
    }
}

fn metrics(registry: &prometheus::Registry) -> axum::response::Response {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => (
            [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(error = %error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
