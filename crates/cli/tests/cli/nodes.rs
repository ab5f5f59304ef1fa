//! Several nodes on one Redis, from the outside.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_testkit::{
    LineClient, PATIENCE, RedisServer, Signal, Tidings, get_http, metric, post_http, wait_until,
};

use crate::tool::server;

fn api(node: &Tidings, method: &str, body: &Value) -> Value {
    let response = post_http(node.http(), &format!("/api/{method}"), &[], body.to_string());
    serde_json::from_str(&response.body).unwrap()
}

/// Starts nodes that share a Redis, and waits until each has registered the others.
fn nodes<const N: usize>(redis: &RedisServer, options: [&[&str]; N]) -> [Tidings; N] {
    let url = redis.url();
    let nodes = options.map(|options| {
        let mut flags = vec!["--broker", &url];
        options.iter().for_each(|option| flags.extend(["--set", option]));
        server(&flags)
    });
    for node in &nodes {
        node.wait_for_log("ready: everything in use works");
        wait_until(PATIENCE, "nodes that know each other", || {
            api(node, "info", &json!({}))["result"]["nodes"].as_array().is_some_and(|nodes| nodes.len() == N)
        });
    }
    nodes
}

fn next(client: &mut LineClient) -> Value {
    serde_json::from_str(&client.line()).unwrap()
}

/// A client that is subscribed to `room`, and its id.
fn member(node: &Tidings) -> (LineClient, String) {
    let mut client = LineClient::connect(node.tcp());
    client.send(r#"{"id":1,"connect":{}}"#);
    let id = next(&mut client)["connect"]["client"].as_str().expect("an id").to_owned();
    client.send(r#"{"id":2,"subscribe":{"channel":"room"}}"#);
    assert!(next(&mut client)["subscribe"].is_object());
    (client, id)
}

/// The ids of clients in `count` `join` or `leave` pushes to a client.
fn pushed_clients(client: &mut LineClient, what: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let message = next(client);
        if let Some(id) = message["push"][what]["info"]["client"].as_str() {
            ids.push(id.to_owned());
        }
    }
    ids.sort();
    ids
}

fn present(node: &Tidings) -> usize {
    let presence = api(node, "presence", &json!({"channel": "room"}));
    presence["result"]["presence"].as_object().map_or(usize::MAX, serde_json::Map::len)
}

#[test]
fn the_members_of_a_killed_node_leave_once_within_15_seconds_on_every_other_node() {
    let redis = RedisServer::start();
    let options = [
        "channel.without_namespace.presence=true",
        "channel.without_namespace.join_leave=true",
        "channel.without_namespace.force_push_join_leave=true",
    ];
    let [killed, second, third] = nodes(&redis, [&options; 3]);
    let mut watching = [member(&second), member(&third)];
    let members: Vec<_> = (0..3).map(|_| member(&killed)).collect();
    let mut gone: Vec<_> = members.iter().map(|(_, id)| id.clone()).collect();
    gone.sort();
    wait_until(PATIENCE, "all to be present", || present(&second) == 5);
    killed.signal(Signal::KILL);
    let end = Instant::now() + Duration::from_secs(15);
    for (client, _) in &mut watching {
        assert_eq!(pushed_clients(client, "leave", 3), gone);
    }
    assert!(Instant::now() < end, "too late");
    for node in [&second, &third] {
        wait_until(PATIENCE, "only the others to be present", || present(node) == 2);
    }
    // Only once: the next push is a later publication.
    for (client, _) in &mut watching {
        redis.cli(&["PUBLISH", "room", "1"]);
        loop {
            let message = next(client);
            assert!(message["push"]["leave"].is_null(), "a second time: {message}");
            if message["push"]["pub"].is_object() {
                break;
            }
        }
    }
}

#[test]
fn the_members_of_a_suspended_node_join_again_and_stay() {
    let redis = RedisServer::start();
    let options = [
        "channel.without_namespace.presence=true",
        "channel.without_namespace.join_leave=true",
        "channel.without_namespace.force_push_join_leave=true",
    ];
    let [silent, other] = nodes(&redis, [&options; 2]);
    let (mut watching, _) = member(&other);
    let (_client, id) = member(&silent);
    wait_until(PATIENCE, "both to be present", || present(&other) == 2);
    silent.signal(Signal::STOP);
    assert_eq!(pushed_clients(&mut watching, "leave", 1), std::slice::from_ref(&id));
    silent.signal(Signal::CONT);
    assert_eq!(pushed_clients(&mut watching, "join", 1), [id]);
    // A query of the presence removes no further members.
    for _ in 0..3 {
        assert_eq!(present(&other), 2);
    }
    redis.cli(&["PUBLISH", "room", "1"]);
    loop {
        // Pings may arrive in between.
        let message = next(&mut watching);
        assert!(message["push"]["leave"].is_null(), "it is there: {message}");
        if message["push"]["pub"].is_object() {
            break;
        }
    }
}

#[test]
fn nodes_with_different_configurations_log_it_and_continue() {
    let redis = RedisServer::start();
    let (one, other) = (["channel.namespaces=chat"], ["channel.namespaces=news"]);
    let nodes = nodes(&redis, [&one[..], &one, &other]);
    nodes[2].wait_for_log("another node on this broker has other options of channels");
    for (node, different) in nodes.iter().zip([1, 1, 2]) {
        assert_eq!(metric(node.http(), "tidings_nodes_different"), different);
        assert_eq!(get_http(node.http(), "/ready").body.matches("\"ready\":true").count(), 1);
    }
    let warnings = |node: &Tidings| node.stderr().matches("other options of channels").count();
    assert_eq!(nodes.iter().map(warnings).collect::<Vec<_>>(), [1, 1, 2], "once for each node");
}
