//! One trace from the call through outbox, broker and consumer to the delivered alert, however often an event comes.

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
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::program::{Folder, Up};

/// What is kept of a span.
struct Kept {
    trace: Vec<u8>,
    name: String,
    /// Empty where none consumes.
    consumer: String,
}

impl Kept {
    fn of(span: Span) -> Self {
        let consumer = span.attributes.into_iter().find(|it| it.key == "consumer");
        let consumer = consumer.and_then(|it| it.value?.value);
        Self {
            trace: span.trace_id,
            name: span.name,
            consumer: match consumer {
                Some(Value::StringValue(consumer)) => consumer,
                _ => String::new(),
            },
        }
    }
}

/// A collector that keeps every span.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Kept>>>);

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
                kept.push(Kept::of(span));
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
            .filter(|span| span.name == name)
            .map(|span| &span.trace)
            .collect();
        kept.iter()
            .filter(|span| traces.contains(&span.trace))
            .map(|span| span.name.clone())
            .collect()
    }

    /// How often a consumer has been given events of the one trace that has a span named `name`.
    fn deliveries(&self, name: &str, consumer: &str) -> usize {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let traces: BTreeSet<&Vec<u8>> = kept
            .iter()
            .filter(|span| span.name == name)
            .map(|span| &span.trace)
            .collect();
        assert!(traces.len() < 2, "{name} is in {} traces", traces.len());
        let given = kept.iter().filter(|span| {
            span.consumer == consumer
                && span.name == "event.consume"
                && traces.contains(&span.trace)
        });
        given.count()
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

/// The owner of audit's tables in the database of a running `up`.
async fn owner_of_audit(data: &std::path::Path) -> PgConnection {
    let running = std::fs::read_to_string(data.join("running.json")).expect("it runs");
    let running: serde_json::Value = serde_json::from_str(&running).expect("JSON");
    let url = running["database_url"].as_str().expect("a URL");
    let password = std::fs::read_to_string(data.join("keys/postgres/audit_owner"));
    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options
        .username("audit_owner")
        .password(password.expect("a password").trim());
    PgConnection::connect_with(&options)
        .await
        .expect("the owner connects")
}

#[tokio::test]
async fn an_event_that_comes_again_stays_in_the_trace_of_its_change() {
    let collector = Collector::default();
    let endpoint = collector.listen().await;
    let folder = Folder::new();
    let data = folder.0.join("data");
    let mut up = Up::start(&data, &["--otlp-endpoint", &endpoint]).await;
    let mut owner = owner_of_audit(&data).await;
    let alters = async |owner: &mut PgConnection, statement: &'static str| {
        let done = within(Duration::from_secs(20), async || {
            sqlx::raw_sql(statement).execute(&mut *owner).await.ok()
        });
        done.await.expect(statement);
    };
    // Audit can record no new client until this is mended.
    alters(
        &mut owner,
        "alter table audit.record add constraint fault \
         check (type <> 'catalyst.projects.v1.ClientCreated') not valid",
    )
    .await;
    up.succeeds(&[
        "--tenant", "acme", "clients", "create", "--code", "NORTH", "--name", "North",
    ]);
    let call = "catalyst.projects.v1.ProjectService/CreateClient";
    let given = within(Duration::from_secs(30), async || {
        let given = collector.deliveries(call, "audit");
        (given >= 2).then_some(given)
    })
    .await
    .expect("the event comes again, in the same trace");

    alters(&mut owner, "alter table audit.record drop constraint fault").await;
    let applied = within(Duration::from_secs(40), async || {
        let listed = up.succeeds(&["--tenant", "acme", "audit", "list", "--json"]);
        listed.contains("ClientCreated").then_some(())
    });
    applied.await.expect("the event is applied");
    let last = within(Duration::from_secs(20), async || {
        (collector.deliveries(call, "audit") > given).then_some(())
    });
    last.await.expect("its last delivery is in the trace too");
    assert!(collector.beside(call).contains("outbox.publish"));
    assert_eq!(up.signal("-INT").await.0, Some(0));
}
