//! Limits of lines and connections, and their effect on other clients.

use std::time::Duration;

use tidings_testkit::{PATIENCE, wait_until};

use crate::node::{start_node, start_quiet_node};

#[test]
fn a_line_above_the_limit_gets_an_error_and_the_connection_is_closed() {
    let node = start_quiet_node(&[]);
    let mut client = node.line();
    // Far more than the limit, so that bytes are unread when the server closes the connection.
    client.send(&"x".repeat(1 << 20));
    client.expect("ERROR 107 line longer than 65536 bytes");
    assert!(client.expect_closed().is_empty());
    wait_until(PATIENCE, "the connection to be removed", || node.connections() == 0);
}

#[test]
fn a_line_of_exactly_the_limit_is_accepted_in_one_or_many_segments() {
    let node = start_node(&[]);
    let longest = "y".repeat(65536);
    let mut client = node.line();
    client.send(&longest);
    client.expect(&longest);
    for piece in longest.as_bytes().chunks(7_919) {
        client.send_bytes(piece);
    }
    client.send_bytes(b"\r");
    client.send_bytes(b"\n");
    client.expect(&longest);
}

#[test]
fn a_connection_above_the_limit_gets_an_error_and_others_continue() {
    let node = start_quiet_node(&[("client.connection_limit", "3")]);
    let mut accepted: Vec<_> = (0..3).map(|_| node.subscriber("news")).collect();
    let mut rejected = node.line();
    rejected.expect("ERROR 3504 connection limit: 3");
    assert!(rejected.expect_closed().is_empty());
    accepted[0].send("PING");
    accepted[0].expect("PONG");
    drop(accepted.pop());
    wait_until(PATIENCE, "the closed connection not to count", || node.connections() == 2);
    node.subscriber("news");
}

#[test]
fn automatic_subscriptions_begin_after_the_first_byte_or_its_timeout() {
    let node = start_node(&[("tcp.first_byte_wait", "300ms")]);
    let mut silent = node.line();
    let mut redis = node.resp();
    assert_eq!(redis.command(&["PING"]).text(), "PONG");
    wait_until(PATIENCE, "the silent client to be subscribed", || node.sum(|m| &m.subscriptions) == 1);
    let mut publisher = node.resp();
    assert_eq!(publisher.command(&["PUBLISH", "updates", "hi"]).int(), 1);
    silent.expect("hi");
    redis.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_connection_closed_within_a_command_leaves_no_state() {
    let node = start_node(&[]);
    for piece in ["SUBSCRI", "*3\r\n$7\r\nPUBL", "{\"id\":1,", "", "PUBLISH updates x"] {
        let mut client = node.line();
        client.send_bytes(piece.as_bytes());
        drop(client);
    }
    wait_until(PATIENCE, "all connections to be removed", || node.connections() == 0);
    wait_until(PATIENCE, "their subscriptions to be removed", || node.sum(|m| &m.subscriptions) == 0);
}

#[test]
fn a_half_closed_connection_gets_all_replies_before_it_is_closed() {
    let node = start_node(&[]);
    let mut client = node.line();
    client.send_bytes("PUBLISH a 1\r\nPUBLISH a 2\r\nPING\r\nlast words\r\n".as_bytes());
    client.finish();
    for line in ["CONFIRMED", "CONFIRMED", "PONG", "last words"] {
        client.expect(line);
    }
    assert!(client.expect_closed().is_empty());
}
