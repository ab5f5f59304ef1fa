//! The fuzz target as an ordinary test: `fuzz/src/pusher.rs` on its committed seeds and on mutations of them.

#[path = "../../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../../fuzz/src/pusher.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] =
    &[b"\"", b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b",", b":", b"null", b"1e999", b"\xC3\xA9"];

#[test]
fn messages_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("pusher", 1_000, TOKENS, targets::messages);
}
