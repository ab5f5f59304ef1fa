//! The fuzz targets as an ordinary test: each function of `fuzz/src/lib.rs` on its committed seeds and on mutations of them.

#[path = "../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the same file is the library of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\\",
    b"\"",
    b"'",
    b" ",
    b"*",
    b"$",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"{",
    b"}",
    b"[",
    b",",
    b"\xff",
    b"\\u",
    b"\x80",
    b"\x81",
    b"\0",
];

#[test]
fn plain_lines_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("plain", 2_000, TOKENS, targets::plain);
}

#[test]
fn proxy_headers_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("proxy_protocol", 2_000, TOKENS, targets::proxy_protocol);
}

#[test]
fn resp_commands_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("resp_command", 2_000, TOKENS, targets::resp_command);
}

#[test]
fn resp_replies_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("resp_value", 2_000, TOKENS, targets::resp_value);
}

#[test]
fn client_commands_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("client_json", 2_000, TOKENS, targets::client_json);
}

#[test]
fn client_messages_in_protobuf_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("client_protobuf", 2_000, TOKENS, targets::client_protobuf);
}

#[test]
fn server_sent_events_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("sse", 2_000, TOKENS, targets::sse);
}

#[test]
fn bodies_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("body", 2_000, TOKENS, targets::body);
}
