//! Pages of the tables in a store, for operators.

use std::time::SystemTime;

use crate::id::TableId;

/// A table in the store, open or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTable {
    /// Its id.
    pub id: TableId,
    /// The uploader's name for the file; `None` if the record cannot be read.
    pub name: Option<String>,
    /// The size of its files in bytes.
    pub bytes: u64,
    /// The time of its last use.
    pub used: Option<SystemTime>,
}

/// A page of stored tables, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredPage {
    /// The tables.
    pub tables: Vec<StoredTable>,
    /// The id after which the next page begins; `None` after the last table.
    pub next: Option<TableId>,
}
