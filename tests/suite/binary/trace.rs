//! One trace from the call through outbox, broker and consumer to the delivered alert.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harness::{Webhook, within};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::program::{Folder, Up};

/// The trace of a span, and its name.
type Named = (Vec<u8>, String);

/// A collector that keeps every span.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Named>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                kept.push((span.trace_id, span.name));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        #[expect(clippy::disallowed_methods, reason = "lives as long as the test")]
        tokio::spawn(serving);
        url
    }

    /// The names of all spans that share a trace with one named `name`.
    fn beside(&self, name: &str) -> BTreeSet<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let traces: BTreeSet<&Vec<u8>> = kept
            .iter()
            .filter(|(_, span)| span == name)
            .map(|(trace, _)| trace)
            .collect();
        kept.iter()
            .filter(|(trace, _)| traces.contains(trace))
            .map(|(_, span)| span.clone())
            .collect()
    }
}

#[tokio::test]
async fn a_cross_tenant_probe_is_one_trace_from_the_call_to_the_delivered_alert() {
    let collector = Collector::default();
    let endpoint = collector.listen().await;
    let folder = Folder::new();
    let secret = folder.0.join("secret");
    std::fs::write(
        &secret,
        format!("whsec_{}", data_encoding::BASE64.encode(&[7; 32])),
    )
    .expect("written");
    let webhook = Webhook::start(&secret).await.expect("a receiver");
    let mut up = Up::start(
        &folder.0.join("data"),
        &[
            "--otlp-endpoint",
            &endpoint,
            "--alert-webhook-url",
            &webhook.url,
            "--alert-webhook-secret-file",
            &secret.to_string_lossy(),
        ],
    )
    .await;
    let created = up.succeeds(&[
        "--tenant", "acme", "clients", "create", "--code", "NORTH", "--name", "North", "--json",
    ]);
    let created: serde_json::Value = serde_json::from_str(&created).expect("JSON");
    let id = created["id"].as_str().expect("an id").to_owned();
    let probe = up.run(&["--tenant", "globex", "clients", "get", &id]);
    assert!(!probe.status.success());

    let expected = [
        "catalyst.projects.v1.ProjectService/GetClient",
        "outbox.publish",
        "event.consume",
        "alert.deliver",
    ];
    let complete = within(Duration::from_secs(20), async || {
        let spans = collector.beside("alert.deliver");
        expected
            .iter()
            .all(|name| spans.contains(*name))
            .then_some(())
    });
    assert!(
        complete.await.is_some(),
        "the trace holds {:?}",
        collector.beside("alert.deliver")
    );
    assert!(!webhook.accepted().is_empty());
    assert_eq!(up.signal("-INT").await.0, Some(0));
}
