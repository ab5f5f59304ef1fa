//! Which headers the application is sent.

use serde_json::json;

use crate::application::Application;
use crate::world::World;

#[test]
fn only_listed_headers_of_connect_are_passed_on_and_only_where_they_are_listed_as_such() {
    let application = Application::start();
    application.answer("/connect", json!({"result": {"user": "56"}}));
    let world = World::with(&[
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
    world.connected(json!({"headers": headers}));
    let asked = application.asked_once("/connect");
    assert_eq!(asked.header("authorization"), Some("Bearer 1"));
    // What only a gateway can have set, and what nobody listed.
    assert_eq!((asked.header("x-real-ip"), asked.header("x-other")), (None, None));
    assert_eq!((asked.header("x-key"), asked.header("x-static")), (Some("k1"), Some("s")));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert!(asked.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")));
    assert!(asked.header("user-agent").is_some_and(|agent| agent.starts_with("tidings/")));
    assert_ne!(asked.body, json!(null), "the body is whole");
    // A header of the client takes the place of a static one, and one that cannot be sent is left out.
    world.connected(json!({"headers": {"x-static": "mine", "Authorization": "a\nb: c"}}));
    let asked = &application.asked("/connect")[1];
    assert_eq!((asked.header("x-static"), asked.header("authorization")), (Some("mine"), None));
}

#[test]
fn listed_headers_of_the_http_request_are_passed_on_to_every_hook() {
    let application = Application::start();
    application.answer("/connect", json!({"result": {"user": "56"}}));
    application.answer("/subscribe", json!({"result": {}}));
    let world = World::with_key(&[
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
        world.stream("POST /connection/http_stream", sent, &commands.join("\n"), r#"{"id":2,"subscribe":"#);
    assert!(answer.contains(r#"{"id":1,"connect":"#), "{answer}");
    let asked = application.asked_once("/connect");
    assert_eq!(asked.body["transport"], json!("http_stream"));
    assert_eq!((asked.header("cookie"), asked.header("x-other")), (Some("session=1"), None));
    // What was sent goes before what was written into `connect`.
    assert_eq!(
        (asked.header("x-real-ip"), asked.header("authorization")),
        (Some("1.2.3.4"), Some("Bearer 1"))
    );
    let asked = application.asked_once("/subscribe");
    assert_eq!((asked.header("cookie"), asked.header("x-real-ip")), (Some("session=1"), None));
    assert_eq!((&asked.body["user"], &asked.body["transport"]), (&json!("56"), &json!("http_stream")));
}
