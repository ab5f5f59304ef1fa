//! Where tables are kept: a trait with two implementations.
//!
//! ```text
//! mod.rs           the trait, and what both implementations share
//! folder.rs        a folder, which several nodes may share
//! bucket_store.rs  a bucket, with copies in a folder
//! disk/            folders on a disk, bounded in bytes: the tables themselves, or copies
//! bucket/          objects of S3
//! error.rs         why an operation failed
//! ```
//!
//! A file is always written and read on the disk; the implementations differ in how other nodes find it:
//!
//! | | [`FolderStore`] | [`BucketStore`] |
//! |---|---|---|
//! | an uploaded file is visible to all nodes | once the record names it | once it was put ([`Store::publish`]) |
//! | rows that other nodes appended | are on the same disk | are fetched ([`Store::catch_up`]) |
//! | concurrent appends | a lock on the file | an object that may be put once ([`Store::append`]) |
//! | a table is in use | while a process holds its lock | while its record is written again and again |
//!
//! Every operation may block on the disk and the network: call them on threads that may block.

mod bucket;
mod bucket_store;
mod disk;
mod error;
mod folder;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_table::{Control, Summary, Writer};

use super::id::TableId;
use super::options::{Options, StoreLocation};
use super::quota::Quota;
use super::record::Record;
use bucket_store::BucketStore;
use disk::Disk;
use folder::FolderStore;

pub use bucket::BucketCounters;
pub(crate) use bucket::Saved;
pub(super) use disk::{FileCharge, Reserved, TABLE, TableFolder};
pub(crate) use error::{AppendError, StoreError};

/// Callback that closes the tables in memory that nobody views, so that they can be evicted. May block.
pub(super) type CloseIdle = Box<dyn Fn() + Send + Sync>;

/// Writes rows to the disk. Called again when rows of other nodes came first.
pub(super) type AppendRows<'a> = &'a mut dyn FnMut(&mut Writer);

/// All tables of a server, or of all servers that share them.
pub(super) trait Store: Debug + Send + Sync {
    /// The disk that files are written to and read from.
    fn disk(&self) -> &Arc<Disk>;

    /// The table of this name, if it exists.
    fn find(&self, id: TableId) -> Result<Option<(TableFolder, Record)>, StoreError>;

    /// The least time between two [saves](Self::save) of one table.
    fn pace(&self) -> Duration {
        Duration::ZERO
    }

    /// How often an open table must be saved although nothing has changed, so that it counts as used; `None`: a lock on the
    /// disk says so.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// Writes the record, all of it or nothing, unless there is a newer one. The table counts as used now.
    fn save(&self, place: &TableFolder, record: &Record) -> Result<Saved, StoreError>;

    /// Removes the record of a table that never had a file.
    fn forget(&self, place: &TableFolder) -> Result<(), StoreError>;

    /// Closes a table, which counts as used until `left` (in a bucket, until now). Removes it when it has ended.
    fn put_away(&self, place: &TableFolder, record: &Record, left: SystemTime) -> Result<(), StoreError>;

    /// Makes a complete file visible to all nodes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Full`].
    fn publish(&self, place: &TableFolder, file: &str) -> Result<(), StoreError>;

    /// Prepares the file's folder on the disk, from which it can be opened.
    fn prepare(&self, place: &TableFolder, file: &str) -> Result<(), StoreError>;

    /// Has the writer read what other nodes appended to its file, or what the disk lacks of it. `grown` is called
    /// repeatedly, with the part that is done.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`]; the disk's and the writer's.
    fn catch_up(
        &self,
        place: &TableFolder,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        grown: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), StoreError>;

    /// Appends to a file, visibly to all nodes. What `reopen` returns replaces the writer when what it wrote was taken back.
    fn append(
        &self,
        place: &TableFolder,
        file: &str,
        writer: &mut Writer,
        reopen: &dyn Fn() -> Result<Writer, StoreError>,
        append: AppendRows<'_>,
    ) -> Result<(), AppendError>;

    /// Whether a file consists of so many pieces that it should be [joined](Self::join).
    fn is_to_join(&self, _place: &TableFolder) -> bool {
        false
    }

    /// Joins pieces of a file. Rows may be appended meanwhile.
    fn join(&self, _place: &TableFolder, _file: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes a file that no record names any more, on the disk and for all nodes.
    fn remove_file(&self, place: &TableFolder, file: &str) -> Result<(), StoreError>;

    /// Removes a table that this process has open.
    fn delete(&self, place: &TableFolder) -> Result<(), StoreError>;

    /// Ends all requests to the network with an error: the server stops.
    fn close(&self) {}

    /// Removes left-overs and tables that were not used for `tables.keep`, and counts the others. Returns the number of
    /// removed tables.
    fn sweep(&self) -> u64;

    /// The number of tables, and the bytes of their files; in a bucket, as last counted.
    fn stored(&self) -> (u64, u64);

    /// Counters of the bucket, and the bytes of copies; `None` without a bucket.
    fn numbers(&self) -> Option<(&BucketCounters, u64)> {
        None
    }

    /// Reserves bytes of the disk for a file; see [`Disk::reserve`].
    fn reserve(&self, bytes: u64, quota: Quota, file: Option<&str>) -> Result<Reserved, StoreError> {
        self.disk().reserve(bytes, quota, file)
    }

    /// The charge of a file for what it takes besides the bytes under its name, for all its readers and its writer.
    fn charge(&self, place: &TableFolder, file: &str) -> Arc<FileCharge> {
        self.disk().charge(place, file)
    }

    /// Removes the file of a failed upload from the disk. Its reservation was released before.
    fn discard(&self, place: &TableFolder, file: &str) {
        self.disk().removed(place, file, place.remove_file(file));
    }
}

/// Opens the store that the options name, and removes left-overs on the disk. Call within a runtime.
///
/// # Errors
/// When the folder cannot be made or read, or the bucket's options are invalid; the text names it.
pub(super) fn open(options: &Options, close_idle: CloseIdle) -> io::Result<Arc<dyn Store>> {
    let disk = |root: &Option<_>, is_own| {
        Disk::open(root.as_deref(), options.max_total, options.keep, is_own, close_idle).map(Arc::new)
    };
    Ok(match &options.store {
        StoreLocation::Folder(folder) => Arc::new(FolderStore::new(disk(folder, false)?)),
        StoreLocation::Bucket { bucket, copies } => {
            let bucket = bucket::Bucket::open(bucket, options)?;
            Arc::new(BucketStore::new(disk(copies, true)?, bucket))
        }
    })
}

/// Has the writer read what other processes wrote to its file on the disk.
fn read_appended(writer: &mut Writer, control: Control<'_>) -> Result<(), StoreError> {
    let Summary { finished, received, .. } = writer.table().reading().summary();
    let now = writer.catch_up(control)?;
    if now.received > received || !finished {
        writer.finish()?;
    }
    Ok(())
}
