//! Traces of a server: from a request with a trace context, through hooks and the broker, to a collector.

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::application::Application;
use crate::server_with_hooks::ServerWithHooks;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// All spans that have arrived at the collector.
fn spans(application: &Application) -> Vec<Value> {
    let requests = application.calls("/v1/traces").into_iter();
    let of = |body: Value| {
        body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned().unwrap_or_default()
    };
    requests.flat_map(|call| of(call.body)).collect()
}

/// The span of this name, once it has arrived.
fn span(application: &Application, name: &str) -> Value {
    let find = || spans(application).into_iter().find(|span| span["name"] == name);
    wait_until(PATIENCE, &format!("the span {name}"), || find().is_some());
    find().expect("it has arrived")
}

#[test]
fn a_request_of_the_server_api_is_traced_to_the_broker() {
    let application = Application::start();
    application.respond("/v1/traces", "{}");
    let redis = RedisServer::start();
    let mut server = ServerWithHooks::with(&[
        ("opentelemetry.endpoint", &application.url("")),
        ("opentelemetry.sample_ratio", "0"),
        ("broker", &redis.url()),
        ("http_api.insecure", "true"),
    ]);
    server.wait_until_ready();
    let header = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let body = json!({"channel": "news", "data": {"n": 1}}).to_string();
    assert_eq!(server.post("/api/publish", &[&header], &body).status, 200);
    // Not sampled: without a context, and with one that is not sampled.
    assert_eq!(server.post("/api/publish", &[], &body).status, 200);
    assert_eq!(server.post("/api/publish", &[&header.replace("-01", "-00")], &body).status, 200);
    server.stop();
    let (api, broker) = (span(&application, "api publish"), span(&application, "broker publish"));
    assert_eq!((&api["traceId"], &api["parentSpanId"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
    assert_eq!(api["kind"], 2);
    assert_eq!((&broker["traceId"], &broker["parentSpanId"]), (&json!(TRACE), &api["spanId"]));
    assert_eq!(broker["attributes"][0]["value"]["stringValue"], "news");
    assert_eq!(spans(&application).len(), 2);
}

#[test]
fn a_hook_gets_the_context_of_the_trace() {
    let application = Application::start();
    application.respond("/v1/traces", "{}");
    application.respond("/connect", json!({"result": {"user": "56"}}));
    let mut server = ServerWithHooks::with(&[
        ("opentelemetry.endpoint", &application.url("")),
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &application.url("/connect")),
    ]);
    drop(server.connected(json!({})));
    server.stop();
    let (client, hook) = (span(&application, "client connect"), span(&application, "hook connect"));
    assert_eq!(hook["parentSpanId"], client["spanId"]);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let context = format!("00-{}-{}-01", text(&hook["traceId"]), text(&hook["spanId"]));
    assert_eq!(application.only_call("/connect").header("traceparent"), Some(&*context));
}

#[test]
fn without_a_collector_hooks_get_no_trace_context() {
    let application = Application::start();
    application.respond("/connect", json!({"result": {"user": "56"}}));
    let server = ServerWithHooks::with(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &application.url("/connect")),
    ]);
    drop(server.connected(json!({})));
    assert_eq!(application.only_call("/connect").header("traceparent"), None);
}
