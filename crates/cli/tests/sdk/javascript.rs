//! centrifuge-js, over each of its transports and encodings.

use std::process::Command;

use crate::world::{World, root, tools};

/// Lives the life of `tests/clients/centrifuge/life.mjs` in Node.
fn node(flavour: &str) {
    let world = World::start(&[]);
    let mut command = Command::new("node");
    command
        .env("TIDINGS_NODE_MODULES", tools().join("sdk-node"))
        .arg(root().join("tests/clients/centrifuge/node.mjs"));
    world.run(command, &[flavour]);
}

#[test]
fn centrifuge_js_works_unchanged_over_websocket() {
    node("websocket-json");
}

#[test]
fn centrifuge_js_works_unchanged_over_websocket_in_protobuf() {
    node("websocket-protobuf");
}
