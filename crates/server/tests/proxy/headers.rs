//! The headers of requests to the application.

use serde_json::json;

use crate::application::Application;
use crate::server_with_hooks::ServerWithHooks;

#[test]
fn only_listed_emulated_headers_are_passed_on() {
    let application = Application::start();
    application.respond("/connect", json!({"result": {"user": "56"}}));
    let server = ServerWithHooks::with(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &application.url("/connect?key=hunter2")),
        ("client.proxy.connect.http_headers", "X-Real-Ip"),
        ("client.proxy.connect.emulated_headers", "Authorization, X-Static"),
        ("client.proxy.connect.http.static_headers", r#"{"X-Key": "k1", "X-Static": "s"}"#),
    ]);
    let headers = json!({
        "Authorization": "Bearer 1", "X-Real-Ip": "1.2.3.4", "X-Other": "o", "Content-Length": "3", "X-Key": "forged",
        "Host": "elsewhere"
    });
    server.connected(json!({"headers": headers}));
    let call = application.only_call("/connect");
    assert_eq!(call.header("authorization"), Some("Bearer 1"));
    // A header that is listed only for the HTTP request, and one that is not listed.
    assert_eq!((call.header("x-real-ip"), call.header("x-other")), (None, None));
    assert_eq!((call.header("x-key"), call.header("x-static")), (Some("k1"), Some("s")));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert!(call.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")));
    assert!(call.header("user-agent").is_some_and(|agent| agent.starts_with("tidings/")));
    assert_ne!(call.body, json!(null), "the body is complete");
    // An emulated header replaces a static one, and an invalid value is omitted.
    server.connected(json!({"headers": {"x-static": "mine", "Authorization": "a\nb: c"}}));
    let call = &application.calls("/connect")[1];
    assert_eq!((call.header("x-static"), call.header("authorization")), (Some("mine"), None));
}

#[test]
fn listed_headers_of_the_http_request_are_passed_on_to_every_hook() {
    let application = Application::start();
    application.respond("/connect", json!({"result": {"user": "56"}}));
    application.respond("/subscribe", json!({"result": {}}));
    let server = ServerWithHooks::with_key(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &application.url("/connect")),
        ("client.proxy.connect.http_headers", "Cookie,X-Real-Ip,Authorization"),
        ("client.proxy.connect.emulated_headers", "Authorization,X-Real-Ip"),
        ("channel.proxy.subscribe.endpoint", &application.url("/subscribe")),
        ("channel.proxy.subscribe.http_headers", "Cookie"),
        ("channel.without_namespace.subscribe_proxy_enabled", "true"),
    ]);
    let connect = json!({"headers": {"X-Real-Ip": "6.6.6.6", "Authorization": "Bearer 1"}});
    let commands = [
        json!({"id": 1, "connect": connect}).to_string(),
        json!({"id": 2, "subscribe": {"channel": "a"}}).to_string(),
    ];
    let sent = "Cookie: session=1\r\nX-Real-Ip: 1.2.3.4\r\nX-Other: o\r\n";
    let answer =
        server.stream("POST /connection/http_stream", sent, &commands.join("\n"), r#"{"id":2,"subscribe":"#);
    assert!(answer.contains(r#"{"id":1,"connect":"#), "{answer}");
    let call = application.only_call("/connect");
    assert_eq!(call.body["transport"], json!("http_stream"));
    assert_eq!((call.header("cookie"), call.header("x-other")), (Some("session=1"), None));
    // Headers of the HTTP request replace those of `connect`.
    assert_eq!((call.header("x-real-ip"), call.header("authorization")), (Some("1.2.3.4"), Some("Bearer 1")));
    let call = application.only_call("/subscribe");
    assert_eq!((call.header("cookie"), call.header("x-real-ip")), (Some("session=1"), None));
    assert_eq!((&call.body["user"], &call.body["transport"]), (&json!("56"), &json!("http_stream")));
}
