//! The exact requests to the application, and the effects of its responses.

use axum::http::Method;
use serde_json::{Value, json};
use tidings_testkit::LineClient;

use crate::application::Application;
use crate::server_with_hooks::{ServerWithHooks, now, token};

/// A server with all hooks at one application. No option permits subscribing or publishing without them.
fn server(application: &Application, more: &[(&str, &str)]) -> ServerWithHooks {
    let url = |path| application.url(path);
    let (connect, subscribe, publish, rpc) =
        (url("/connect"), url("/subscribe"), url("/publish"), url("/rpc"));
    let mut options = vec![
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &*connect),
        ("channel.proxy.subscribe.endpoint", &*subscribe),
        ("channel.proxy.publish.endpoint", &*publish),
        ("channel.without_namespace.subscribe_proxy_enabled", "true"),
        ("channel.without_namespace.publish_proxy_enabled", "true"),
        ("channel.without_namespace.allow_publish_for_client", "true"),
        ("rpc.proxy.endpoint", &*rpc),
    ];
    options.extend_from_slice(more);
    ServerWithHooks::with_key(&options)
}

#[expect(clippy::needless_pass_by_value, reason = "json!(…) in place")]
fn allow(result: Value) -> Value {
    json!({"result": result})
}

/// The fields of every request about a client that uses JSON lines.
fn client_fields(client: &Value, user: &str) -> Value {
    json!({"client": client, "transport": "tcp", "protocol": "json", "encoding": "json",
        "address": "127.0.0.1", "user": user})
}

fn with(mut request: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("no object") };
    request.as_object_mut().expect("an object").extend(fields);
    request
}

#[test]
fn the_connect_hook_accepts_a_client_and_sets_its_user() {
    let application = Application::start();
    let server = server(&application, &[]);
    let end = now() + 600;
    application.respond(
        "/connect",
        allow(json!({"user": "56", "expire_at": end, "data": {"hello": 1}, "channels": ["news"]})),
    );
    let mut client = server.client();
    let connect = json!({"data": {"cookie": "monster"}, "name": "js", "version": "5.2"});
    let result = client.call_ok("connect", connect);
    assert_eq!(result["data"], json!({"hello": 1}), "{result}");
    assert!((590..=600).contains(&result["ttl"].as_u64().expect("seconds")), "{result}");
    assert!(result["subs"].get("news").is_some(), "{result}");
    let call = application.only_call("/connect");
    assert_eq!((&call.method, call.header("content-type")), (&Method::POST, Some("application/json")));
    let expected = json!({
        "client": result["client"], "transport": "tcp", "protocol": "json", "encoding": "json",
        "address": "127.0.0.1", "data": {"cookie": "monster"}, "name": "js", "version": "5.2"
    });
    assert_eq!(call.body, expected);
    // Requests of the other hooks contain the user.
    application.respond("/subscribe", allow(json!({})));
    client.call_ok("subscribe", json!({"channel": "a"}));
    let expected = with(client_fields(&result["client"], "56"), json!({"channel": "a"}));
    assert_eq!(application.only_call("/subscribe").body, expected);
}

#[test]
fn a_client_with_a_token_causes_no_connect_request() {
    let application = Application::start();
    let server = server(&application, &[]);
    server.connected(json!({"token": token(json!({"sub": "42"}))}));
    assert_eq!(server.client().call_error("connect", json!({"token": "hunter2"})), (101, false));
    assert!(application.calls("/connect").is_empty());
}

#[test]
fn an_error_and_a_disconnect_of_the_application_reach_the_client_unchanged() {
    let application = Application::start();
    let server = server(&application, &[]);
    application.respond("/connect", json!({"error": {"code": 1000, "message": "no", "temporary": true}}));
    let reply = server.client().call("connect", json!({}));
    assert_eq!(reply["error"], json!({"code": 1000, "message": "no", "temporary": true}));
    application.respond("/connect", json!({"disconnect": {"code": 4501, "reason": "unauthorized"}}));
    let mut client = server.client();
    client.send("connect", json!({}));
    client.expect_end(4501);
    application.respond("/connect", allow(json!({"user": "56", "expire_at": 7})));
    assert_eq!(server.client().call_error("connect", json!({})), (110, false));
}

#[test]
fn the_subscribe_hook_allows_a_subscription_and_sets_its_options() {
    let application = Application::start();
    let server = server(&application, &[]);
    let mut client = server.client();
    let id = client.call_ok("connect", json!({"token": token(json!({"sub": "42"}))}))["client"].take();
    let end = now() + 600;
    application.respond("/subscribe", allow(json!({"data": [1], "expire_at": end})));
    let result = client.call_ok("subscribe", json!({"channel": "a", "data": {"why": "not"}}));
    assert_eq!((&result["data"], &result["expires"]), (&json!([1]), &json!(true)), "{result}");
    let expected = with(client_fields(&id, "42"), json!({"channel": "a", "data": {"why": "not"}}));
    assert_eq!(application.only_call("/subscribe").body, expected);
    application.respond("/subscribe", json!({"error": {"code": 403, "message": "permission denied"}}));
    let reply = client.call("subscribe", json!({"channel": "b"}));
    assert_eq!(reply["error"], json!({"code": 403, "message": "permission denied"}));
    // A subscription with a token causes no request.
    let claims = json!({"sub": "42", "channel": "c"});
    client.call_ok("subscribe", json!({"channel": "c", "token": token(claims)}));
    assert_eq!(application.calls("/subscribe").len(), 2);
    application.respond("/subscribe", json!({"disconnect": {"code": 4000, "reason": "go"}}));
    client.send("subscribe", json!({"channel": "d"}));
    client.expect_end(4000);
}

#[test]
fn the_publish_hook_allows_a_publication_and_may_change_it() {
    let application = Application::start();
    let server = server(&application, &[]);
    let mut client = server.client();
    let id = client.call_ok("connect", json!({"token": token(json!({"sub": "42"}))}))["client"].take();
    application.respond("/subscribe", allow(json!({})));
    let mut reader = server.connected(json!({"token": token(json!({"sub": "43"}))}));
    reader.call_ok("subscribe", json!({"channel": "a"}));
    application.respond("/publish", allow(json!({})));
    client.call_ok("publish", json!({"channel": "a", "data": {"n": 1}}));
    let expected = with(client_fields(&id, "42"), json!({"channel": "a", "data": {"n": 1}}));
    assert_eq!(application.only_call("/publish").body, expected);
    let push = reader.message();
    assert_eq!(push["push"]["pub"]["data"], json!({"n": 1}), "{push}");
    assert_eq!(push["push"]["pub"]["info"], json!({"user": "42", "client": id}), "{push}");
    application.respond("/publish", allow(json!({"data": {"n": "changed"}, "tags": {"by": "app"}})));
    client.call_ok("publish", json!({"channel": "a", "data": {"n": 2}}));
    let push = reader.message();
    assert_eq!(push["push"]["pub"]["data"], json!({"n": "changed"}), "{push}");
    assert_eq!(push["push"]["pub"]["tags"], json!({"by": "app"}), "{push}");
    application.respond("/publish", json!({"error": {"code": 450, "message": "no"}}));
    assert_eq!(client.call_error("publish", json!({"channel": "a", "data": 3})), (450, false));
    // The rejected publication was not published.
    application.respond("/publish", allow(json!({"data": "last"})));
    client.call_ok("publish", json!({"channel": "a", "data": 4}));
    assert_eq!(reader.message()["push"]["pub"]["data"], json!("last"));
}

#[test]
fn the_publish_hook_may_skip_the_history() {
    let application = Application::start();
    let server = server(
        &application,
        &[
            ("channel.without_namespace.history_size", "10"),
            ("channel.without_namespace.history_ttl", "1m"),
            ("channel.without_namespace.allow_history_for_client", "true"),
        ],
    );
    let mut client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    for (skip, data) in [(false, 1), (true, 2), (false, 3)] {
        application.respond("/publish", allow(json!({"skip_history": skip})));
        client.call_ok("publish", json!({"channel": "a", "data": data}));
    }
    let result = client.call_ok("history", json!({"channel": "a", "limit": 10}));
    let stored: Vec<_> =
        result["publications"].as_array().expect("some").iter().map(|p| &p["data"]).collect();
    assert_eq!(stored, [&json!(1), &json!(3)], "{result}");
}

#[test]
fn the_rpc_hook_responds_to_rpc() {
    let application = Application::start();
    let server = server(&application, &[("rpc.proxy.include_connection_meta", "true")]);
    let mut client = server.client();
    let claims = json!({"sub": "42", "meta": {"role": "admin"}});
    let id = client.call_ok("connect", json!({"token": token(claims)}))["client"].take();
    application.respond("/rpc", allow(json!({"data": {"answer": "2019"}})));
    let result = client.call_ok("rpc", json!({"method": "price", "data": {"id": 12}}));
    assert_eq!(result, json!({"data": {"answer": "2019"}}));
    let expected = with(
        client_fields(&id, "42"),
        json!({"method": "price", "data": {"id": 12}, "meta": {"role": "admin"}}),
    );
    assert_eq!(application.only_call("/rpc").body, expected);
    application.respond("/rpc", json!({"error": {"code": 404, "message": "no such method"}}));
    assert_eq!(client.call_error("rpc", json!({"data": 1})), (404, false));
    let without_method = &application.calls("/rpc")[1].body;
    assert_eq!((without_method.get("method"), &without_method["data"]), (None, &json!(1)));
}

#[test]
fn rpc_without_a_hook_is_not_available() {
    let server = ServerWithHooks::with(&[]);
    let mut client = server.connected(json!({}));
    assert_eq!(client.call_error("rpc", json!({"method": "price", "data": {}})), (108, false));
    let application = Application::start();
    let disabled = ServerWithHooks::with(&[
        ("rpc.proxy.endpoint", &application.url("/rpc")),
        ("rpc.without_namespace.proxy_enabled", "false"),
    ]);
    let mut client = disabled.connected(json!({}));
    assert_eq!(client.call_error("rpc", json!({"method": "price", "data": {}})), (108, false));
    assert!(application.calls("/rpc").is_empty());
}

#[test]
fn with_binary_encoding_the_client_s_data_is_base64() {
    let application = Application::start();
    let server = server(
        &application,
        &[("client.proxy.connect.binary_encoding", "true"), ("rpc.proxy.binary_encoding", "true")],
    );
    application.respond("/connect", allow(json!({"user": "", "b64data": "eyJhIjoxfQ=="})));
    let mut client = server.client();
    let result = client.call_ok("connect", json!({"data": {"a": 1}}));
    assert_eq!(result["data"], json!({"a": 1}));
    let call = application.only_call("/connect").body;
    assert_eq!((call.get("data"), &call["b64data"]), (None, &json!("eyJhIjoxfQ==")));
    application.respond("/rpc", allow(json!({"b64data": "WzFd"})));
    assert_eq!(client.call_ok("rpc", json!({"method": "m", "data": [1]})), json!({"data": [1]}));
    assert_eq!(application.only_call("/rpc").body["b64data"], json!("WzFd"));
}

#[test]
fn a_hook_gets_the_address_in_a_proxy_header() {
    let application = Application::start();
    let server = server(&application, &[("tcp.proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1")]);
    application.respond("/connect", allow(json!({"user": "56"})));
    let mut client = LineClient::connect(server.tcp());
    client.send_bytes(b"PROXY TCP4 198.51.100.7 127.0.0.1 40000 5567\r\n");
    client.send(&json!({"id": 1, "connect": {}}).to_string());
    client.line();
    assert_eq!(application.only_call("/connect").body["address"], json!("198.51.100.7"));
}
