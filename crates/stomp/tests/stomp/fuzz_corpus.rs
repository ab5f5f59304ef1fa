//! The fuzz target as an ordinary test: `fuzz/src/stomp.rs` on its committed seeds and on mutations of them.

#[path = "../../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../../fuzz/src/stomp.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\n\n",
    b":",
    b"\0",
    b"\\c",
    b"\\n",
    b"\\t",
    b"SEND\n",
    b"content-length:3\n",
    b"content-length:99999999999999999999\n",
    b"\xff",
];

#[test]
fn frames_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("stomp", 2_000, TOKENS, targets::frames);
}
