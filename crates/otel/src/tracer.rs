//! The tracer of a server: which traces are recorded, and the queue of the spans.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tidings_config::OpenTelemetryOptions;
use tidings_metrics::MetricsRegistry;
use tidings_outbound::TlsError;
use tokio::sync::{mpsc, oneshot};

use crate::context::TraceContext;
use crate::counters::{SpanCounters, SpanOutcome};
use crate::export::{Exporter, Message, QUEUE};
use crate::span::{Ended, Span, SpanKind};

/// Starts traces. Cheap to clone. The default records nothing.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// A new trace is recorded if the lower 64 bits of its id are below this number.
    threshold: u64,
    queue: mpsc::Sender<Message>,
    counters: Arc<SpanCounters>,
}

impl Inner {
    /// Queues a span for the export.
    pub(crate) fn end(&self, span: Ended) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            self.counters.add(SpanOutcome::Dropped, 1);
        }
    }
}

/// Ends the export.
#[derive(Debug)]
pub struct Shutdown(Option<mpsc::Sender<Message>>);

impl Shutdown {
    /// Exports the spans that have ended, for at most `timeout`.
    pub async fn flush(self, timeout: Duration) {
        let Some(queue) = self.0 else { return };
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if queue.send(Message::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = tokio::time::timeout(timeout, flush).await;
    }
}

impl Tracer {
    /// The tracer of the configuration. `instance` is the name of this node. Must be called within a tokio runtime, on
    /// which spans are exported until the last clone is dropped.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` endpoint when TLS cannot be set up.
    pub fn start(
        options: &OpenTelemetryOptions,
        instance: &str,
        metrics: &mut MetricsRegistry,
    ) -> Result<Self, TlsError> {
        let Some(endpoint) = &options.endpoint else { return Ok(Self::default()) };
        let counters = Arc::<SpanCounters>::default();
        metrics.register(Arc::clone(&counters));
        let exporter = Exporter::new(endpoint.uri(), options, instance, &counters)?;
        let (queue, spans) = mpsc::channel(QUEUE);
        tokio::spawn(exporter.run(spans));
        Ok(Self(Some(Arc::new(Inner { threshold: options.sample_ratio.threshold(), queue, counters }))))
    }

    /// Whether spans are recorded at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The trace context of a request, unless nothing is recorded.
    pub fn context(&self, headers: &HeaderMap) -> Option<TraceContext> {
        self.0.as_ref().and_then(|_| TraceContext::from_headers(headers))
    }

    /// The end of the export, for a shutdown.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown(self.0.as_ref().map(|inner| inner.queue.clone()))
    }

    /// Begins the first span of an operation, in the trace of `parent` or in a new one. The caller of a request with a
    /// trace context decides whether the trace is recorded, otherwise `opentelemetry.sample_ratio`.
    pub fn span(&self, name: &'static str, kind: SpanKind, parent: Option<TraceContext>) -> Span {
        let Some(inner) = &self.0 else { return Span::default() };
        let span_id = span_id();
        let (context, parent) = match parent {
            Some(parent) => (TraceContext { span_id, ..parent }, Some(parent.span_id)),
            None => {
                let trace_id = fastrand::u128(1..);
                // The sampler of the specification, "TraceIdRatioBased".
                let is_sampled = (trace_id as u64) < inner.threshold || inner.threshold == u64::MAX;
                (TraceContext { trace_id, span_id, is_sampled }, None)
            }
        };
        Span::begin(inner, name, kind, context, parent)
    }
}

impl Tracer {
    /// Begins a span below the one of [`Span::scope`], or without one as the first span of a new trace.
    pub fn operation(&self, name: &'static str, kind: SpanKind) -> Span {
        if self.0.is_none() {
            return Span::default();
        }
        self.span(name, kind, crate::span::current_context())
    }
}

/// A new id of a span.
pub(crate) fn span_id() -> u64 {
    fastrand::u64(1..)
}
