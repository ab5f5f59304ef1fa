//! centrifuge-python, in both encodings.

use std::process::Command;

use tidings_testkit::test_tool;

use crate::test_servers::{TestServers, root};

/// Runs the scenarios of `tests/clients/centrifuge/life.py`.
fn python(servers: &TestServers, flavour: &str) {
    let mut command = Command::new(test_tool("sdk-python").join("bin/python"));
    command.arg(root().join("tests/clients/centrifuge/life.py"));
    servers.run(command, &[flavour]);
}

#[test]
fn centrifuge_python_works_unchanged() {
    python(&TestServers::start(), "json");
}

#[test]
fn centrifuge_python_works_unchanged_in_protobuf() {
    python(&TestServers::start(), "protobuf");
}

#[test]
fn centrifuge_python_works_unchanged_over_tls() {
    python(&TestServers::start_tls(), "protobuf");
}

#[test]
fn centrifuge_python_works_unchanged_where_messages_are_compressed() {
    let servers = TestServers::with(&["websocket.compression=true"]);
    python(&servers, "json");
    let [before, after] = ["before", "after"].map(|side| servers.deflated(side));
    assert!(after > 0 && after < before, "{before} bytes of publications became {after}");
    assert!(servers.inflated() > 0, "what it sends is compressed");
}
