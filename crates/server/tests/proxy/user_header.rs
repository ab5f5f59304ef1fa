//! `client.user_id_http_header`: the user that an authenticating proxy states.

use serde_json::json;

use crate::application::Application;
use crate::server_with_hooks::{ServerWithHooks, load, token};

const OPTIONS: [(&str, &str); 3] = [
    ("client.user_id_http_header", "X-User-Id"),
    ("trusted_proxies", "127.0.0.1"),
    ("channel.without_namespace.allow_user_limited_channels", "true"),
];

/// Connects over HTTP streaming with these headers, and subscribes to the channel of user 42.
fn subscribe(server: &ServerWithHooks, headers: &str, connect: &serde_json::Value) -> String {
    let commands =
        [json!({"id": 1, "connect": connect}), json!({"id": 2, "subscribe": {"channel": "dialog#42"}})];
    let body = commands.map(|command| command.to_string()).join("\n");
    let answer = server.stream("POST /connection/http_stream", headers, &body, "\"id\":");
    // The reply to `connect` has the error, or the one to `subscribe` follows.
    if answer.contains("\"error\"") || answer.contains("\"id\":2") {
        return answer;
    }
    server.stream("POST /connection/http_stream", headers, &body, "\"id\":2")
}

#[test]
fn a_client_behind_a_trusted_proxy_connects_as_the_user_in_the_header() {
    let server = ServerWithHooks::with_key(&OPTIONS);
    let answer = subscribe(&server, "X-User-Id: 42\r\n", &json!({}));
    assert!(answer.contains(r#""id":2,"subscribe""#), "{answer}");
    let answer = subscribe(&server, "x-user-id: 43\r\n", &json!({}));
    assert!(answer.contains(r#""code":103"#), "the channel of another user: {answer}");
    // Without the header, with an empty one, and with two of them, of which the client may have sent one.
    for headers in ["", "X-User-Id:\r\n", "X-User-Id: 42\r\nX-User-Id: 42\r\n"] {
        let answer = subscribe(&server, headers, &json!({}));
        assert!(answer.contains(r#""code":101"#), "{headers:?}: {answer}");
    }
}

#[test]
fn the_token_of_a_client_precedes_the_header() {
    let server = ServerWithHooks::with_key(&OPTIONS);
    let answer = subscribe(&server, "X-User-Id: 43\r\n", &json!({"token": token(json!({"sub": "42"}))}));
    assert!(answer.contains(r#""id":2,"subscribe""#), "{answer}");
    let answer = subscribe(&server, "X-User-Id: 42\r\n", &json!({"token": "hunter2"}));
    assert!(answer.contains(r#""code":101"#), "a wrong token is an error: {answer}");
}

#[test]
fn the_connect_hook_precedes_the_header() {
    let application = Application::start();
    application.respond("/connect", json!({"result": {"user": "42"}}));
    let hook = [
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &*application.url("/connect")),
    ];
    let server = ServerWithHooks::with_key(&[&OPTIONS[..], &hook].concat());
    let answer = subscribe(&server, "X-User-Id: 43\r\n", &json!({}));
    assert!(answer.contains(r#""id":2,"subscribe""#), "{answer}");
}

#[test]
fn the_header_of_a_client_that_is_no_trusted_proxy_has_no_effect() {
    let server = ServerWithHooks::with_key(&[OPTIONS[0], ("trusted_proxies", "10.1.2.3"), OPTIONS[2]]);
    let answer = subscribe(&server, "X-User-Id: 42\r\n", &json!({}));
    assert!(answer.contains(r#""code":101"#), "{answer}");
}

#[test]
fn the_header_requires_a_trusted_proxy_in_the_configuration() {
    let error = load(&OPTIONS[..1]).expect_err("no proxy");
    assert!(error.contains("client.user_id_http_header has no effect without trusted_proxies"), "{error}");
    assert!(load(&OPTIONS).is_ok());
}
