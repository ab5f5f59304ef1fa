//! Several nodes on one Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::sealed::ForeignNode;
use crate::support::TestServer;
use crate::world::{ask, json as json_of};

fn node_names(world: &TestServer) -> Vec<String> {
    let overview = json_of(&world.get("/admin/api/overview"));
    let nodes = overview["nodes"].as_array().expect("a list");
    nodes.iter().map(|node| node["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_node_shows_the_nodes_connections_and_channels_of_all() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let worlds = ["node.name=ann", "node.name=bob"]
        .map(|name| TestServer::start(&[&broker, name, "tcp.auto_subscribe="]));
    for world in &worlds {
        wait_until(PATIENCE, "both nodes", || node_names(world) == ["ann", "bob"]);
    }
    let _clients = [worlds[0].subscriber("news"), worlds[1].subscriber("news"), worlds[1].subscriber("chat")];
    for world in &worlds {
        let page = ask(world, "connections", &json!({"limit": 10}));
        let mut nodes: Vec<_> = page["connections"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| row["node_name"].clone())
            .collect();
        nodes.sort_by_key(ToString::to_string);
        assert_eq!(nodes, ["ann", "bob", "bob"]);
        let page = ask(world, "channels", &json!({"limit": 10}));
        assert_eq!(page["channels"], json!([["chat", 1], ["news", 2]]));
    }
    // Paged over both nodes, and disconnected through the other node.
    let first = ask(&worlds[0], "connections", &json!({"limit": 2}));
    let rest = ask(&worlds[0], "connections", &json!({"limit": 2, "cursors": first["next"]}));
    let ids = |page: &Value| -> Vec<Value> {
        page["connections"].as_array().expect("a list").iter().map(|row| row["client"].clone()).collect()
    };
    let mut all = [ids(&first), ids(&rest)].concat();
    all.sort_by_key(ToString::to_string);
    all.dedup();
    assert_eq!(all.len(), 3);
    let bob = ask(&worlds[0], "connections", &json!({"channel": "chat", "limit": 1}));
    let id = &bob["connections"][0]["client"];
    ask(&worlds[0], "command/disconnect", &json!({"user": "", "client": id}));
    wait_until(PATIENCE, "the disconnect on the other node", || {
        ids(&ask(&worlds[0], "connections", &json!({"limit": 10}))).len() == 2
    });
}

#[test]
fn a_node_that_does_not_respond_is_named_within_bounded_time() {
    let redis = RedisServer::start();
    let world = TestServer::start(&[&format!("broker={}", redis.url())]);
    world.wait_until_ready();
    let _client = world.subscriber("news");
    // A node that announces itself and never responds.
    let mut peer = ForeignNode::new(1, "none", "");
    let silent = json!({"say": {"node": {"uid": peer.uid(), "name": "sue", "version": "", "num_clients": 1,
        "num_users": 1, "num_subs": 1, "num_channels": 1, "uptime": 1}}});
    let sealed = peer.seal("tidings.node.control", &silent);
    redis.cli(&[&b"PUBLISH"[..], b"tidings.node.control", &sealed]);
    wait_until(PATIENCE, "the silent node", || {
        json_of(&world.post("/api/info", &[], "{}"))["result"]["nodes"].as_array().expect("a list").len() == 2
    });
    let began = Instant::now();
    let page = ask(&world, "connections", &json!({"limit": 10}));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(page["missing"], json!(["sue"]), "{page}");
    assert_eq!(page["connections"].as_array().expect("a list").len(), 1, "the rest is shown");
    assert_eq!(world.metric("tidings_admin_surveys_partial_total"), 1);
}
