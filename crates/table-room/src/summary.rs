//! Summaries of open tables, for operators.

/// A table that is open on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSummary {
    /// The id.
    pub id: String,
    /// The uploader's name for the file.
    pub name: String,
    /// The size of the file in bytes; 0 without a file.
    pub size: u64,
    /// The number of rows; 0 without a file.
    pub rows: u64,
    /// Viewers on this node.
    pub viewers: u64,
}
