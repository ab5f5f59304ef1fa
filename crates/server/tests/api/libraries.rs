//! Centrifugo's server libraries, unmodified.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tidings_testkit::{RedisServer, test_tool};

use crate::api_server::ApiServer;

const OPTIONS: [&str; 7] = [
    "http_api.key=s3cret",
    "client.token.hmac_secret_key=users",
    "channel.namespaces=kept",
    "channel.without_namespace.history_size=2000",
    "channel.without_namespace.history_ttl=60s",
    "channel.without_namespace.presence=true",
    "channel.without_namespace.allow_subscribe_for_client=true",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs the program of a library with the memory broker and with Redis, and checks the pushes that a client gets.
fn check_library(program: impl Fn() -> Command) {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let server = ApiServer::with(&[&[&*format!("broker={broker}")], &OPTIONS[..]].concat());
        let mut member = server.user("42");
        member.call("subscribe", &json!({"channel": "lobby"}));
        server.wait_for_counts(&["X-API-Key: s3cret"], [1, 1, 1, 1]);
        let url = format!("http://{}/api", server.http());
        let output = program().args([&url, "s3cret", &member.client]).output().expect("the library starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.ends_with("ok\n"), "with {broker}:\n{out}{err}");
        assert_eq!(member.push("subscribe").0, "vip");
        assert_eq!(member.push("pub").1["data"], json!({"welcome": true}));
        assert_eq!(member.push("unsubscribe").1["code"], 2000);
        assert_eq!(member.push("refresh").1["expires"], true);
        assert_eq!(member.push("disconnect").1, json!({"code": 4500, "reason": "go"}));
        member.expect_close();
    }
}

#[test]
fn cent_for_python_works_with_a_redis_and_without() {
    check_library(|| {
        let mut python = Command::new(test_tool("python").join("bin/python"));
        python.arg(root().join("tests/clients/python_cent.py"));
        python
    });
}

#[test]
fn cent_for_node_works_with_a_redis_and_without() {
    check_library(|| {
        let mut node = Command::new("node");
        node.env("TIDINGS_NODE_MODULES", test_tool("node"));
        node.arg(root().join("tests/clients/node_cent.mjs"));
        node
    });
}
