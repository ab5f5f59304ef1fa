//! The line port with devices, terminals and invalid input, over real sockets.

use std::net::Shutdown;

use tidings_testkit::LineClient;

use crate::node::{TestNode, start_node, start_quiet_node};

/// A connection that sends these bytes first.
fn sending(node: &TestNode, bytes: &[u8]) -> LineClient {
    let mut client = node.line();
    client.send_bytes(bytes);
    client
}

#[test]
fn json_reaches_a_device_as_it_was_published() {
    let node = start_quiet_node(&[]);
    let mut device = node.subscriber("news");
    let mut publisher = node.resp();
    for (body, line) in [
        (r#"{"text":"say \"hi\""}"#, r#"{"text":"say \"hi\""}"#),
        ("{\n  \"a\": \"\\n\"\n}", r#"{   "a": "\n" }"#),
        (r"C:\new", r"C:\new"),
        ("LAL 101\r\nBOS 99", r"LAL 101\r\nBOS 99"),
    ] {
        publisher.command(&["PUBLISH", "news", body]);
        device.expect(&format!("MESSAGE news {line}"));
    }
}

#[test]
fn with_escape_always_every_message_can_be_unescaped() {
    let node = start_quiet_node(&[("tcp.escape", "always")]);
    let mut device = node.subscriber("news");
    node.resp().command(&["PUBLISH", "news", r#"{"text":"say \"hi\""}"#]);
    device.expect(r#"MESSAGE news {"text":"say \\"hi\\""}"#);
}

#[test]
fn a_carriage_return_ends_a_line() {
    let node = start_quiet_node(&[]);
    let mut device = sending(&node, b"PING\r");
    device.expect("PONG");
    device.send_bytes(b"SUBSCRIBE news\r");
    device.expect("CONFIRMED");
    device.send_bytes(b"\nPING\r\n");
    device.expect("PONG");
}

#[test]
fn the_first_command_of_a_telnet_that_negotiates_is_answered() {
    let node = start_quiet_node(&[]);
    let mut telnet = sending(&node, b"\xff\xfb\x1f\xff\xfb\x18PING\r\n");
    let answer = telnet.line_bytes_within(tidings_testkit::PATIENCE).expect("an answer");
    assert_eq!(answer, b"\xff\xfe\x1f\xff\xfe\x18PONG");
}

#[test]
fn the_last_line_of_a_half_closed_connection_is_processed() {
    let node = start_node(&[]);
    let mut listener = node.subscriber("news");
    let mut client = sending(&node, b"PUBLISH news hi");
    client.stream().shutdown(Shutdown::Write).expect("half-closed");
    listener.expect("MESSAGE news hi");
    client.expect("CONFIRMED");
    assert_eq!(client.expect_closed(), b"");
}

#[test]
fn unexpected_tls_and_bytes_that_are_not_utf8_close_the_connection_before_any_command() {
    let node = start_quiet_node(&[]);
    let mut listener = node.subscriber("updates");
    let hello = b"\x16\x03\x01\x00\x05\nPUBLISH updates owned\r\n";
    assert_eq!(sending(&node, hello).expect_closed(), b"ERROR 107 this port speaks no TLS\r\n");
    let mut stranger = sending(&node, b"\x80\x80\nPUBLISH updates owned\r\n");
    stranger.expect("ERROR 107 the first line is not UTF-8");
    stranger.expect_closed();
    node.resp().command(&["PUBLISH", "updates", "the next one"]);
    listener.expect("the next one");
}

#[test]
fn a_channel_with_a_space_cannot_be_subscribed_on_plain_lines() {
    let node = start_quiet_node(&[]);
    let mut device = node.subscriber("my");
    device.send("SUBSCRIBE my room");
    device.expect("ERROR 107 bad request: on plain lines a channel name contains no spaces (RESP and JSON lines take them)");
    device.send("SUBSCRIBE ☕");
    device.expect("CONFIRMED");
    let mut publisher = node.resp();
    publisher.command(&["PUBLISH", "my room", "unseen"]);
    publisher.command(&["PUBLISH", "☕", "seen"]);
    device.expect("MESSAGE ☕ seen");
}
