//! `publish` and `broadcast`.

use serde_json::json;
use tidings_testkit::RedisServer;

use crate::api_server::ApiServer;

const HISTORY: [&str; 2] =
    ["channel.without_namespace.history_size=10", "channel.without_namespace.history_ttl=60s"];

#[test]
fn a_publication_reaches_subscribers_byte_for_byte() {
    let server = ApiServer::with(&[]);
    let mut client = server.subscriber("news");
    for (data, arrives) in [
        (json!({"text": "hello"}), r#"{"text":"hello"}"#),
        (json!("hello"), r#""hello""#),
        (json!(42), "42"),
        (json!(null), "null"),
        (json!([1, "ü"]), r#"[1,"ü"]"#),
    ] {
        assert_eq!(server.call("publish", &json!({"channel": "news", "data": data})), json!({}));
        client.expect(&format!("MESSAGE news {arrives}"));
    }
    // Digits of numbers and spaces are preserved.
    let body = r#"{"channel":"news","data":{"a": 1.50, "b": 12345678901234567890.10}}"#;
    assert_eq!(server.post("/api/publish", &[], body).body, r#"{"result":{}}"#);
    client.expect(r#"MESSAGE news {"a": 1.50, "b": 12345678901234567890.10}"#);
    // Base64 data takes precedence over `data`.
    server.call("publish", &json!({"channel": "news", "data": 1, "b64data": "YSBi"}));
    client.expect("MESSAGE news a b");
    // A body may be empty. With `data`, an empty string means that there is no base64 data.
    server.call("publish", &json!({"channel": "news", "b64data": ""}));
    client.expect("MESSAGE news ");
    server.call("publish", &json!({"channel": "news", "data": 1, "b64data": ""}));
    client.expect("MESSAGE news 1");
    assert_eq!(server.call_error("publish", &json!({"channel": "news", "b64data": null})).0, 107);
}

#[test]
fn with_a_history_the_result_has_the_position_of_the_publication() {
    let server = ApiServer::with(&HISTORY);
    let first = server.call("publish", &json!({"channel": "news", "data": 1}));
    let second = server.call("publish", &json!({"channel": "news", "data": 2}));
    assert_eq!((&first["offset"], &second["offset"]), (&json!(1), &json!(2)));
    assert_eq!(first["epoch"], second["epoch"]);
    assert_ne!(first["epoch"].as_str().expect("an epoch"), "");
    let skipped = server.call("publish", &json!({"channel": "news", "data": 3, "skip_history": true}));
    assert_eq!(skipped, json!({}));
    let page = server.call("history", &json!({"channel": "news", "limit": -1}));
    let bodies: Vec<_> =
        page["publications"].as_array().expect("a list").iter().map(|p| &p["data"]).collect();
    assert_eq!(bodies, [1, 2]);
}

#[test]
fn the_same_idempotency_key_publishes_once_in_a_channel_on_any_node() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let options = [&[&*broker], &HISTORY[..]].concat();
    let nodes = [ApiServer::with(&options), ApiServer::with(&options)];
    let publish = json!({"channel": "news", "data": 1, "idempotency_key": "k"});
    let first = nodes[0].call("publish", &publish);
    assert_eq!(first["offset"], 1);
    for node in &nodes {
        assert_eq!(node.call("publish", &publish), first);
    }
    let other = json!({"channel": "other", "data": 1, "idempotency_key": "k"});
    assert_eq!(nodes[1].call("publish", &other)["offset"], 1);
    let position = nodes[0].call("history", &json!({"channel": "news"}));
    assert_eq!((&position["offset"], &position["publications"]), (&json!(1), &json!([])));
    drop(nodes);
    // The same with the memory broker.
    let server = ApiServer::with(&HISTORY);
    let first = server.call("publish", &publish);
    assert_eq!(server.call("publish", &publish), first);
    assert_eq!(
        server.call("broadcast", &json!({"channels": ["news"], "data": 2, "idempotency_key": "k"}))["responses"]
            [0]["result"],
        first
    );
}

#[test]
fn a_broadcast_has_a_response_for_each_channel_in_order() {
    let server = ApiServer::with(&[
        "channel.namespaces=kept",
        "channel.namespaces.kept.history_size=5",
        "channel.namespaces.kept.history_ttl=1m",
    ]);
    let mut client = server.subscriber("a");
    let request =
        json!({"channels": ["a", "kept:b", "none:c", "", "bad\tname", "tidings.node.control"], "data": [1]});
    let responses = server.call("broadcast", &request)["responses"].take();
    client.expect("MESSAGE a [1]");
    assert_eq!(responses[0], json!({"result": {}}));
    assert_eq!(responses[1]["result"]["offset"], 1);
    assert_eq!(responses[2], json!({"error": {"code": 102, "message": "unknown channel"}}));
    let codes: Vec<_> = (3..6).map(|i| responses[i]["error"]["code"].as_u64().expect("a code")).collect();
    assert_eq!(codes, [107, 107, 103]);
    assert_eq!(responses.as_array().map(Vec::len), Some(6));
}

#[test]
fn tags_are_delivered_with_a_publication() {
    let server = ApiServer::with(&HISTORY);
    server.call("publish", &json!({"channel": "news", "data": 1, "tags": {"lang": "de", "a": "b"}}));
    let page = server.call("history", &json!({"channel": "news", "limit": 1}));
    assert_eq!(page["publications"][0]["tags"], json!({"lang": "de", "a": "b"}));
    server.call("publish", &json!({"channel": "news", "data": 1, "tags": null}));
    let page = server.call("history", &json!({"channel": "news", "limit": 1, "reverse": true}));
    assert_eq!(page["publications"][0], json!({"data": 1, "offset": 2}));
}

#[test]
fn an_invalid_publication_is_rejected_with_its_code() {
    let server = ApiServer::with(&["channel.namespaces=kept"]);
    let key = "k".repeat(256);
    for (request, code) in [
        (json!({}), 107),
        (json!({"channel": "news"}), 107),
        (json!({"data": 1}), 107),
        (json!({"channel": "n\tws", "data": 1}), 107),
        (json!({"channel": "x".repeat(256), "data": 1}), 107),
        (json!({"channel": "news", "b64data": "?"}), 107),
        (json!({"channel": "news", "data": 1, "idempotency_key": key}), 107),
        (json!({"channel": "news", "data": 1, "version": 3}), 108),
        (json!({"channel": "none:news", "data": 1}), 102),
        (json!({"channel": "tidings.node.control", "data": 1}), 103),
        (json!({"channel": "tidings.node.canary.x", "data": 1}), 103),
        (json!({"channel": "tidings.x", "data": 1}), 103),
    ] {
        assert_eq!(server.call_error("publish", &request).0, code, "{request}");
    }
    let unknown = server.call_error("publish", &json!({"channel": "none:news", "data": 1}));
    assert_eq!(unknown, (102, "unknown channel".into()));
    assert_eq!(server.call_error("broadcast", &json!({"channels": [], "data": 1})).0, 107);
    assert_eq!(server.call_error("broadcast", &json!({"channels": ["a"]})).0, 107);
    // Fields with default values, as libraries send them, and unknown fields are accepted.
    let defaults = json!({"channel": "news", "data": 1, "delta": true, "version": 0, "version_epoch": "", "tags": {},
        "b64data": "", "idempotency_key": null, "something_new": [1]});
    assert_eq!(server.call("publish", &defaults), json!({}));
}

#[test]
fn while_the_broker_is_unavailable_commands_fail_with_its_error() {
    let redis = RedisServer::absent();
    let server = ApiServer::without_broker(&[&format!("broker={}", redis.url())]);
    let failed = server.call_error("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(failed, (100, "broker unavailable".into()));
    assert_eq!(server.call_error("disconnect", &json!({"user": "42"})).0, 100);
    // The channels of other nodes are unknown.
    assert_eq!(server.call_error("channels", &json!({})).0, 100);
}
