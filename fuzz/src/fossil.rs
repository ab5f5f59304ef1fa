//! The invariants of deltas for any input, as functions that panic on a violation.
//!
//! They run in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/fossil.rs`), and in the ordinary test
//! `crates/fossil/tests/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use tidings_fossil::{apply, create};

/// An input is two parts with a zero byte between them. The second part is a delta within the limit or refused, and there is a
/// delta from the first part to it.
pub fn deltas(data: &[u8]) {
    const LIMIT: usize = 256;
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (source, rest) = data.split_at(at);
    let second = rest.get(1..).unwrap_or_default();
    if let Ok(target) = apply(source, second, LIMIT) {
        assert!(target.len() <= LIMIT);
    }
    let delta = create(source, second);
    assert_eq!(apply(source, &delta, second.len()).as_deref(), Ok(second));
    // A delta that copies bytes which are not text can be text itself.
    assert!(std::str::from_utf8(&delta).is_ok() || std::str::from_utf8(second).is_err());
}
