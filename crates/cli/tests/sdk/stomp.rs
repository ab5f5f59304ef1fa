//! The STOMP clients of JavaScript and Python.

use std::process::Command;

use tidings_testkit::test_tool;

use crate::test_servers::{TestServers, root};

#[test]
fn stompjs_works_unchanged() {
    let mut command = Command::new("node");
    command.env("TIDINGS_NODE_MODULES", test_tool("stomp-node"));
    command.arg(root().join("tests/clients/stomp/stompjs.mjs"));
    TestServers::start().run(command, &[]);
}

#[test]
fn stomp_py_works_unchanged() {
    let mut command = Command::new(test_tool("stomp-python").join("bin/python"));
    command.arg(root().join("tests/clients/stomp/stomp_py.py"));
    TestServers::start().run(command, &[]);
}
