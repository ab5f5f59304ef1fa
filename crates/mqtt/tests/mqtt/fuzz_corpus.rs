//! The fuzz target as an ordinary test: `fuzz/src/mqtt.rs` on its committed seeds and on mutations of them.

#[path = "../../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../../fuzz/src/mqtt.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\x01",
    b"\x7F",
    b"\x80",
    b"\x80\x01",
    b"\xFF\xFF\xFF\x7F",
    b"\xFF\xFF",
    b"\0\x01a",
    b"\x26\0\x01a\0\x01b",
    b"/",
    b"+",
    b"#",
];

#[test]
fn packets_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("mqtt", 1_000, TOKENS, targets::packets);
}
