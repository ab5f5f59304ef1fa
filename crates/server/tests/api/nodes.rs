//! Several nodes on one Redis.

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::api_server::{ApiServer, USERS, token_with};
use crate::foreign_node::ForeignNode;

/// The label values of `tidings_api_commands`, in the order of the exposition.
const METHODS: [&str; 25] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "map_publish",
    "map_remove",
    "map_read_state",
    "map_read_stream",
    "map_stats",
    "map_clear",
    "shared_poll_publish",
    "channels",
    "info",
    "connections",
    "block_user",
    "unblock_user",
    "revoke_token",
    "invalidate_user_tokens",
    "reload",
];

fn names(server: &ApiServer) -> Vec<String> {
    let info = server.call("info", &json!({}));
    let nodes = info["nodes"].as_array().expect("a list");
    let mut names: Vec<_> = nodes.iter().map(|n| n["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

fn wait_for_each_other(servers: &[ApiServer]) {
    for server in servers {
        wait_until(PATIENCE, "every node in the list", || names(server).len() == servers.len());
    }
}

fn pair(redis: &RedisServer) -> [ApiServer; 2] {
    let broker = format!("broker={}", redis.url());
    ["node.name=ann", "node.name=bob"].map(|name| ApiServer::with(&[&broker, name]))
}

#[test]
fn each_node_lists_the_other_nodes_and_their_numbers() {
    let redis = RedisServer::start();
    let servers = pair(&redis);
    wait_for_each_other(&servers);
    assert_eq!(names(&servers[0]), ["ann", "bob"]);
    let client = servers[1].subscriber("news");
    wait_until(PATIENCE, "the numbers of the other node", || {
        let info = servers[0].call("info", &json!({}));
        let nodes = info["nodes"].as_array().expect("a list");
        nodes.iter().any(|n| n["name"] == "bob" && n["num_clients"] == 1 && n["num_channels"] == 1)
    });
    drop(client);
    let [ann, bob] = servers;
    bob.stop();
    // Much less than the time of three announcements.
    wait_until(std::time::Duration::from_secs(3), "a node that left to be removed", || {
        names(&ann) == ["ann"]
    });
}

#[test]
fn channels_are_counted_over_all_nodes() {
    let redis = RedisServer::start();
    let servers = pair(&redis);
    wait_for_each_other(&servers);
    let _clients =
        [servers[0].subscriber("news"), servers[1].subscriber("news"), servers[1].subscriber("chat")];
    let all = json!({"channels": {"news": {"num_clients": 2}, "chat": {"num_clients": 1}}});
    for server in &servers {
        assert_eq!(server.call("channels", &json!({})), all);
        let some = json!({"channels": {"chat": {"num_clients": 1}}});
        assert_eq!(server.call("channels", &json!({"pattern": "c*"})), some);
    }
}

#[test]
fn a_response_about_all_nodes_is_complete_or_an_error_that_names_the_missing_node() {
    let redis = RedisServer::start();
    let server = ApiServer::with(&[&format!("broker={}", redis.url())]);
    // A node that announces itself and never responds.
    let mut peer = ForeignNode::new(1, "none", "");
    let silent = json!({"say": {"node": {"uid": peer.uid(), "name": "sue", "version": "", "num_clients": 1,
        "num_users": 1, "num_subs": 1, "num_channels": 1, "uptime": 1}}});
    let sealed = peer.seal("tidings.node.control", &silent);
    redis.cli(&[&b"PUBLISH"[..], b"tidings.node.control", &sealed]);
    wait_until(PATIENCE, "the silent node in the list", || names(&server).contains(&"sue".to_owned()));
    let (code, message) = server.call_error("channels", &json!({}));
    assert_eq!((code, &*message), (100, "no answer within 3 s from: sue"));
}

#[test]
fn invalid_messages_between_nodes_change_nothing_and_reach_no_client() {
    let redis = RedisServer::start();
    let server = ApiServer::with(&[&format!("broker={}", redis.url())]);
    let mut everything = server.resp();
    everything.command(&["PSUBSCRIBE", "*"]);
    let mut publisher = redis.client();
    for body in ["", "hello", "{}", r#"{"say":{"dance":{}}}"#] {
        publisher.command(&["PUBLISH", "tidings.node.control", body]);
    }
    let mut peer = ForeignNode::new(1, "none", "");
    for message in
        [json!(1), json!({}), json!({"say": {"dance": {}}}), json!({"say": {"node": {"uid": "y"}}})]
    {
        let sealed = peer.seal("tidings.node.control", &message);
        publisher.command(&[&b"PUBLISH"[..], b"tidings.node.control", &sealed]);
    }
    publisher.command(&["PUBLISH", "tidings.node.other", "x"]);
    publisher.command(&["PUBLISH", "news", "x"]);
    assert_eq!(everything.reply().texts(), ["pmessage", "*", "news", "x"]);
    assert_eq!(names(&server).len(), 1);
    let command = json!({"user": "42", "disconnect": {"code": 4000, "reason": "x"}});
    assert_eq!(server.call("disconnect", &command), Value::Object(serde_json::Map::new()));
}

#[test]
fn no_client_can_end_the_internal_subscriptions_of_its_node() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let options = [&[&*broker, "broker_linger=0s"], &USERS[..]].concat();
    let servers = ["a", "b"].map(|_| ApiServer::with(&options));
    wait_for_each_other(&servers);
    let mut ann = servers[0].user("ann");
    let subscribers =
        |channel: &str| redis.client().command(&["PUBSUB", "NUMSUB", channel]).texts()[1].clone();
    assert_eq!(subscribers("tidings.node.control"), "2");
    // Attempts of clients to subscribe to internal channels, and a client of another channel.
    for own in ["tidings.node.control", "tidings.node.other"] {
        let mut line = servers[0].resp();
        line.command(&["AUTH", &token_with(&json!({"sub": "eve", "channels": [own]}))]);
        line.command(&["SUBSCRIBE", own]);
        line.command(&["UNSUBSCRIBE", own]);
        line.command(&["PSUBSCRIBE", own]);
        assert!(servers[0].rejects(&json!({"sub": "eve", "channels": [own]})), "{own}");
        assert!(servers[0].rejects(&json!({"sub": "eve", "subs": {own: {}}})), "{own}");
    }
    let mut client = servers[0].user("bob");
    client.call("subscribe", &json!({"channel": "other"}));
    assert_eq!(subscribers("other"), "1");
    client.call("unsubscribe", &json!({"channel": "other"}));
    wait_until(PATIENCE, "the channel without subscribers to be unsubscribed", || {
        subscribers("other") == "0"
    });
    assert_eq!(subscribers("tidings.node.control"), "2");
    servers[1].call("subscribe", &json!({"user": "ann", "channel": "news"}));
    assert_eq!(ann.push("subscribe").0, "news");
}

#[test]
fn an_order_to_one_node_takes_effect_on_all_nodes() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let servers = ["ann", "bob"].map(|_| ApiServer::with(&[&[&*broker], &USERS[..]].concat()));
    let mut members = servers.each_ref().map(|server| server.user("ann"));
    servers[0].call("subscribe", &json!({"user": "ann", "channel": "news", "info": {"a": 1}}));
    for member in &mut members {
        assert_eq!(member.push("subscribe").0, "news");
    }
    for server in &servers {
        wait_until(PATIENCE, "both to be present", || {
            let stats = server.call("presence_stats", &json!({"channel": "news"}));
            stats == json!({"num_clients": 2, "num_users": 1})
        });
    }
    let command = json!({"user": "ann", "disconnect": {"code": 4000, "reason": "later"}});
    servers[1].call("disconnect", &command);
    for member in &mut members {
        let expected = json!({"code": 4000, "reason": "later", "reconnect": true});
        assert_eq!(member.push("disconnect").1, expected);
        member.expect_close();
    }
}

#[test]
fn a_stream_on_one_node_gets_commands_that_another_node_received() {
    let redis = RedisServer::start();
    let servers = pair(&redis);
    wait_for_each_other(&servers);
    // A response to HTTP/1.0 has no chunked encoding.
    let mut stream = LineClient::connect(servers[0].http());
    let connect = r#"{"id":1,"connect":{}}"#;
    let length = connect.len();
    stream.send_bytes(
        format!("POST /connection/http_stream HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{connect}")
            .as_bytes(),
    );
    while !stream.line().is_empty() {}
    let mut line = || serde_json::from_str::<Value>(&stream.line()).expect("JSON");
    let connected = line()["connect"].take();
    let emulate = |node: &Value, commands: &str| {
        let body = json!({"session": connected["session"], "node": node, "data": commands});
        servers[1].post("/emulation", &[], &body.to_string()).status
    };
    for id in 2..30 {
        let subscribe = json!({"id": id, "subscribe": {"channel": format!("c{id}")}}).to_string();
        assert_eq!(emulate(&connected["node"], &subscribe), 204);
    }
    for id in 2..30 {
        assert_eq!(line()["id"], id);
    }
    assert_eq!(emulate(&json!("elsewhere"), "{}"), 404);
}

#[test]
fn api_commands_and_rejected_node_messages_are_counted() {
    let redis = RedisServer::start();
    let server = ApiServer::with(&[&format!("broker={}", redis.url()), "http_api.key=k"]);
    let key = ["X-API-Key: k"];
    server.post("/api/publish", &[], "{}");
    server.post("/api/publish", &key, r#"{"channel":"a","data":1}"#);
    server.post("/api/broadcast", &key, r#"{"channels":["a",""],"data":1}"#);
    server.post(
        "/api/batch",
        &key,
        r#"{"commands":[{"publish":{}},{"publish":{"channel":"a","data":1}},{"x":{}}]}"#,
    );
    redis.cli(&["PUBLISH", "tidings.node.control", "nonsense"]);
    let sealed = ForeignNode::new(1, "http_api.key", "k").seal("tidings.node.control", &json!("nonsense"));
    redis.cli(&[&b"PUBLISH"[..], b"tidings.node.control", &sealed]);
    let counted = || server.get("/metrics").body;
    let is = |sample: &str| counted().lines().any(|line| line == sample);
    for sample in [
        r#"tidings_api_commands_total{method="publish"} 3"#,
        r#"tidings_api_commands_total{method="broadcast"} 1"#,
        "tidings_api_errors_total 3",
        "tidings_api_refused_total 1",
        "tidings_nodes 1",
    ] {
        assert!(is(sample), "{sample} is not in\n{}", counted());
    }
    let body = counted();
    let methods = body.lines().filter_map(|line| {
        line.strip_prefix("tidings_api_commands_total{method=\"")?.split_once('"').map(|(method, _)| method)
    });
    assert_eq!(methods.collect::<Vec<_>>(), METHODS);
    wait_until(PATIENCE, "an ignored message to be counted", || is("tidings_nodes_ignored_total 1"));
    assert!(is(r#"tidings_nodes_rejected_total{reason="unsealed"} 1"#), "{}", counted());
}

#[test]
fn nodes_share_the_maps_of_one_redis_and_say_that_it_is_away() {
    let mut redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let map = ["channel.namespaces=board", "channel.namespaces.board.subscription_type=map"];
    let servers = [(); 2].map(|()| ApiServer::with(&[&broker, map[0], map[1]]));
    let channel = "board:a";
    let set = |server: &ApiServer, key: &str| {
        server.call("map_publish", &json!({"channel": channel, "key": key, "data": {"n": 1}}))
    };
    let first = set(&servers[0], "x");
    let second = set(&servers[1], "y");
    assert_eq!((&first["offset"], &second["offset"]), (&json!(1), &json!(2)));
    assert_eq!(first["epoch"], second["epoch"]);
    for server in &servers {
        let state = server.call("map_read_state", &json!({"channel": channel, "limit": 10}));
        assert_eq!(state["entries"].as_array().map(Vec::len), Some(2), "{state}");
        assert_eq!(server.call("map_stats", &json!({"channel": channel}))["num_keys"], 2);
    }
    servers[1].call("map_remove", &json!({"channel": channel, "key": "x"}));
    let since = json!({"channel": channel, "limit": 10, "since_offset": 1, "since_epoch": first["epoch"]});
    let stream = servers[0].call("map_read_stream", &since);
    let changes: Vec<_> =
        stream["entries"].as_array().expect("a list").iter().map(|e| (&e["key"], &e["removed"])).collect();
    assert_eq!(changes, [(&json!("y"), &Value::Null), (&json!("x"), &json!(true))]);
    servers[0].call("map_clear", &json!({"channel": channel}));
    assert_eq!(servers[1].call("map_stats", &json!({"channel": channel}))["num_keys"], 0);
    redis.kill();
    wait_until(PATIENCE, "the error of an absent broker", || {
        let publish = json!({"channel": channel, "key": "x", "data": 1});
        servers[0].call_error("map_publish", &publish).0 == 100
    });
    assert_eq!(servers[1].call_error("map_read_state", &json!({"channel": channel})).0, 100);
}
