//! Named keys and their scopes, over HTTP and on the line port.

use serde_json::{Value, json};
use tidings_testkit::HttpResponse;

use crate::api_server::json_of;
use crate::support::TestServer;

const OPTIONS: [&str; 11] = [
    "tcp.auto_subscribe=",
    "http_api.keys=sender,reader,operator",
    "http_api.keys.sender.key=sender-s3cret",
    "http_api.keys.sender.scopes=publish",
    "http_api.keys.reader.key=reader-s3cret",
    "http_api.keys.reader.scopes=read",
    "http_api.keys.operator.key=operator-s3cret",
    "http_api.keys.operator.scopes=manage",
    "channel.without_namespace.history_size=10",
    "channel.without_namespace.history_ttl=1m",
    "channel.without_namespace.presence=true",
];
const NAMES: [&str; 3] = ["sender", "reader", "operator"];

fn post(world: &TestServer, name: &str, path: &str, body: &Value) -> HttpResponse {
    world.post(path, &[&format!("X-API-Key: {name}-s3cret")], &body.to_string())
}

/// The scope of each method, with a request.
fn methods() -> Vec<(&'static str, &'static str, Value)> {
    let channel = || json!({"channel": "news"});
    vec![
        ("sender", "publish", json!({"channel": "news", "data": 1})),
        ("sender", "broadcast", json!({"channels": ["news"], "data": 1})),
        ("reader", "presence", channel()),
        ("reader", "presence_stats", channel()),
        ("reader", "history", channel()),
        ("reader", "channels", json!({})),
        ("reader", "info", json!({})),
        ("reader", "connections", json!({})),
        ("operator", "subscribe", json!({"channel": "news", "user": "u"})),
        ("operator", "unsubscribe", json!({"channel": "news", "user": "u"})),
        ("operator", "disconnect", json!({"user": "u"})),
        ("operator", "refresh", json!({"user": "u"})),
        ("operator", "history_remove", channel()),
        ("operator", "block_user", json!({"user": "u"})),
        ("operator", "unblock_user", json!({"user": "u"})),
        ("operator", "revoke_token", json!({"jti": "t"})),
        ("operator", "invalidate_user_tokens", json!({"user": "u", "issued_before": 1})),
        ("operator", "reload", json!({})),
    ]
}

#[test]
fn each_method_needs_its_scope_and_the_error_names_it() {
    let world = TestServer::start(&OPTIONS);
    let scopes = |name: &str| match name {
        "sender" => "publish",
        "reader" => "read",
        _ => "manage",
    };
    for (right, method, request) in methods() {
        for name in NAMES {
            let answer = post(&world, name, &format!("/api/{method}"), &request);
            if name == right {
                assert_eq!(answer.status, 200, "{method} with {name}: {}", answer.body);
                assert!(json_of(&answer).get("result").is_some(), "{method}: {}", answer.body);
                continue;
            }
            let message =
                format!("permission denied: the key \"{name}\" does not have the scope {}", scopes(right));
            assert_eq!(answer.status, 403, "{method} with {name}");
            assert_eq!(json_of(&answer), json!({"error": {"code": 103, "message": message}}), "{method}");
        }
    }
}

#[test]
fn in_error_mode_transport_the_error_of_a_missing_scope_has_the_form_of_other_errors() {
    let world = TestServer::start(&OPTIONS);
    let headers = ["X-API-Key: sender-s3cret", "X-Centrifugo-Error-Mode: transport"];
    let message = "permission denied: the key \"sender\" does not have the scope read";
    let error = json!({"code": 103, "message": message});
    for (path, body) in [
        ("/api/info", json!({})),
        ("/api/batch", json!({"commands": [{"info": {}}]})),
        ("/api", json!({"method": "info", "params": {}})),
    ] {
        let answer = world.post(path, &headers, &body.to_string());
        assert_eq!((answer.status, json_of(&answer)), (403, error.clone()), "{path}");
    }
    let other = world.post("/api/publish", &headers, r#"{"channel":"","data":1}"#);
    assert_eq!((other.status, &json_of(&other)["code"]), (400, &json!(107)));
}

#[test]
fn a_batch_with_a_command_outside_of_the_scopes_is_rejected_as_a_whole() {
    let world = TestServer::start(&OPTIONS);
    let batch = json!({"commands": [
        {"publish": {"channel": "news", "data": 1}}, {"history": {"channel": "news", "limit": 10}},
    ]});
    assert_eq!(post(&world, "sender", "/api/batch", &batch).status, 403);
    let lines =
        "{\"method\":\"publish\",\"params\":{\"channel\":\"news\",\"data\":1}}\n{\"method\":\"info\"}";
    let answer = world.post("/api", &["X-API-Key: sender-s3cret"], lines);
    assert!(answer.status == 403 && answer.body.contains("scope read"), "{}", answer.body);
    let history = post(&world, "reader", "/api/history", &json!({"channel": "news", "limit": 10}));
    assert_eq!(json_of(&history)["result"]["publications"], json!([]), "nothing was published");
    let batch = json!({"commands": [{"publish": {"channel": "news", "data": 1}}]});
    assert_eq!(post(&world, "sender", "/api/batch", &batch).status, 200);
}

#[test]
fn on_the_line_port_a_key_permits_what_its_scopes_contain() {
    let world = TestServer::start(&OPTIONS);
    let mut sender = world.line();
    sender.send("AUTH sender-s3cret");
    sender.expect("CONFIRMED");
    let mut reader = world.line();
    reader.send("AUTH reader-s3cret");
    reader.expect("CONFIRMED");
    for (command, answer) in
        [("SUBSCRIBE news", "CONFIRMED"), ("PUBLISH news no", "ERROR 103 permission denied")]
    {
        reader.send(command);
        reader.expect(answer);
    }
    for (command, answer) in
        [("SUBSCRIBE news", "ERROR 103 permission denied"), ("PUBLISH news hi", "CONFIRMED")]
    {
        sender.send(command);
        sender.expect(answer);
    }
    reader.expect("MESSAGE news hi");
    let mut resp = world.resp();
    assert_eq!(resp.command(&["AUTH", "sender-s3cret"]).text(), "OK");
    assert!(resp.command(&["PUBSUB", "CHANNELS"]).text().contains("103"));
    assert_eq!(resp.command(&["AUTH", "any", "reader-s3cret"]).text(), "OK");
    assert_eq!(resp.command(&["PUBSUB", "CHANNELS"]).texts(), ["news"]);
    let mut wrong = world.line();
    wrong.send("AUTH sender-s3cre");
    wrong.expect("ERROR 101 unauthorized");
}

#[test]
fn metrics_on_a_public_port_need_the_scope_read() {
    let world = TestServer::start(&[&OPTIONS[..], &["http.listen=0.0.0.0:0"]].concat());
    let get = |key: &str| {
        world.send(format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
        ))
    };
    assert_eq!(get("reader-s3cret").status, 200);
    assert_eq!(get("wrong").status, 401);
    let refused = get("sender-s3cret");
    assert!(refused.status == 403 && refused.body.contains("scope read"), "{}", refused.body);
}
