//! Redis clients for Python and Node, unmodified, with the memory broker and with Redis.

use std::path::PathBuf;
use std::process::Command;

use tidings_testkit::{RedisServer, test_tool};

use crate::node::{TestNode, start_quiet_node};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) {
    let output = command.output().expect("the client starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success() && text(&output.stdout).ends_with("ok\n"),
        "{command:?}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn python(node: &TestNode, protocol: &str) {
    run(Command::new(test_tool("python").join("bin/python"))
        .arg(root().join("tests/clients/python_redis.py"))
        .args([&node.tcp().to_string(), protocol]));
}

fn javascript(node: &TestNode, client: &str, counts: &str) {
    run(Command::new("node")
        .env("TIDINGS_NODE_MODULES", test_tool("node"))
        .arg(root().join("tests/clients/node_redis.mjs"))
        .args([&node.tcp().to_string(), client, counts]));
}

#[test]
fn redis_py_subscribes_and_publishes_with_the_memory_broker() {
    let node = start_quiet_node(&[]);
    python(&node, "2");
    python(&node, "3");
}

#[test]
fn redis_py_subscribes_and_publishes_with_the_redis_broker() {
    let redis = RedisServer::start();
    let node = start_quiet_node(&[("broker", &redis.url())]);
    node.wait_until_ready();
    python(&node, "2");
    python(&node, "3");
}

fn socket_io(node: &TestNode) {
    run(Command::new("node")
        .env("TIDINGS_NODE_MODULES", test_tool("node"))
        .arg(root().join("tests/clients/socketio.mjs"))
        .arg(node.tcp().to_string()));
}

#[test]
fn socket_io_s_redis_adapter_serves_rooms_of_any_name() {
    socket_io(&start_quiet_node(&[]));
    let redis = RedisServer::start();
    let node = start_quiet_node(&[("broker", &redis.url())]);
    node.wait_until_ready();
    socket_io(&node);
}

#[test]
fn node_clients_subscribe_and_publish_with_the_memory_broker() {
    let node = start_quiet_node(&[]);
    for client in ["redis2", "redis3", "ioredis"] {
        javascript(&node, client, "exact");
    }
}

#[test]
fn node_clients_subscribe_and_publish_with_the_redis_broker() {
    let redis = RedisServer::start();
    let node = start_quiet_node(&[("broker", &redis.url())]);
    node.wait_until_ready();
    for client in ["redis2", "redis3", "ioredis"] {
        javascript(&node, client, "redis");
    }
}
