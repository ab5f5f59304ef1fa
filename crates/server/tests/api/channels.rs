//! `history`, `history_remove`, `presence`, `presence_stats`, `channels` and `info` on one node.

use serde_json::{Value, json};

use crate::api_server::ApiServer;

const HISTORY: [&str; 2] =
    ["channel.without_namespace.history_size=5", "channel.without_namespace.history_ttl=60s"];

fn offsets(page: &Value) -> Vec<u64> {
    let publications = page["publications"].as_array().expect("a list");
    publications.iter().map(|p| p["offset"].as_u64().expect("an offset")).collect()
}

#[test]
fn a_history_is_read_from_any_position_in_either_direction() {
    let server = ApiServer::with(&HISTORY);
    let empty = server.call("history", &json!({"channel": "news"}));
    assert_eq!((&empty["offset"], &empty["publications"]), (&json!(0), &json!([])));
    let epoch = empty["epoch"].as_str().expect("an epoch").to_owned();
    for n in 1..=8 {
        server.call("publish", &json!({"channel": "news", "data": {"n": n}}));
    }
    let read = |more: Value| {
        let mut request = json!({"channel": "news"});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let page = server.call("history", &request);
        assert_eq!((&page["offset"], &page["epoch"]), (&json!(8), &json!(epoch)), "{request}");
        offsets(&page)
    };
    assert!(read(json!({})).is_empty(), "without a limit only the position");
    assert!(read(json!({"limit": 0})).is_empty());
    assert_eq!(read(json!({"limit": -1})), [4, 5, 6, 7, 8]);
    assert_eq!(read(json!({"limit": 2})), [4, 5]);
    assert_eq!(read(json!({"limit": 2, "reverse": true})), [8, 7]);
    assert_eq!(read(json!({"limit": 2, "since": {"offset": 5, "epoch": epoch}})), [6, 7]);
    assert_eq!(read(json!({"limit": -1, "since": {"offset": 5, "epoch": ""}})), [6, 7, 8]);
    assert_eq!(read(json!({"limit": 2, "reverse": true, "since": {"offset": 7, "epoch": epoch}})), [6, 5]);
    let behind = json!({"offset": 99, "epoch": epoch});
    for since in [json!({"offset": 2, "epoch": epoch}), json!({"offset": 7, "epoch": "other"}), behind] {
        let request = json!({"channel": "news", "limit": 9, "since": since});
        assert_eq!(server.call_error("history", &request), (112, "unrecoverable position".into()));
        let mode = ["X-Centrifugo-Error-Mode: transport"];
        assert_eq!(server.post("/api/history", &mode, &request.to_string()).status, 416);
    }
}

#[test]
fn a_history_that_is_removed_keeps_its_position() {
    let server = ApiServer::with(&HISTORY);
    let published = server.call("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(server.call("history_remove", &json!({"channel": "news"})), json!({}));
    let page = server.call("history", &json!({"channel": "news", "limit": 5}));
    assert_eq!(page, json!({"publications": [], "offset": 1, "epoch": published["epoch"]}));
}

#[test]
fn bodies_of_a_history_are_encoded_as_for_json_clients() {
    let server = ApiServer::with(&HISTORY);
    for (base64, shown) in
        [("aGVsbG8=", json!("hello")), ("/w==", json!({"b64": "/w=="})), ("WzFd", json!([1]))]
    {
        server.call("publish", &json!({"channel": "news", "b64data": base64}));
        let page = server.call("history", &json!({"channel": "news", "limit": 1, "reverse": true}));
        assert_eq!(page["publications"][0]["data"], shown);
    }
}

#[test]
fn history_and_presence_are_not_available_where_they_are_off() {
    let server = ApiServer::with(&[]);
    for method in ["history", "history_remove", "presence", "presence_stats"] {
        let (code, message) = server.call_error(method, &json!({"channel": "news"}));
        assert_eq!(code, 108, "{method}");
        assert!(message.starts_with("not available"), "{message}");
        assert_eq!(server.call_error(method, &json!({})).0, 107, "{method}");
        for internal in ["tidings.node.x", "tidings.x", "tidings."] {
            assert_eq!(
                server.call_error(method, &json!({"channel": internal})).0,
                103,
                "{method} {internal}"
            );
        }
    }
}

#[test]
fn channels_are_those_with_subscribers() {
    let server = ApiServer::with(&[]);
    assert_eq!(server.call("channels", &json!({})), json!({"channels": {}}));
    let clients = [server.subscriber("news:a"), server.subscriber("news:a"), server.subscriber("chat")];
    let mut everything = server.resp();
    everything.command(&["PSUBSCRIBE", "*"]);
    let all = json!({"channels": {"news:a": {"num_clients": 2}, "chat": {"num_clients": 1}}});
    assert_eq!(server.call("channels", &json!({})), all);
    let some = json!({"channels": {"news:a": {"num_clients": 2}}});
    assert_eq!(server.call("channels", &json!({"pattern": "news:*"})), some);
    assert_eq!(server.call("channels", &json!({"pattern": "x*"})), json!({"channels": {}}));
    assert_eq!(server.call_error("channels", &json!({"pattern": "a\tb"})).0, 107);
    drop(clients);
    tidings_testkit::wait_until(
        tidings_testkit::PATIENCE,
        "channels without subscribers to be removed",
        || server.call("channels", &json!({})) == json!({"channels": {}}),
    );
}

#[test]
fn info_describes_the_node() {
    let server = ApiServer::with(&["node.name=tom"]);
    let _clients = [server.subscriber("news"), server.subscriber("chat")];
    server.wait_for_counts(&[], [2, 0, 2, 2]);
    let info = server.call("info", &json!({}));
    let [node] = &info["nodes"].as_array().expect("a list")[..] else { panic!("{info}") };
    assert_eq!((&node["name"], &node["version"]), (&json!("tom"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(node["uptime"].is_u64() && node["uid"].as_str().is_some_and(|uid| uid.len() >= 8), "{node}");
    let other = ApiServer::with(&[]);
    let info = other.call("info", &json!({}));
    let name = info["nodes"][0]["name"].as_str().expect("a name").to_owned();
    assert!(name.ends_with(&format!("_{}", other.http().port())), "{name}");
    assert_ne!(info["nodes"][0]["uid"], node["uid"]);
}
