//! The export to a collector over HTTP: a receiver in this process that reads requests and responds.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tidings_config::{OpenTelemetryOptions, Overrides};
use tidings_metrics::{Format, MetricsRegistry};
use tidings_otel::{QUEUE, SpanKind, TraceContext, Tracer, child};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A request to the collector.
struct Received {
    head: String,
    body: Value,
}

/// A collector that answers every request with this response, once `allow` permits it.
struct Collector {
    url: String,
    requests: Receiver<Received>,
    allow: Sender<()>,
}

impl Collector {
    fn start(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = channel();
        let (allow, allowed) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                while let Some(request) = read(&mut stream) {
                    if sender.send(request).is_err() || allowed.recv().is_err() {
                        return;
                    }
                    stream.get_mut().write_all(response.as_bytes()).expect("a response");
                }
            }
        });
        Self { url, requests, allow }
    }

    /// Allows this many responses.
    fn allow(&self, count: usize) {
        (0..count).for_each(|_| self.allow.send(()).expect("a collector"));
    }

    fn request(&self) -> Received {
        self.requests.recv_timeout(TIMEOUT).expect("a request")
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

fn read(stream: &mut impl std::io::BufRead) -> Option<Received> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Received { head, body: serde_json::from_slice(&body).expect("JSON") })
}

fn tracer(options: &[&str], metrics: &mut MetricsRegistry) -> Tracer {
    let mut overrides = Overrides::default();
    for option in options {
        overrides.set(&format!("opentelemetry.{option}")).expect("KEY=VALUE");
    }
    let options: OpenTelemetryOptions =
        tidings_config::load(None, [], &overrides).expect("options").opentelemetry;
    Tracer::start(&options, "node-1", metrics).expect("a tracer")
}

fn text(metrics: &MetricsRegistry) -> String {
    String::from_utf8(metrics.scrape(Format::OpenMetrics).expect("metrics")).expect("text")
}

fn spans(metrics: &MetricsRegistry, outcome: &str) -> u64 {
    let text = text(metrics);
    let sample = format!("tidings_spans_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&sample)).expect("a sample").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_an_operation_arrive_at_the_collector_in_the_trace_of_the_caller() {
    let collector = Collector::start(OK);
    let mut metrics = MetricsRegistry::default();
    let endpoint = format!("endpoint={}", collector.url);
    let tracer = tracer(&[&endpoint, r#"headers={"X-Key":"hunter2"}"#, "service_name=push"], &mut metrics);
    let caller = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let mut outer = tracer.span("api publish", SpanKind::Server, caller);
    outer.set("http.response.status_code", 200_u64);
    let own = outer.context().expect("a context");
    outer
        .scope(async {
            let mut inner = child("broker publish", SpanKind::Producer);
            inner.set_text("messaging.destination.name", &"x".repeat(10_000));
            inner.fail(&"the broker is unavailable");
        })
        .await;
    drop(outer);
    collector.allow(1);
    tracer.shutdown().flush(TIMEOUT).await;
    let Received { head, body } = collector.request();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-key: hunter2"), "{head}");
    let resource = &body["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(resource[0]["value"]["stringValue"], "push");
    assert_eq!(resource[2]["value"]["stringValue"], "node-1");
    let all = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let (inner, outer) = (&all[0], &all[1]);
    assert_eq!(outer["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(outer["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(outer["spanId"], format!("{:016x}", own.span_id));
    assert_eq!(inner["traceId"], outer["traceId"]);
    assert_eq!(inner["parentSpanId"], outer["spanId"]);
    assert_eq!(inner["status"]["message"], "the broker is unavailable");
    let text = inner["attributes"][0]["value"]["stringValue"].as_str().expect("text");
    assert_eq!(text.len(), tidings_otel::MAX_TEXT);
    assert_eq!(spans(&metrics, "exported"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ratio_decides_about_new_traces_and_the_caller_about_its_own() {
    let collector = Collector::start(OK);
    let mut metrics = MetricsRegistry::default();
    let endpoint = format!("endpoint={}", collector.url);
    let tracer = tracer(&[&endpoint, "sample_ratio=0"], &mut metrics);
    let new = tracer.span("new", SpanKind::Server, None);
    assert!(!new.is_recorded() && !new.context().expect("a context").is_sampled);
    let sampled = TraceContext { trace_id: 1, span_id: 2, is_sampled: true };
    drop(tracer.span("sampled", SpanKind::Server, Some(sampled)));
    let unsampled = TraceContext { is_sampled: false, ..sampled };
    let span = tracer.span("unsampled", SpanKind::Server, Some(unsampled));
    let passed = span.scope(async { child("hook", SpanKind::Client).context() }).await.expect("a context");
    assert!(!passed.is_sampled && passed.trace_id == 1, "the application gets the context of the caller");
    drop((new, span));
    collector.allow(1);
    tracer.shutdown().flush(TIMEOUT).await;
    let body = collector.request().body;
    let all = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
    assert_eq!(all.iter().map(|span| &span["name"]).collect::<Vec<_>>(), ["sampled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_beyond_the_queue_are_dropped_and_counted_while_the_collector_is_slow() {
    let collector = Collector::start(OK);
    let mut metrics = MetricsRegistry::default();
    let tracer = tracer(&[&format!("endpoint={}", collector.url)], &mut metrics);
    let batch = 512;
    // The exporter takes one batch, and waits for the response to it.
    (0..batch).for_each(|_| drop(tracer.span("first", SpanKind::Server, None)));
    let first = collector.request();
    assert_eq!(
        first.body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").len(),
        batch
    );
    let began = std::time::Instant::now();
    (0..QUEUE + 100).for_each(|_| drop(tracer.span("waits", SpanKind::Server, None)));
    assert!(began.elapsed() < Duration::from_secs(2), "ending a span does not wait");
    assert_eq!(spans(&metrics, "dropped"), 100);
    collector.allow(1 + QUEUE / batch);
    (0..QUEUE / batch).for_each(|_| drop(collector.request()));
    tracer.shutdown().flush(TIMEOUT).await;
    assert_eq!(spans(&metrics, "exported"), (batch + QUEUE) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_the_collector_does_not_accept_are_counted() {
    let refusing = Collector::start("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let mut metrics = MetricsRegistry::default();
    let first = tracer(&[&format!("endpoint={}", refusing.url)], &mut metrics);
    drop(first.span("lost", SpanKind::Server, None));
    refusing.allow(1);
    first.shutdown().flush(TIMEOUT).await;
    assert_eq!((spans(&metrics, "failed"), spans(&metrics, "exported")), (1, 0));

    let partial =
        "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"1\"}}";
    let partly = Collector::start(partial);
    let mut metrics = MetricsRegistry::default();
    let second = tracer(&[&format!("endpoint={}", partly.url)], &mut metrics);
    drop((second.span("a", SpanKind::Server, None), second.span("b", SpanKind::Server, None)));
    partly.allow(1);
    second.shutdown().flush(TIMEOUT).await;
    assert_eq!((spans(&metrics, "rejected"), spans(&metrics, "exported")), (1, 1));
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_recorded_or_passed_on() {
    let mut metrics = MetricsRegistry::default();
    let tracer = tracer(&[], &mut metrics);
    let span = tracer.span(
        "off",
        SpanKind::Server,
        TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    );
    assert!(!tracer.is_on() && !span.is_recorded() && span.context().is_none());
    assert!(span.scope(async { child("off", SpanKind::Client).context() }).await.is_none());
    assert!(!text(&metrics).contains("tidings_spans"));
}
