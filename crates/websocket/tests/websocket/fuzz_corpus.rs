//! The fuzz target as an ordinary test: `fuzz/src/websocket.rs` on its committed seeds and on mutations of them.

#[path = "../../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../../fuzz/src/websocket.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\x7E",
    b"\x7F",
    b"\x7E\xFF\xFF",
    b"\x80",
    b"\x81",
    b"\x88\x00",
    b"\x89\x00",
    b"\x8A",
    b"\xC1",
    b"\xFE",
    b"\xFF",
    b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
    b"\xED\xA0\x80",
    b"permessage-deflate;",
    b"server_max_window_bits=8",
    b"\r\n",
];

#[test]
fn frames_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("websocket", 2_000, TOKENS, targets::frames);
}
