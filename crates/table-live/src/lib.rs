//! Rows of a table that are replaced and removed by key.
//!
//! The file of a table with a key is a log: a row replaces the earlier row with the same key, and a [`removal()`] removes
//! one. So changes are appended like any rows, are stored and reach other nodes like them, and the current rows follow
//! from the file and the key alone: there is no second file, and nothing that could be stale after a crash.
//!
//! ```text
//! rows.rs     the key index and the current rows; gives each reading its overlay
//! view.rs     a sorted or filtered view that is updated row by row
//! window/     the rows of such a view near one of its pages, with a hundredth of the memory
//! ordered.rs  lines in the order of their keys, with positions: the structure of all three
//! log.rs      a log without its outdated lines, in a new file
//! budget.rs   the memory of all of them, of all tables together
//! removal.rs  the rows that remove a row
//! ```
//!
//! Invariants, which property tests check against a naive implementation:
//! - The row of a key is the last one in the file, unless a removal follows it. It is at the place where the key occurred
//!   first, or first after its removal.
//! - Keys are compared as they are written: `5` and `5.0` differ. A row whose key cells are all empty has no key: it is
//!   never replaced.
//! - A [`LiveView`] has the same rows in the same order as the view that [`Reading::view`](tidings_table::Reading::view) computes.
//! - A [`WindowView`] has the rows of that view at the positions around a page.
//! - A [`CompactLog`] has the rows of the log that it replaces, in the same order.
//! - An update costs a search in the keys and a copy of some kilobytes, whatever the number of rows.

mod budget;
mod log;
mod ordered;
mod removal;
mod rows;
mod view;
mod window;

pub use budget::{Budget, Share};
pub use log::{CompactLog, LogSnapshot};
pub use removal::{UnusableKey, removal};
pub use rows::{Counts, KeyError, LiveRows};
pub use view::LiveView;
pub use window::{NearRows, WindowView};
