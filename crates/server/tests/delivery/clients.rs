//! The Redis clients of Python and Node, unchanged, with the embedded broker and with a Redis behind.

use std::path::PathBuf;
use std::process::Command;

use tidings_testkit::RedisServer;

use crate::up::{Up, quiet};

/// Where `make test-tools` has put the clients.
fn tools() -> PathBuf {
    let tools = std::env::var_os("TIDINGS_TEST_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| root().join(".test-tools"));
    assert!(tools.exists(), "{} is missing: run `make test-tools` once", tools.display());
    tools
}

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

fn python(node: &Up, protocol: &str) {
    let tools = tools();
    run(Command::new(tools.join("python/bin/python"))
        .arg(root().join("tests/clients/python_redis.py"))
        .args([&node.tcp().to_string(), protocol]));
}

fn javascript(node: &Up, client: &str, counts: &str) {
    run(Command::new("node")
        .env("TIDINGS_NODE_MODULES", tools().join("node"))
        .arg(root().join("tests/clients/node_redis.mjs"))
        .args([&node.tcp().to_string(), client, counts]));
}

#[test]
fn redis_py_subscribes_and_publishes_without_any_redis() {
    let node = quiet(&[]);
    python(&node, "2");
    python(&node, "3");
}

#[test]
fn redis_py_subscribes_and_publishes_with_a_redis_behind() {
    let redis = RedisServer::start();
    let node = quiet(&[("broker", &redis.url())]);
    node.wait_until_ready();
    python(&node, "2");
    python(&node, "3");
}

fn socket_io(node: &Up) {
    run(Command::new("node")
        .env("TIDINGS_NODE_MODULES", tools().join("node"))
        .arg(root().join("tests/clients/socketio.mjs"))
        .arg(node.tcp().to_string()));
}

#[test]
fn socket_io_s_redis_adapter_serves_rooms_of_any_name() {
    socket_io(&quiet(&[]));
    let redis = RedisServer::start();
    let node = quiet(&[("broker", &redis.url())]);
    node.wait_until_ready();
    socket_io(&node);
}

#[test]
fn the_clients_of_node_subscribe_and_publish_without_any_redis() {
    let node = quiet(&[]);
    for client in ["redis2", "redis3", "ioredis"] {
        javascript(&node, client, "exact");
    }
}

#[test]
fn the_clients_of_node_subscribe_and_publish_with_a_redis_behind() {
    let redis = RedisServer::start();
    let node = quiet(&[("broker", &redis.url())]);
    node.wait_until_ready();
    for client in ["redis2", "redis3", "ioredis"] {
        javascript(&node, client, "redis");
    }
}
