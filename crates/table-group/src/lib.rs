//! Grouped views of tables: one row per group of rows with equal cells in some columns, with measures of the group.
//!
//! ```text
//! group.rs     the settings of a group, and their checks
//! grouped.rs   the view: its rows in some order, windows, downloads
//! tally.rs     the state of all groups, and its updates
//! part.rs      the groups of a part of the file
//! measure.rs   the state of one measure        sum.rs  exact sums
//! budget.rs    the memory of all grouped views
//! ```
//!
//! # Rules
//! - Rows are in the same group if their cells in the columns of [`Group::by`] have the same values: in a column of
//!   numbers, dates or booleans `5` equals `5.0`; in any other the same text in NFC. A cell that is no value of its
//!   column's type belongs to a group of its text, an empty cell to the group of empty cells. A group is shown as its
//!   first row is written.
//! - A measure considers the values of its column: the cells that parse in the column's type, or that are not empty in a
//!   column of text. Without a value a sum, a mean, a minimum and a maximum are empty.
//! - Sums are exact decimal numbers, so they do not depend on the order of additions. Signs of currencies and percent are
//!   ignored. Means are the nearest doubles. Minimum and maximum are shown as they are written.
//! - The number of different values is exact up to [`MAX_EXACT`] values of a group, above it an estimate, which is marked
//!   with `≈`.
//!
//! # Invariants
//! - The view depends on the file and the settings alone, not on how the file arrived, on updates in between and on the
//!   number of threads.
//! - An update examines appended lines alone, unless the type of a column has changed, or rows were replaced or removed
//!   by key. An update that was cancelled continues where it stopped.
//! - Bounds: [`MAX_GROUPS`] and [`MAX_BYTES`] for a view, [`Budget`] for all of them. Beyond them a view is an error and
//!   never incomplete.

mod budget;
mod group;
mod grouped;
mod measure;
mod part;
mod sum;
mod tally;

pub use budget::{Budget, MAX_TOTAL_BYTES};
pub use group::{Chart, Function, Group, InvalidGroup, MAX_BY, MAX_MEASURES, Measure};
pub use grouped::Grouped;
pub use measure::MAX_EXACT;
pub use tally::{MAX_BYTES, MAX_GROUPS};
