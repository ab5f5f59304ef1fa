//! centrifuge-js, over each of its transports and encodings, in Node and in Chromium.

use std::process::Command;

use tidings_testkit::test_tool;

use crate::test_servers::{TestServers, root};

/// Runs the scenarios of `tests/clients/centrifuge/life.mjs` with this script.
fn run(script: &str, flavours: &str) {
    live(&TestServers::start(), script, flavours);
}

/// Runs the scenarios with compression, which `ws` and browsers offer by default. Returns the number of compressed
/// bytes that they sent.
fn run_compressed(script: &str, flavours: &str) -> u64 {
    let servers = TestServers::with(&["websocket.compression=true"]);
    live(&servers, script, flavours);
    let [before, after] = ["before", "after"].map(|side| servers.deflated(side));
    assert!(after > 0 && after < before, "{before} bytes of publications became {after}");
    servers.inflated()
}

fn live(servers: &TestServers, script: &str, flavours: &str) {
    let mut command = Command::new("node");
    command
        .env("TIDINGS_NODE_MODULES", test_tool("sdk-node"))
        .env("TIDINGS_BROWSER_MODULES", test_tool("browser"))
        .arg(root().join("tests/clients/centrifuge").join(script));
    servers.run(command, &[flavours]);
}

#[test]
fn centrifuge_js_works_unchanged_over_websocket() {
    run("node.mjs", "websocket-json");
}

#[test]
fn centrifuge_js_works_unchanged_over_websocket_in_protobuf() {
    run("node.mjs", "websocket-protobuf");
}

#[test]
fn centrifuge_js_works_unchanged_over_http_streaming() {
    run("node.mjs", "http_stream-json");
}

#[test]
fn centrifuge_js_works_unchanged_over_http_streaming_in_protobuf() {
    run("node.mjs", "http_stream-protobuf");
}

#[test]
fn centrifuge_js_works_unchanged_over_server_sent_events() {
    run("node.mjs", "sse-json");
}

#[test]
fn centrifuge_js_works_unchanged_in_a_browser_over_websocket() {
    run("chromium.mjs", "websocket-json,websocket-protobuf");
}

#[test]
fn centrifuge_js_works_unchanged_in_a_browser_over_http_streaming() {
    run("chromium.mjs", "http_stream-json,http_stream-protobuf");
}

#[test]
fn centrifuge_js_works_unchanged_in_a_browser_over_server_sent_events() {
    run("chromium.mjs", "sse-json");
}

#[test]
fn centrifuge_js_works_unchanged_over_compressed_websocket() {
    run_compressed("node.mjs", "websocket-json");
    run_compressed("node.mjs", "websocket-protobuf");
}

#[test]
fn centrifuge_js_works_unchanged_in_a_browser_over_compressed_websocket() {
    let sent = run_compressed("chromium.mjs", "websocket-json");
    assert!(sent > 0, "Chromium compresses what it sends");
}

#[test]
fn maps_of_centrifuge_js_work_unchanged_with_two_nodes_on_one_redis() {
    for flavour in ["websocket-json", "websocket-protobuf"] {
        live(&TestServers::two_nodes(), "maps-on-two-nodes.mjs", flavour);
    }
}

#[test]
fn centrifuge_js_works_unchanged_over_tls() {
    let servers = TestServers::start_tls();
    for flavour in ["websocket-json", "http_stream-protobuf", "sse-json"] {
        live(&servers, "node.mjs", flavour);
    }
}
