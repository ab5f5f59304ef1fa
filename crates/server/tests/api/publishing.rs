//! `publish` and `broadcast`.

use serde_json::json;
use tidings_testkit::RedisServer;

use crate::world::World;

const HISTORY: [&str; 2] =
    ["channel.without_namespace.history_size=10", "channel.without_namespace.history_ttl=60s"];

#[test]
fn what_is_published_reaches_subscribers_as_it_was_written() {
    let world = World::with(&[]);
    let mut client = world.subscriber("news");
    for (data, arrives) in [
        (json!({"text": "hello"}), r#"{"text":"hello"}"#),
        (json!("hello"), r#""hello""#),
        (json!(42), "42"),
        (json!(null), "null"),
        (json!([1, "ü"]), r#"[1,"ü"]"#),
    ] {
        assert_eq!(world.ask("publish", &json!({"channel": "news", "data": data})), json!({}));
        client.expect(&format!("MESSAGE news {arrives}"));
    }
    // Numbers keep their digits, and spaces stay where they were.
    let body = r#"{"channel":"news","data":{"a": 1.50, "b": 12345678901234567890.10}}"#;
    assert_eq!(world.post("/api/publish", &[], body).body, r#"{"result":{}}"#);
    client.expect(r#"MESSAGE news {"a": 1.50, "b": 12345678901234567890.10}"#);
    // Binary data comes in base64, and counts when both are there.
    world.ask("publish", &json!({"channel": "news", "data": 1, "b64data": "YSBi"}));
    client.expect("MESSAGE news a b");
    // A body may have no bytes; libraries send an empty text for none.
    world.ask("publish", &json!({"channel": "news", "b64data": ""}));
    client.expect("MESSAGE news ");
    world.ask("publish", &json!({"channel": "news", "data": 1, "b64data": ""}));
    client.expect("MESSAGE news 1");
    assert_eq!(world.fail("publish", &json!({"channel": "news", "b64data": null})).0, 107);
}

#[test]
fn with_history_the_result_says_where_the_publication_stands() {
    let world = World::with(&HISTORY);
    let first = world.ask("publish", &json!({"channel": "news", "data": 1}));
    let second = world.ask("publish", &json!({"channel": "news", "data": 2}));
    assert_eq!((&first["offset"], &second["offset"]), (&json!(1), &json!(2)));
    assert_eq!(first["epoch"], second["epoch"]);
    assert_ne!(first["epoch"].as_str().expect("an epoch"), "");
    let skipped = world.ask("publish", &json!({"channel": "news", "data": 3, "skip_history": true}));
    assert_eq!(skipped, json!({}));
    let page = world.ask("history", &json!({"channel": "news", "limit": -1}));
    let bodies: Vec<_> =
        page["publications"].as_array().expect("a list").iter().map(|p| &p["data"]).collect();
    assert_eq!(bodies, [1, 2]);
}

#[test]
fn the_same_idempotency_key_publishes_once_in_a_channel_on_any_node() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let options = [&[&*broker], &HISTORY[..]].concat();
    let nodes = [World::with(&options), World::with(&options)];
    let publish = json!({"channel": "news", "data": 1, "idempotency_key": "k"});
    let first = nodes[0].ask("publish", &publish);
    assert_eq!(first["offset"], 1);
    for node in &nodes {
        assert_eq!(node.ask("publish", &publish), first);
    }
    let other = json!({"channel": "other", "data": 1, "idempotency_key": "k"});
    assert_eq!(nodes[1].ask("publish", &other)["offset"], 1);
    let position = nodes[0].ask("history", &json!({"channel": "news"}));
    assert_eq!((&position["offset"], &position["publications"]), (&json!(1), &json!([])));
    drop(nodes);
    // In memory too.
    let world = World::with(&HISTORY);
    let first = world.ask("publish", &publish);
    assert_eq!(world.ask("publish", &publish), first);
    assert_eq!(
        world.ask("broadcast", &json!({"channels": ["news"], "data": 2, "idempotency_key": "k"}))["responses"]
            [0]["result"],
        first
    );
}

#[test]
fn a_broadcast_answers_for_each_channel_in_order() {
    let world = World::with(&[
        "channel.namespaces=kept",
        "channel.namespaces.kept.history_size=5",
        "channel.namespaces.kept.history_ttl=1m",
    ]);
    let mut client = world.subscriber("a");
    let request =
        json!({"channels": ["a", "kept:b", "none:c", "", "bad\tname", "tidings.node.control"], "data": [1]});
    let responses = world.ask("broadcast", &request)["responses"].take();
    client.expect("MESSAGE a [1]");
    assert_eq!(responses[0], json!({"result": {}}));
    assert_eq!(responses[1]["result"]["offset"], 1);
    assert_eq!(responses[2], json!({"error": {"code": 102, "message": "unknown channel"}}));
    let codes: Vec<_> = (3..6).map(|i| responses[i]["error"]["code"].as_u64().expect("a code")).collect();
    assert_eq!(codes, [107, 107, 103]);
    assert_eq!(responses.as_array().map(Vec::len), Some(6));
}

#[test]
fn tags_travel_with_a_publication() {
    let world = World::with(&HISTORY);
    world.ask("publish", &json!({"channel": "news", "data": 1, "tags": {"lang": "de", "a": "b"}}));
    let page = world.ask("history", &json!({"channel": "news", "limit": 1}));
    assert_eq!(page["publications"][0]["tags"], json!({"lang": "de", "a": "b"}));
    world.ask("publish", &json!({"channel": "news", "data": 1, "tags": null}));
    let page = world.ask("history", &json!({"channel": "news", "limit": 1, "reverse": true}));
    assert_eq!(page["publications"][0], json!({"data": 1, "offset": 2}));
}

#[test]
fn what_cannot_be_published_is_refused_with_its_code() {
    let world = World::with(&["channel.namespaces=kept"]);
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
        assert_eq!(world.fail("publish", &request).0, code, "{request}");
    }
    let unknown = world.fail("publish", &json!({"channel": "none:news", "data": 1}));
    assert_eq!(unknown, (102, "unknown channel".into()));
    assert_eq!(world.fail("broadcast", &json!({"channels": [], "data": 1})).0, 107);
    assert_eq!(world.fail("broadcast", &json!({"channels": ["a"]})).0, 107);
    // What libraries send for the defaults is no trouble.
    let defaults = json!({"channel": "news", "data": 1, "delta": true, "version": 0, "version_epoch": "", "tags": {},
        "b64data": "", "idempotency_key": null, "something_new": [1]});
    assert_eq!(world.ask("publish", &defaults), json!({}));
}

#[test]
fn while_the_broker_is_away_the_error_is_temporary_and_says_so() {
    let redis = RedisServer::absent();
    let world = World::absent_broker(&[&format!("broker={}", redis.url())]);
    let failed = world.fail("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(failed, (100, "broker unavailable".into()));
    assert_eq!(world.fail("disconnect", &json!({"user": "42"})).0, 100);
    // Other nodes may have channels that this one does not know of.
    assert_eq!(world.fail("channels", &json!({})).0, 100);
}
