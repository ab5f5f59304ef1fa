//! The STOMP clients of JavaScript and Python.

use std::process::Command;

use crate::test_servers::{TestServers, root, tools};

#[test]
fn stompjs_works_unchanged() {
    let mut command = Command::new("node");
    command.env("TIDINGS_NODE_MODULES", tools().join("stomp-node"));
    command.arg(root().join("tests/clients/stomp/stompjs.mjs"));
    TestServers::start().run(command, &[]);
}

#[test]
fn stomp_py_works_unchanged() {
    let mut command = Command::new(tools().join("stomp-python/bin/python"));
    command.arg(root().join("tests/clients/stomp/stomp_py.py"));
    TestServers::start().run(command, &[]);
}
