//! Stores of shared tables: a trait with two implementations, a folder and a bucket of S3.
//!
//! ```text
//! lib.rs           the trait, and functions that both implementations use
//! folder_store.rs  a folder, which several nodes may share
//! bucket_store.rs  a bucket, with copies in a folder
//! disk/            folders on a disk, bounded in bytes: the tables themselves, or copies
//! bucket/          objects of S3
//! record/          the stored state of a table: its file, its view, its locks
//! counters.rs      counters that are keyed by an enum
//! id.rs            ids of tables, secrets of owners
//! quota.rs         the limits of one requester
//! listing.rs       pages of the stored tables, for operators
//! error.rs         errors of the operations
//! ```
//!
//! The crate uses the table engine and the HTTP client (`outbound`); rooms, viewers and the protocol are in
//! `table-service`.
//!
//! Files are always written to and read from the disk. The implementations differ in how other nodes find them:
//!
//! | | [`FolderStore`] | [`BucketStore`] |
//! |---|---|---|
//! | an uploaded file is visible to all nodes | once the record names it | once it was put ([`Store::publish`]) |
//! | rows that other nodes appended | are on the same disk | are fetched ([`Store::catch_up`]) |
//! | concurrent appends | lock the file | put an object that can be put once ([`Store::append`]) |
//! | a table is in use | while a process holds its lock | while a node rewrites its record periodically |
//!
//! All operations may block on the disk and the network: call them on threads that may block.

mod bucket;
mod bucket_store;
mod disk;
mod error;
mod folder_store;
mod id;
mod listing;
mod options;
mod quota;
mod record;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_table::{Control, Summary, Writer};

use bucket_store::BucketStore;
use folder_store::FolderStore;

pub use bucket::{BucketCounters, RequestOutcome, SaveOutcome};
pub use disk::{
    Disk, ExceededLimit, FeedIdentity, FileCharge, NEW_LOG, NewLog, Reserved, TABLE_OVERHEAD, TableFolder,
};
pub use error::{AppendError, StoreError};
pub use id::{ParseIdError, TableId, process_number, secret};
pub use listing::{StoredPage, StoredTable};
pub use options::{BucketOptions, StoreLocation, StoreOptions};
pub use quota::{MAX_UPLOADS, Quota};
pub use record::{
    ColumnLayout, Condition, DialectOptions, InvalidDialect, Locks, PreviousFile, Record, Sort, Stamp,
    ViewSettings,
};

/// Callback that closes open tables without viewers, so that they can be evicted. May block.
pub type CloseIdle = Box<dyn Fn() + Send + Sync>;

/// Callback that writes rows to the disk. Called again when other nodes appended first.
pub type AppendRows<'a> = &'a mut dyn FnMut(&mut Writer);

/// Callback that writes the rest of a log into its new file. The first argument is the writer of the log.
pub type CompleteLog<'a> = &'a mut dyn FnMut(&mut Writer, &mut NewLog) -> Result<(), StoreError>;

/// The tables of one server, or of all servers that share a store.
pub trait Store: Debug + Send + Sync {
    /// The disk for reading and writing files.
    fn disk(&self) -> &Arc<Disk>;

    /// The table with this id, if it exists.
    fn find(&self, id: TableId) -> Result<Option<(TableFolder, Record)>, StoreError>;

    /// The least time between two [saves](Self::save) of a table.
    fn min_save_interval(&self) -> Duration {
        Duration::ZERO
    }

    /// The interval at which an open table must be saved without changes, so that it counts as used; `None` when a lock
    /// on the disk marks it as used.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// Writes the record atomically, unless a newer one is stored. Sets the table's last use to now.
    fn save(&self, table_folder: &TableFolder, record: &Record) -> Result<SaveOutcome, StoreError>;

    /// Removes the record of a table that never had a file.
    fn remove_record(&self, table_folder: &TableFolder) -> Result<(), StoreError>;

    /// Closes a table. Its last use is `left` (in a bucket: now). Removes the table if it has no file.
    fn close_table(
        &self,
        table_folder: &TableFolder,
        record: &Record,
        left: SystemTime,
    ) -> Result<(), StoreError>;

    /// Makes a complete file visible to all nodes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Full`].
    fn publish(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError>;

    /// Prepares the folder of a file on the disk, so that the file can be opened.
    fn prepare(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError>;

    /// Reads rows that other nodes appended, or the missing part of the local copy, into the writer. Calls
    /// `on_progress` repeatedly, with the fraction that is complete.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`]; errors of the disk and of the writer.
    fn catch_up(
        &self,
        table_folder: &TableFolder,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        on_progress: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), StoreError>;

    /// Appends to a file, visibly to all nodes. When written rows are removed again, the writer is replaced by the
    /// result of `reopen`.
    fn append(
        &self,
        table_folder: &TableFolder,
        file: &str,
        writer: &mut Writer,
        reopen: &dyn Fn() -> Result<Writer, StoreError>,
        append: AppendRows<'_>,
    ) -> Result<(), AppendError>;

    /// Whether a file consists of so many objects that it should be [compacted](Self::compact).
    fn needs_compaction(&self, _place: &TableFolder) -> bool {
        false
    }

    /// Merges objects of a file. Concurrent appends are allowed.
    fn compact(&self, _place: &TableFolder, _file: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether logs of rows with a key can be compacted.
    fn compacts_logs(&self) -> bool {
        false
    }

    /// Creates the new file of a log of rows with a key; `None` when another process is writing one, or the store does not
    /// support it.
    ///
    /// # Errors
    /// Errors of the disk.
    fn create_log(&self, _place: &TableFolder, _file: &str) -> Result<Option<NewLog>, StoreError> {
        Ok(None)
    }

    /// Replaces a log by its new file for all processes, which `complete` completes while nothing is appended. The rows
    /// count for this uploader. Returns the bytes of both files. After an error the log is unchanged; otherwise its writer
    /// must be replaced.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another process has replaced the log; errors of the disk and of `complete`.
    fn replace_log(
        &self,
        _place: &TableFolder,
        _file_and_uploader: (&str, &str),
        _writer: &mut Writer,
        _new: NewLog,
        _complete: CompleteLog<'_>,
    ) -> Result<(u64, u64), StoreError> {
        Err(StoreError::Unavailable("the store does not compact files"))
    }

    /// Removes a file that no record names any more, for all nodes.
    fn remove_file(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError>;

    /// Deletes a table that this process has open.
    fn delete(&self, table_folder: &TableFolder) -> Result<(), StoreError>;

    /// Ends all network requests with an error. Called when the server stops.
    fn shut_down(&self) {}

    /// Removes left-overs and tables that were not used for `tables.keep`, and counts the remaining ones. Returns the
    /// number of removed tables.
    fn sweep(&self) -> u64;

    /// The number of tables and the size of their files in bytes; in a bucket, as last counted.
    fn stored(&self) -> (u64, u64);

    /// At most `limit` tables with an id after `after`, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; errors of the disk.
    fn page(&self, after: Option<TableId>, limit: usize) -> Result<StoredPage, StoreError>;

    /// The counters of the bucket, and the size of the local copies in bytes; `None` without a bucket.
    fn bucket_counters(&self) -> Option<(&BucketCounters, u64)> {
        None
    }

    /// Reserves bytes of the disk for a file. See [`Disk::reserve`].
    fn reserve(&self, bytes: u64, quota: Quota, file: Option<&str>) -> Result<Reserved, StoreError> {
        self.disk().reserve(bytes, quota, file)
    }

    /// The disk space of a file besides its own bytes, shared by all its readers and its writer.
    fn charge(&self, table_folder: &TableFolder, file: &str) -> Arc<FileCharge> {
        self.disk().charge(table_folder, file)
    }

    /// Removes the file of a failed upload from the disk. Its reservation must be released before.
    fn discard(&self, table_folder: &TableFolder, file: &str) {
        self.disk().account_removed(table_folder, file, table_folder.remove_file(file));
    }
}

/// Opens the configured store, and removes left-overs on the disk. Call within a runtime.
///
/// # Errors
/// When the folder cannot be created or read, or the options of the bucket are invalid. The text names it.
pub fn open(options: &StoreOptions, close_idle: CloseIdle) -> io::Result<Arc<dyn Store>> {
    let disk = |root: &Option<_>, is_own| {
        Disk::open(root.as_deref(), options.max_total, options.keep, is_own, close_idle).map(Arc::new)
    };
    Ok(match &options.location {
        StoreLocation::Folder(folder) => Arc::new(FolderStore::new(disk(folder, false)?)),
        StoreLocation::Bucket { bucket, copies } => {
            let bucket = bucket::Bucket::open(bucket, options)?;
            Arc::new(BucketStore::new(disk(copies, true)?, bucket))
        }
    })
}

/// Reads rows that other processes wrote to the file into the writer.
fn read_appended(writer: &mut Writer, control: Control<'_>) -> Result<(), StoreError> {
    let Summary { finished, received, .. } = writer.table().reading().summary();
    let now = writer.catch_up(control)?;
    if now.received > received || !finished {
        writer.finish()?;
    }
    Ok(())
}
