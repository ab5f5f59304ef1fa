//! Several nodes on one Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::foreign_node::ForeignNode;
use crate::requests::{json as json_of, query};
use crate::support::TestServer;

fn node_names(server: &TestServer) -> Vec<String> {
    let overview = json_of(&server.get("/admin/api/overview"));
    let nodes = overview["nodes"].as_array().expect("a list");
    nodes.iter().map(|node| node["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_node_shows_the_nodes_connections_and_channels_of_all() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let servers = ["node.name=ann", "node.name=bob"]
        .map(|name| TestServer::start(&[&broker, name, "tcp.auto_subscribe="]));
    for server in &servers {
        wait_until(PATIENCE, "both nodes", || node_names(server) == ["ann", "bob"]);
    }
    let _clients =
        [servers[0].subscriber("news"), servers[1].subscriber("news"), servers[1].subscriber("chat")];
    for server in &servers {
        let page = query(server, "connections", &json!({"limit": 10}));
        let mut nodes: Vec<_> = page["connections"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| row["node_name"].clone())
            .collect();
        nodes.sort_by_key(ToString::to_string);
        assert_eq!(nodes, ["ann", "bob", "bob"]);
        let page = query(server, "channels", &json!({"limit": 10}));
        assert_eq!(page["channels"], json!([["chat", 1], ["news", 2]]));
    }
    // Paged over both nodes, and disconnected through the other node.
    let first = query(&servers[0], "connections", &json!({"limit": 2}));
    let rest = query(&servers[0], "connections", &json!({"limit": 2, "cursors": first["next"]}));
    let ids = |page: &Value| -> Vec<Value> {
        page["connections"].as_array().expect("a list").iter().map(|row| row["client"].clone()).collect()
    };
    let mut all = [ids(&first), ids(&rest)].concat();
    all.sort_by_key(ToString::to_string);
    all.dedup();
    assert_eq!(all.len(), 3);
    let bob = query(&servers[0], "connections", &json!({"channel": "chat", "limit": 1}));
    let id = &bob["connections"][0]["client"];
    query(&servers[0], "command/disconnect", &json!({"user": "", "client": id}));
    wait_until(PATIENCE, "the disconnect on the other node", || {
        ids(&query(&servers[0], "connections", &json!({"limit": 10}))).len() == 2
    });
}

#[test]
fn a_node_that_does_not_respond_is_named_within_bounded_time() {
    let redis = RedisServer::start();
    let server = TestServer::start(&[&format!("broker={}", redis.url())]);
    server.wait_until_ready();
    let _client = server.subscriber("news");
    // A node that announces itself and never responds.
    let mut peer = ForeignNode::new(1, "none", "");
    let silent = json!({"say": {"node": {"uid": peer.uid(), "name": "sue", "version": "", "num_clients": 1,
        "num_users": 1, "num_subs": 1, "num_channels": 1, "uptime": 1}}});
    let sealed = peer.seal("tidings.node.control", &silent);
    redis.cli(&[&b"PUBLISH"[..], b"tidings.node.control", &sealed]);
    wait_until(PATIENCE, "the silent node", || {
        json_of(&server.post("/api/info", &[], "{}"))["result"]["nodes"].as_array().expect("a list").len()
            == 2
    });
    let began = Instant::now();
    let page = query(&server, "connections", &json!({"limit": 10}));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(page["missing"], json!(["sue"]), "{page}");
    assert_eq!(page["connections"].as_array().expect("a list").len(), 1, "the rest is shown");
    assert_eq!(server.metric("tidings_admin_surveys_partial_total"), 1);
}
