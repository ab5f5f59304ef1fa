//! The line port as devices, terminals and strangers use it, over real sockets.

use std::net::Shutdown;

use tidings_testkit::LineClient;

use crate::up::{Up, quiet, up};

/// A connection that sends these bytes first.
fn sending(node: &Up, bytes: &[u8]) -> LineClient {
    let mut client = node.line();
    client.send_bytes(bytes);
    client
}

#[test]
fn json_reaches_a_device_as_it_was_published() {
    let node = quiet(&[]);
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
fn with_escape_always_a_device_may_undo_every_message() {
    let node = quiet(&[("tcp.escape", "always")]);
    let mut device = node.subscriber("news");
    node.resp().command(&["PUBLISH", "news", r#"{"text":"say \"hi\""}"#]);
    device.expect(r#"MESSAGE news {"text":"say \\"hi\\""}"#);
}

#[test]
fn lines_that_end_in_carriage_returns_are_carried_out_as_they_come() {
    let node = quiet(&[]);
    let mut device = sending(&node, b"PING\r");
    device.expect("PONG");
    device.send_bytes(b"SUBSCRIBE news\r");
    device.expect("CONFIRMED");
    device.send_bytes(b"\nPING\r\n");
    device.expect("PONG");
}

#[test]
fn the_first_command_of_a_telnet_that_negotiates_is_answered() {
    let node = quiet(&[]);
    let mut telnet = sending(&node, b"\xff\xfb\x1f\xff\xfb\x18PING\r\n");
    let answer = telnet.line_bytes_within(tidings_testkit::PATIENCE).expect("an answer");
    assert_eq!(answer, b"\xff\xfe\x1f\xff\xfe\x18PONG");
}

#[test]
fn the_last_line_of_a_client_that_half_closes_counts() {
    let node = up(&[]);
    let mut listener = node.subscriber("news");
    let mut client = sending(&node, b"PUBLISH news hi");
    client.stream().shutdown(Shutdown::Write).expect("half-closed");
    listener.expect("MESSAGE news hi");
    client.expect("CONFIRMED");
    assert_eq!(client.expect_closed(), b"");
}

#[test]
fn tls_where_none_is_configured_and_bytes_that_are_no_text_are_closed_before_anything_is_carried_out() {
    let node = quiet(&[]);
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
fn a_channel_with_a_space_is_a_bad_request_on_plain_lines_and_none_of_its_messages_is_sent_there() {
    let node = quiet(&[]);
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
