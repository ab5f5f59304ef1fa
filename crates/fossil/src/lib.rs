//! The delta format of the Fossil version control system.
//!
//! A delta describes a *target* by copies of parts of a *source* and by literal text
//! (<https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki>). Centrifugo's clients apply such deltas to the publication
//! before.
//!
//! ```
//! let (source, target) = (br#"{"home":2,"away":1,"minute":71}"#, br#"{"home":3,"away":1,"minute":72}"#);
//! let delta = tidings_fossil::create(source, target);
//! assert_eq!(tidings_fossil::apply(source, &delta, 1024)?, target);
//! # Ok::<(), tidings_fossil::DeltaError>(())
//! ```
//!
//! Invariants:
//! - `apply(source, create(source, target))` is `target`, for any two byte strings shorter than 4 GiB.
//! - In a delta for a target in UTF-8, the literals are UTF-8, so the whole delta is text. It can be carried in a JSON string.
//! - [`create()`] needs memory in proportion to the source, and time in proportion to source and target.

mod apply;
mod create;
mod number;

pub use apply::{DeltaError, apply};
pub use create::create;

/// The checksum of a target: the sum of its big-endian words of 32 bits, where zeros fill up the last one.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum.wrapping_add(u32::from_be_bytes(last))
}
