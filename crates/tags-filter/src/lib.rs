//! Filters of publications by their tags, as clients and the application set them for a subscription.
//!
//! A filter is a tree: its leaves compare one tag, its inner nodes are `and`, `or` and `not`. The tree, its names and its
//! encodings are those of the client protocol of Centrifugo (message `FilterNode`). Equal filters are equal values with
//! equal hashes, so that subscribers with the same filter can share one evaluation.
//!
//! ```
//! use tidings_tags_filter::Filter;
//!
//! let filter = Filter::from_json(br#"{"op":"and","nodes":[
//!     {"key":"ticker","cmp":"in","vals":["AAPL","MSFT"]}, {"key":"price","cmp":"gte","val":"99.5"}
//! ]}"#)?;
//! let tags = |price: &str| [("ticker".to_owned(), "AAPL".to_owned()), ("price".to_owned(), price.to_owned())];
//! assert!(filter.matches(&tags("100")));
//! assert!(!filter.matches(&tags("99.49")));
//! # Ok::<(), tidings_tags_filter::FilterError>(())
//! ```
//!
//! Invariants:
//! - A [`Filter`] is within [`MAX_BYTES`], [`MAX_DEPTH`] and [`MAX_NODES`]; decoding needs memory in proportion to
//!   [`MAX_BYTES`], and stack in proportion to [`MAX_DEPTH`].
//! - An evaluation allocates nothing, and its time is at most proportional to the nodes and the bytes of the tags.

mod decimal;
mod decode;
mod filter;

pub use filter::{Filter, FilterError};

/// The longest encoded filter, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;
/// Most levels of a tree; a filter of one comparison has one.
pub const MAX_DEPTH: usize = 16;
/// Most nodes of a tree, with the values of sets (`vals`).
pub const MAX_NODES: usize = 512;
