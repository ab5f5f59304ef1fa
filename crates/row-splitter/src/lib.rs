//! The rows of a text that grows, as `tidings share` follows it.
//!
//! ```text
//! ends.rs      the end of the last complete row, before the dialect is known
//! splitter.rs  complete rows in the dialect of the table
//! ```
//!
//! The crate uses the reader of the table engine and the messages of the client, and no file or socket.

mod ends;
mod splitter;

pub use ends::RowEnds;
pub use splitter::{RowSplitter, Rows};
