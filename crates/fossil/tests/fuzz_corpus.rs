//! The fuzz target as an ordinary test: `fuzz/src/fossil.rs` on its committed seeds and on mutations of them.

#[path = "../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../fuzz/src/fossil.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] = &[b"@0,", b"3:abc", b";", b"\n", b"~~~~~", b"0123456789abcdef", b"\0", b"\xC3\xA9"];

#[test]
fn deltas_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("fossil", 1_000, TOKENS, targets::deltas);
}
