//! Pages of the tables on a disk.
//!
//! Invariant: the names of all folders are read for each page, but only `limit` of them are kept in memory, and only their
//! records are read.

use std::collections::BinaryHeap;
use std::io;

use super::Disk;
use super::folder::{last_used, read_record, size};
use crate::id::TableId;
use crate::listing::{StoredPage, StoredTable};

impl Disk {
    /// At most `limit` tables with an id after `after`, in the order of their ids.
    pub(crate) fn page(&self, after: Option<TableId>, limit: usize) -> io::Result<StoredPage> {
        let mut first = BinaryHeap::new();
        let mut is_cut = false;
        for (id, _) in self.folders().filter(|(id, _)| after.is_none_or(|after| *id > after)) {
            first.push(id);
            if first.len() > limit {
                first.pop();
                is_cut = true;
            }
        }
        let ids = first.into_sorted_vec();
        let next = ids.last().copied().filter(|_| is_cut);
        let mut tables = Vec::with_capacity(ids.len());
        for id in ids {
            let folder = self.folder(id);
            let name = match read_record(&folder) {
                Ok(record) => Some(record.name),
                // Removed meanwhile, or a table that never had a file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
                Err(error) => return Err(error),
            };
            tables.push(StoredTable { id, name, bytes: size(&folder), used: last_used(&folder) });
        }
        Ok(StoredPage { tables, next })
    }
}
