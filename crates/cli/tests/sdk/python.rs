//! centrifuge-python, in both encodings.

use std::process::Command;

use crate::world::{World, root, tools};

/// Lives the life of `tests/clients/centrifuge/life.py`.
fn python(world: &World, flavour: &str) {
    let mut command = Command::new(tools().join("sdk-python/bin/python"));
    command.arg(root().join("tests/clients/centrifuge/life.py"));
    world.run(command, &[flavour]);
}

#[test]
fn centrifuge_python_works_unchanged() {
    python(&World::start(), "json");
}

#[test]
fn centrifuge_python_works_unchanged_in_protobuf() {
    python(&World::start(), "protobuf");
}

#[test]
fn centrifuge_python_works_unchanged_over_tls() {
    python(&World::start_tls(), "protobuf");
}

#[test]
fn centrifuge_python_works_unchanged_where_messages_are_compressed() {
    let world = World::with(&["websocket.compression=true"]);
    python(&world, "json");
    let [before, after] = ["before", "after"].map(|side| world.deflated(side));
    assert!(after > 0 && after < before, "{before} bytes of publications became {after}");
    assert!(world.inflated() > 0, "what it sends is compressed");
}
