//! What is refused, and that refusing it costs nobody else anything.

use std::time::Duration;

use tidings_testkit::{PATIENCE, wait_until};

use crate::up::{quiet, up};

#[test]
fn a_line_past_the_limit_is_an_error_the_peer_can_read_and_then_the_end() {
    let node = quiet(&[]);
    let mut client = node.line();
    // Far more than the limit, so that bytes are unread when the server has had enough.
    client.send(&"x".repeat(1 << 20));
    client.expect("ERROR 107 line longer than 65536 bytes");
    assert!(client.expect_closed().is_empty());
    wait_until(PATIENCE, "the connection to be forgotten", || node.connections() == 0);
}

#[test]
fn a_line_of_exactly_the_limit_passes_whatever_pieces_it_comes_in() {
    let node = up(&[]);
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
fn a_connection_past_the_limit_is_told_so_and_others_go_on() {
    let node = quiet(&[("client.connection_limit", "3")]);
    let mut inside: Vec<_> = (0..3).map(|_| node.subscriber("news")).collect();
    let mut outside = node.line();
    outside.expect("ERROR 3504 connection limit: 3");
    assert!(outside.expect_closed().is_empty());
    inside[0].send("PING");
    inside[0].expect("PONG");
    drop(inside.pop());
    wait_until(PATIENCE, "a place to be free", || node.connections() == 2);
    node.subscriber("news");
}

#[test]
fn automatic_subscriptions_wait_for_the_first_byte_or_its_time() {
    let node = up(&[("tcp.first_byte_wait", "300ms")]);
    let mut silent = node.line();
    let mut redis = node.resp();
    assert_eq!(redis.command(&["PING"]).text(), "PONG");
    wait_until(PATIENCE, "the silent one to be subscribed", || node.sum(|m| &m.subscriptions) == 1);
    let mut publisher = node.resp();
    assert_eq!(publisher.command(&["PUBLISH", "updates", "hi"]).int(), 1);
    silent.expect("hi");
    redis.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_peer_that_hangs_up_half_way_leaves_nothing_behind() {
    let node = up(&[]);
    for piece in ["SUBSCRI", "*3\r\n$7\r\nPUBL", "{\"id\":1,", "", "PUBLISH updates x"] {
        let mut client = node.line();
        client.send_bytes(piece.as_bytes());
        drop(client);
    }
    wait_until(PATIENCE, "all to be forgotten", || node.connections() == 0);
    wait_until(PATIENCE, "their subscriptions too", || node.sum(|m| &m.subscriptions) == 0);
}

#[test]
fn a_peer_that_has_said_everything_gets_all_its_answers_before_the_end() {
    let node = up(&[]);
    let mut client = node.line();
    client.send_bytes("PUBLISH a 1\r\nPUBLISH a 2\r\nPING\r\nlast words\r\n".as_bytes());
    client.finish();
    for line in ["CONFIRMED", "CONFIRMED", "PONG", "last words"] {
        client.expect(line);
    }
    assert!(client.expect_closed().is_empty());
}
