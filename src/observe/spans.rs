//! Spans: one server span for each MCP request or notification, exported by OTLP over HTTP with protobuf.
//!
//! Names are those of OpenTelemetry's conventions for MCP and GenAI, all of them in `attributes`. The exporter is
//! OpenTelemetry's own; the queue before it is ours, because theirs does not say what it drops. Parents come from the
//! client; the messages that go on to upstreams keep theirs, so what an upstream records is a sibling of the span here.

mod attributes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanExporter as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};

use super::Exchange;
use super::trace::TraceContext;
use crate::config;
use crate::telemetry::ObserverMetrics;

#[derive(Debug, thiserror::Error)]
pub enum SpansError {
    #[error("read the system's root certificates for tracing.otlp_endpoint")]
    Roots(#[source] std::io::Error),
    #[error("make an exporter for tracing.otlp_endpoint: {0}")]
    Exporter(String),
    #[error("start the exporter's thread")]
    Thread(#[source] std::io::Error),
}

#[derive(Debug)]
pub(super) struct Spans {
    queue: Sender<Message>,
    ids: RandomIdGenerator,
    sample_ratio: f64,
    metrics: Arc<ObserverMetrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Ended(Arc<Exchange>),
    Stop,
}

impl Spans {
    pub(super) fn start(
        settings: &config::Tracing,
        listen: SocketAddr,
        metrics: Arc<ObserverMetrics>,
    ) -> Result<Self, SpansError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SpansError::Thread)?;
        let (queue, ended) = channel(settings.queue_spans_max);
        let export = Export {
            exporter: exporter(settings)?,
            listen,
            batch_spans_max: settings.batch_spans_max,
            interval: settings.export_interval,
            metrics: Arc::clone(&metrics),
            scope: InstrumentationScope::builder("undercurrent").with_version(env!("CARGO_PKG_VERSION")).build(),
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || runtime.block_on(export.run(ended)))
            .map_err(SpansError::Thread)?;
        let (ids, sample_ratio) = (RandomIdGenerator::default(), settings.sample_ratio);
        Ok(Self { queue, ids, sample_ratio, metrics, thread: Mutex::new(Some(thread)) })
    }

    /// The span of an exchange, if one is to be recorded: as its parent decided, else for a share of all.
    pub(super) fn context_of(&self, exchange: &Exchange) -> Option<TraceContext> {
        if !exchange.is_operation {
            return None;
        }
        let trace = match &exchange.parent {
            Some(parent) => parent.flags.is_sampled().then_some(parent.trace)?,
            None => {
                let trace = self.ids.new_trace_id();
                is_sampled(trace, self.sample_ratio).then_some(trace)?
            }
        };
        Some(TraceContext { trace, span: self.ids.new_span_id() })
    }

    /// Never waits.
    pub(super) fn send(&self, exchange: Arc<Exchange>) {
        if self.queue.try_send(Message::Ended(exchange)).is_err() {
            self.metrics.spans_dropped_queue_full.inc();
        }
    }

    pub(super) fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.queue.blocking_send(Message::Stop);
            let _ = thread.join();
        }
    }
}

/// By the trace's id, as OpenTelemetry does it: everyone who asks for the same share records the same traces.
fn is_sampled(trace: TraceId, ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    // Its low 63 bits: they are random in every trace id, the high ones need not be.
    let low = (u128::from_be_bytes(trace.to_bytes()) as u64) >> 1;
    low < (ratio * (1_u64 << 63) as f64) as u64
}

fn exporter(settings: &config::Tracing) -> Result<OtlpExporter, SpansError> {
    let tls = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots().map_err(SpansError::Roots)?;
    let connector = tls.https_or_http().enable_http1().build();
    let client = HyperClient::new(connector, settings.timeout, None);
    let mut exporter = OtlpExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(settings.endpoint.as_str())
        .with_timeout(settings.timeout)
        .build()
        .map_err(|error| SpansError::Exporter(error.to_string()))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).with_attribute(version);
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

/// The thread that exports.
struct Export {
    exporter: OtlpExporter,
    listen: SocketAddr,
    batch_spans_max: usize,
    /// Longest wait of a span for others.
    interval: Duration,
    metrics: Arc<ObserverMetrics>,
    scope: InstrumentationScope,
    /// The last export failed.
    failing: bool,
}

impl Export {
    async fn run(mut self, mut ended: Receiver<Message>) {
        let mut batch = Vec::new();
        let mut stopping = false;
        while !stopping {
            let Some(first) = ended.recv().await else { break };
            stopping = self.take(first, &mut batch);
            let deadline = Instant::now() + self.interval;
            while !stopping && batch.len() < self.batch_spans_max {
                match timeout_at(deadline, ended.recv()).await {
                    Ok(Some(message)) => stopping = self.take(message, &mut batch),
                    Ok(None) => stopping = true,
                    Err(_) => break,
                }
            }
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    /// `true`: it is time to stop.
    fn take(&self, message: Message, batch: &mut Vec<SpanData>) -> bool {
        match message {
            Message::Ended(exchange) => {
                batch.extend(self.span(&exchange));
                false
            }
            Message::Stop => true,
        }
    }

    fn span(&self, exchange: &Exchange) -> Option<SpanData> {
        let context = exchange.trace?;
        let micros = Duration::from_micros(u64::try_from(exchange.started.0).unwrap_or_default());
        let start_time: SystemTime = UNIX_EPOCH + micros;
        Some(SpanData {
            span_context: SpanContext::new(
                context.trace,
                context.span,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: exchange.parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: exchange.parent.is_some(),
            span_kind: SpanKind::Server,
            name: attributes::name(exchange).into(),
            start_time,
            end_time: start_time + exchange.duration,
            attributes: attributes::of(exchange, self.listen),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: exchange.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        })
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        if spans == 0 {
            return;
        }
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.metrics.spans_exported.inc_by(spans);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                self.metrics.spans_dropped_export_failed.inc_by(spans);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "export spans; they are dropped and counted until it works");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::exchange::tests::called;

    fn spans(sample_ratio: f64) -> (Spans, Receiver<Message>) {
        let metrics = Arc::new(ObserverMetrics::register(&prometheus::Registry::new()).unwrap());
        let (queue, ended) = channel(1);
        (Spans { queue, ids: RandomIdGenerator::default(), sample_ratio, metrics, thread: Mutex::default() }, ended)
    }

    #[test]
    fn a_parent_decides_and_else_the_ratio() {
        let check = |ratio, parent: &str, expect: bool| {
            assert_eq!(spans(ratio).0.context_of(&called(parent)).is_some(), expect, "{ratio} {parent}");
        };
        check(0.0, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check(1.0, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", false);
        check(0.0, "", false);
        check(1.0, "", true);
        let spans = spans(0.25).0;
        let sampled = (0..2000).filter(|_| spans.context_of(&called("")).is_some()).count();
        assert!((350..650).contains(&sampled), "{sampled} of 2000");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (spans, _ended) = spans(1.0);
        spans.send(Arc::new(called("")));
        spans.send(Arc::new(called("")));
        assert_eq!(spans.metrics.spans_dropped_queue_full.get(), 1);
    }
}
