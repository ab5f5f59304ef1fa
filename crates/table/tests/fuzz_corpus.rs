//! The fuzz targets as an ordinary test: each function of `fuzz/src/table.rs` on its committed seeds and on mutations of them.

#[path = "../../../fuzz/src/corpus.rs"]
#[expect(unreachable_pub, reason = "the tests of all codecs include this file")]
mod corpus;

#[path = "../../../fuzz/src/table.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\"",
    b"\"\"",
    b"\\",
    b"'",
    b",",
    b"\t",
    b";",
    b"\0",
    b"1,5",
    b"\xFF",
    b"\xC3\xA9",
    b"\xEF\xBB\xBF",
    b"0.10",
];

#[test]
fn files_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("table_file", 100, TOKENS, targets::file);
}

#[test]
fn views_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("table_view", 100, TOKENS, targets::view);
}

#[test]
fn formats_hold_their_invariants_on_every_seed_and_mutation() {
    corpus::run("table_formats", 100, TOKENS, targets::formats);
}
