//! centrifuge-python, in both encodings.

use std::process::Command;

use crate::world::{World, root, tools};

/// Lives the life of `tests/clients/centrifuge/life.py`.
fn python(flavour: &str) {
    let world = World::start();
    let mut command = Command::new(tools().join("sdk-python/bin/python"));
    command.arg(root().join("tests/clients/centrifuge/life.py"));
    world.run(command, &[flavour]);
}

#[test]
fn centrifuge_python_works_unchanged() {
    python("json");
}

#[test]
fn centrifuge_python_works_unchanged_in_protobuf() {
    python("protobuf");
}
