//! The fuzz target as an ordinary test: `fuzz/src/tags_filter.rs` on its committed seeds and on mutations of them.

#[path = "../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../fuzz/src/tags_filter.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] =
    &[b"\"op\":\"and\"", b"\"nodes\":[", b"\"cmp\":\"in\"", b"null", b"{", b"}", b"]", b"1.5", b"\x32\x02"];

#[test]
fn filters_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("tags_filter", 1_000, TOKENS, targets::filters);
}
