//! The invariants of filters by tags for any input, as functions that panic on a violation.
//!
//! They run in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/tags_filter.rs`), and in the ordinary test
//! `crates/tags-filter/tests/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use tidings_tags_filter::{Filter, MAX_BYTES};

/// An input is a filter or refused, in either encoding; a filter is within the limit, decides about any tags, and passes
/// together with itself what it passes alone.
pub fn filters(data: &[u8]) {
    let tags = [("a".to_owned(), "1.5".to_owned()), ("b".to_owned(), String::new())];
    for filter in [Filter::from_json(data), Filter::from_protobuf(data)].into_iter().flatten() {
        assert!(data.len() <= MAX_BYTES);
        for tags in [&tags[..], &tags[..1], &[]] {
            assert_eq!(filter.and(&filter).matches(tags), filter.matches(tags));
        }
    }
}
