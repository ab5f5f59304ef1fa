//! The export of spans: batches, sent by POST to the collector.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use tidings_config::OpenTelemetryOptions;
use tidings_log_throttle::LogThrottle;
use tidings_outbound::{Outbound, OutboundError, TlsError, write_address};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::counters::{SpanCounters, SpanOutcome};
use crate::json::{Resource, encode, rejected_spans};
use crate::span::Ended;

/// Most spans that wait for the export. The numbers are the defaults of the specification ("Batch Span Processor").
pub const QUEUE: usize = 2_048;
/// Most spans of one request.
const BATCH: usize = 512;
/// Longest time that a span waits for further ones.
const INTERVAL: Duration = Duration::from_secs(5);
/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest response, in bytes.
const MAX_RESPONSE: usize = 64 << 10;
/// How long an idle connection stays open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The path below the endpoint (OTLP/HTTP, "Endpoint URLs").
const PATH: &str = "/v1/traces";

/// A message to the exporter.
#[derive(Debug)]
pub(crate) enum Message {
    Span(Box<Ended>),
    /// Responds when all earlier spans are exported.
    Flush(oneshot::Sender<()>),
}

/// Sends spans to the collector.
pub(crate) struct Exporter {
    uri: Uri,
    outbound: Outbound,
    headers: HeaderMap,
    resource: Resource,
    counters: Arc<SpanCounters>,
    failures: LogThrottle,
}

impl Exporter {
    pub(crate) fn new(
        endpoint: &Uri,
        options: &OpenTelemetryOptions,
        instance: &str,
        counters: &Arc<SpanCounters>,
    ) -> Result<Self, TlsError> {
        let mut headers: HeaderMap = options.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self {
            uri: traces_uri(endpoint),
            outbound: Outbound::new(endpoint, "opentelemetry.endpoint", IDLE_TIMEOUT)?,
            headers,
            resource: Resource::new(&options.service_name, instance),
            counters: Arc::clone(counters),
            failures: LogThrottle::new(),
        })
    }

    /// Exports spans until all senders are dropped.
    pub(crate) async fn run(self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::new();
        let mut due = None::<Instant>;
        loop {
            let message = match due {
                Some(due) => timeout_at(due, messages.recv()).await,
                None => Ok(messages.recv().await),
            };
            let (is_due, flushed, has_ended) = match message {
                Ok(Some(Message::Span(span))) => {
                    batch.push(*span);
                    due = due.or_else(|| Some(Instant::now() + INTERVAL));
                    (batch.len() >= BATCH, None, false)
                }
                Ok(Some(Message::Flush(flushed))) => (true, Some(flushed), false),
                Ok(None) => (true, None, true),
                Err(_) => (true, None, false),
            };
            if is_due {
                self.export(&batch).await;
                batch.clear();
                due = None;
            }
            if let Some(flushed) = flushed {
                let _ = flushed.send(());
            }
            if has_ended {
                return;
            }
        }
    }

    async fn export(&self, batch: &[Ended]) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        match self.send(encode(&self.resource, batch)).await {
            Ok(response) => {
                let rejected = rejected_spans(&response).min(count);
                self.counters.add(SpanOutcome::Exported, count - rejected);
                self.counters.add(SpanOutcome::Rejected, rejected);
            }
            Err(error) => {
                self.counters.add(SpanOutcome::Failed, count);
                if let Some(failures) = self.failures.count() {
                    tracing::warn!(address = %Address(&self.uri), %error, failures, "spans were not accepted by opentelemetry.endpoint and are lost");
                }
            }
        }
    }

    async fn send(&self, body: Vec<u8>) -> Result<Bytes, OutboundError> {
        let mut request = Request::new(Full::from(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        self.outbound.send(request, TIMEOUT, MAX_RESPONSE).await
    }
}

/// Displays an address without its query.
struct Address<'a>(&'a Uri);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(self.0, f)
    }
}

/// The address for traces below an endpoint.
fn traces_uri(endpoint: &Uri) -> Uri {
    let path = format!("{}{PATH}", endpoint.path().trim_end_matches('/'));
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| endpoint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_follows_the_endpoint() {
        let uri = |endpoint: &str| traces_uri(&endpoint.parse().expect("a URL")).to_string();
        assert_eq!(uri("http://localhost:4318"), "http://localhost:4318/v1/traces");
        assert_eq!(uri("https://otel.example/base/?key=1"), "https://otel.example/base/v1/traces");
    }
}
