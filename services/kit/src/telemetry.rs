//! Logs, traces and metrics of a process, and the trace context that travels with calls and events.

use std::collections::HashMap;
use std::sync::LazyLock;

use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::class::Class;
use crate::settings::{LogFormat, SettingsError, TelemetrySettings};

/// The instruments of the kit. Names follow OpenTelemetry; durations are in seconds.
pub struct Metrics {
    /// Duration of calls by RPC and status.
    pub rpc_duration: Histogram<f64>,
    /// Calls that were refused because the process was at its limit, by reason: `load`, with the class of the call,
    /// `database` when no connection came free in time, or `outbox` for mutations of a service whose outbox is full.
    pub shed: Counter<u64>,
    /// Calls that were refused because their tenant has too many, by RPC and by what there is a limit of: `rate` or
    /// `concurrency`.
    pub limited: Counter<u64>,
    /// Mutations that waited because many events wait for the broker, by service.
    pub slowed: Counter<u64>,
    /// What peers did on the wire that no correct client does, by kind.
    pub abuses: Counter<u64>,
    /// Connections that are open now.
    pub connections: UpDownCounter<i64>,
    /// Rows moved from an outbox to the broker.
    pub relay_published: Counter<u64>,
    /// Age of the oldest row of each moved batch, when the broker had acknowledged it.
    pub relay_lag: Histogram<f64>,
    /// Rows that wait now, counted up to the hard bound; every replica tells of the same ones.
    pub outbox_depth: Gauge<u64>,
    /// Age of the oldest row that waits now; it grows while a relay is stuck.
    pub outbox_age: Gauge<f64>,
    /// Events applied by a consumer.
    pub consumed: Counter<u64>,
    /// Events that a consumer has yet to apply, or holds.
    pub consumer_lag: Gauge<u64>,
    /// Deliveries of a message after its first.
    pub redelivered: Counter<u64>,
    /// Events that came again, or twice, and changed nothing.
    pub repeated: Counter<u64>,
    /// Events set aside.
    pub dead_letters: Counter<u64>,
    /// Those of them that are behind another one of their aggregate.
    pub parked: Counter<u64>,
    /// Reads of resources that may be cached, by kind and outcome: `hit` or `miss`.
    pub cache_reads: Counter<u64>,
    /// Connections in use, by service.
    pub pool_in_use: Gauge<u64>,
    /// Whether a dedicated cell that there is does not serve its tenants, 1 or 0, by service and cell.
    pub cell_away: Gauge<u64>,
    /// Rows of a dedicated cell's outbox that are of tenants placed elsewhere.
    pub relay_withheld: Gauge<u64>,
}

/// The instruments, on the provider that [`start`] installed.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = global::meter("catalyst");
    Metrics {
        rpc_duration: meter
            .f64_histogram("rpc.server.duration")
            .with_unit("s")
            .with_boundaries(vec![
                0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ])
            .build(),
        shed: meter.u64_counter("catalyst.server.shed").build(),
        limited: meter.u64_counter("catalyst.server.limited").build(),
        slowed: meter.u64_counter("catalyst.outbox.slowed").build(),
        abuses: meter.u64_counter("catalyst.server.abuses").build(),
        connections: meter
            .i64_up_down_counter("catalyst.server.connections")
            .build(),
        relay_published: meter.u64_counter("catalyst.relay.published").build(),
        relay_lag: meter
            .f64_histogram("catalyst.relay.lag")
            .with_unit("s")
            .with_boundaries(vec![
                0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0,
            ])
            .build(),
        outbox_depth: meter.u64_gauge("catalyst.outbox.depth").build(),
        outbox_age: meter
            .f64_gauge("catalyst.outbox.age")
            .with_unit("s")
            .build(),
        consumed: meter.u64_counter("catalyst.consumer.applied").build(),
        consumer_lag: meter.u64_gauge("catalyst.consumer.lag").build(),
        redelivered: meter.u64_counter("catalyst.consumer.redelivered").build(),
        repeated: meter.u64_counter("catalyst.consumer.repeated").build(),
        parked: meter.u64_counter("catalyst.consumer.parked").build(),
        dead_letters: meter.u64_counter("catalyst.consumer.dead_letters").build(),
        cache_reads: meter.u64_counter("catalyst.cache.reads").build(),
        pool_in_use: meter.u64_gauge("catalyst.pool.in_use").build(),
        cell_away: meter.u64_gauge("catalyst.cell.away").build(),
        relay_withheld: meter.u64_gauge("catalyst.relay.withheld").build(),
    }
});

/// What must be flushed at the end of a process.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: SdkMeterProvider,
    registry: prometheus::Registry,
}

/// Installs logs, traces and metrics for the process. Called once, first; logs go to standard error.
pub fn start(settings: &TelemetrySettings) -> Result<Telemetry, SettingsError> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| {
        SettingsError::new("CATALYST_LOG", format!("is no log filter: {error}"))
    })?;
    let resource = Resource::builder().with_service_name("catalyst").build();

    let registry = prometheus::Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()
        .map_err(|error| SettingsError::new("CATALYST_ADMIN_LISTEN", error.to_string()))?;
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_reader(reader)
        .build();
    global::set_meter_provider(metrics.clone());

    let traces = match &settings.otlp_endpoint {
        None => None,
        Some(endpoint) => {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|error| SettingsError::new("CATALYST_OTLP_ENDPOINT", error.to_string()))?;
            Some(
                SdkTracerProvider::builder()
                    .with_resource(resource)
                    .with_batch_exporter(exporter)
                    .build(),
            )
        }
    };
    let spans = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("catalyst"))
            .with_filter(EnvFilter::new("info"))
    });
    let lines = match settings.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .compact()
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| SettingsError::new("CATALYST_LOG", error.to_string()))?;
    // A counter that appears with its first count is no increase to whoever watches it.
    for class in [Class::Write, Class::Read, Class::Report] {
        METRICS.shed.add(0, &shed_labels("load", class.name()));
        METRICS.shed.add(0, &shed_labels("database", class.name()));
    }
    Ok(Telemetry {
        traces,
        metrics,
        registry,
    })
}

impl Telemetry {
    /// The registry behind `/metrics`.
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// Sends what is still in memory. Blocks; bounded by the exporters' own deadlines.
    pub async fn flush(self) {
        let flushed = tokio::task::spawn_blocking(move || {
            if let Some(traces) = self.traces
                && let Err(error) = traces.shutdown()
            {
                tracing::warn!(error = %error, "the last traces could not be sent");
            }
            if let Err(error) = self.metrics.shutdown() {
                tracing::debug!(error = %error, "the metrics could not be shut down");
            }
        });
        // A panic in an exporter must not keep the process from ending.
        let _ = flushed.await;
    }
}

/// The W3C `traceparent` of the current span; none when it is not traced.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// The id of the trace that `span` belongs to; none when it is not traced.
pub(crate) fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Makes `span` a child of the remote span that `traceparent` names. A malformed one is ignored.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else {
        return;
    };
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // Refused only when the span has been entered already, and then it has a parent.
        let _ = span.set_parent(context);
    }
}

/// Attributes for a call that was shed.
pub(crate) fn shed_labels(reason: &'static str, class: &'static str) -> [KeyValue; 2] {
    [
        KeyValue::new("reason", reason),
        KeyValue::new("class", class),
    ]
}

/// An attribute for a gRPC method and its outcome.
pub(crate) fn rpc_attributes(method: &str, code: i32) -> [KeyValue; 2] {
    [
        KeyValue::new("rpc.method", method.to_owned()),
        KeyValue::new("rpc.grpc.status_code", i64::from(code)),
    ]
}
