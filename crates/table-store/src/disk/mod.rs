//! Tables in a folder of a disk: one folder per table, with a limit on the total size.
//!
//! ```text
//! <store>/feeds/          of tables that are filled from channels: see feeds.rs
//! <store>/<uuid>/lock           locked (shared) by every process that has the table open
//!               /record.json    the state of the table
//!               /f-<random>/    the file that the record names, or a running upload; while it is compacted, also the new
//!                               file (`original.new`), locked by the process that writes it
//! ```
//!
//! Several nodes may share the folder, or it holds one node's copies of tables in a bucket. Invariants:
//! - A file that no record names belongs to a process that has locked the table, or is left over from a terminated
//!   process. Left-overs are removed at the start and by every [`Disk::sweep`].
//! - An open table is never evicted. Its owner may delete it: other processes read their open file until they receive
//!   the deletion.
//! - Every byte is reserved before it is written: bytes of files by [`Disk::reserve`]; bytes of unlinked files, in
//!   which the engine decompresses, decodes and sorts, by a [`FileCharge`]. A file that is removed while it is read
//!   counts until its last reader is dropped.
//! - The tables of one requester are within its [`Quota`]. When space is needed, the requester's own tables are evicted
//!   first.
//!
//! All methods may block on the disk.

mod charge;
mod eviction;
mod feeds;
mod folder;
mod list;
mod new_log;
mod table_folder;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;

use crate::id::TableId;
use crate::quota::Quota;
use crate::record::Record;
use crate::{CloseIdle, StoreError};
pub use charge::{FileCharge, Reserved};
use charge::{RequesterBytes, subtract};
pub use feeds::FeedIdentity;
pub(crate) use folder::lock_file;
use folder::{
    LOCK, TEMPORARY, lock_alone, lock_shared, read_record, remove, remove_abandoned, size, size_within,
};
pub use new_log::{NEW_LOG, NewLog};
pub use table_folder::TableFolder;
use tidings_metrics::{KeyedCounters, labels};

/// The bytes that a table counts besides its file, so that many small tables reach the limit too.
pub const TABLE_OVERHEAD: u64 = 8 << 10;

labels! {
    /// The limit for which a reservation was rejected.
    pub enum ExceededLimit {
        /// `tables.max_total`.
        Total => "total",
        /// The quota of the requester.
        Quota => "quota",
    }
}

/// All tables in a folder.
pub struct Disk {
    root: PathBuf,
    /// A temporary folder and its lock; removed on drop.
    _temporary: Option<(TempDir, File)>,
    /// The lock of a folder that only this process uses.
    _own: Option<File>,
    max_total: u64,
    keep: Duration,
    /// Bytes of all files: the last count plus later writes.
    used: AtomicU64,
    /// Bytes of unlinked files: temporary files of the engine, and removed files that are still read.
    unlinked: AtomicU64,
    /// Bytes by requester, see [`Quota::key`].
    requesters: Mutex<RequesterBytes>,
    /// Rejected reservations, by the exceeded limit.
    pub refused: KeyedCounters<ExceededLimit>,
    /// Tables, as last counted.
    tables: AtomicU64,
    /// Closes open tables without viewers.
    close_idle: CloseIdle,
    /// Tables with an unreadable record that were logged.
    unreadable: Mutex<HashSet<TableId>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({})", self.root.display())
    }
}

impl Disk {
    /// Opens a folder of tables, or a temporary one, and removes left-overs in it. `is_own`: the folder is locked for
    /// this process.
    ///
    /// # Errors
    /// When the folder cannot be created, read or locked. The text names the folder.
    pub(super) fn open(
        root: Option<&Path>,
        max_total: u64,
        keep: Duration,
        is_own: bool,
        close_idle: CloseIdle,
    ) -> io::Result<Self> {
        let (root, temporary) = match root {
            Some(root) => (root.to_owned(), None),
            None => {
                let folder = std::env::temp_dir();
                remove_abandoned(&folder);
                let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder)?;
                let lock = File::create(temporary.path().join(LOCK))?;
                lock.lock()?;
                (temporary.path().to_owned(), Some((temporary, lock)))
            }
        };
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("the folder of tables {} ({error})", root.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(named)?;
        fs::read_dir(&root).map_err(named)?;
        let own = (is_own && temporary.is_none()).then(|| {
            let lock = File::create(root.join(LOCK))?;
            lock.try_lock().map_err(|_| {
                io::Error::other(
                    "another process uses it; with tables in a bucket, each node needs its own data_dir",
                )
            })?;
            Ok(lock)
        });
        let own = own.transpose().map_err(named)?;
        let (used, unlinked, tables) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let store = Self {
            root,
            _temporary: temporary,
            _own: own,
            max_total,
            keep,
            used,
            unlinked,
            requesters: Mutex::default(),
            refused: KeyedCounters::default(),
            tables,
            close_idle,
            unreadable: Mutex::default(),
        };
        store.remove_unreadable();
        store.sweep();
        Ok(store)
    }

    /// Creates the folder of a new table.
    pub fn create(&self) -> io::Result<TableFolder> {
        loop {
            let id = TableId::random();
            let folder = self.folder(id);
            DirBuilder::new().mode(0o700).create(&folder)?;
            // A concurrent sweep may have removed the folder.
            if let Some(lock) = lock_shared(&folder)? {
                self.tables.fetch_add(1, Ordering::Relaxed);
                return Ok(TableFolder::new(id, folder, lock));
            }
        }
    }

    /// Creates or opens the folder of a copy of a table in the bucket.
    pub(super) fn copy(&self, id: TableId) -> io::Result<TableFolder> {
        loop {
            let folder = self.folder(id);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => drop(self.tables.fetch_add(1, Ordering::Relaxed)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            if let Some(lock) = lock_shared(&folder)? {
                return Ok(TableFolder::new(id, folder, lock));
            }
        }
    }

    /// The table with this id, if it exists.
    pub(super) fn find(&self, id: TableId) -> io::Result<Option<(TableFolder, Record)>> {
        let folder = self.folder(id);
        let Some(lock) = lock_shared(&folder)? else { return Ok(None) };
        let table_folder = TableFolder::new(id, folder, lock);
        match table_folder.record() {
            Ok(record) => Ok(record.map(|record| (table_folder, record))),
            // Treated as missing. The table is removed at the next start, or after `tables.keep`.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let mut said = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                if said.insert(id) {
                    tracing::error!(%error, table = %id, "the record of a table cannot be read");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes tables with unreadable records, which a crash may leave.
    fn remove_unreadable(&self) {
        for (id, folder) in self.folders() {
            let Some(_lock) = lock_alone(&folder) else { continue };
            let Err(error) = read_record(&folder) else { continue };
            if error.kind() == io::ErrorKind::InvalidData {
                tracing::error!(%error, table = %id, "the record of a table cannot be read; the table is removed");
                if let Err(error) = remove(&folder) {
                    tracing::warn!(%error, table = %id, "a table cannot be removed");
                }
            }
        }
    }

    /// Reserves bytes of a requester's quota for a growing file. Evicts unused tables for them, the least recently used
    /// first. `file` is a new file that no record names yet; `None`: an existing file grows.
    ///
    /// # Errors
    /// [`StoreError::Full`] when all remaining tables are in use, or the quota is exhausted.
    pub(super) fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        quota: Quota,
        file: Option<&str>,
    ) -> Result<Reserved, StoreError> {
        let file = file.map(ToOwned::to_owned);
        let mut reserved = Reserved { disk: Arc::clone(self), bytes: 0, quota, file };
        reserved.grow(bytes)?;
        Ok(reserved)
    }

    /// Releases bytes of files.
    pub(super) fn release(&self, bytes: u64) {
        subtract(&self.used, bytes);
    }

    /// The disk space of a file besides its own bytes, shared by all users of the file.
    pub(super) fn charge(self: &Arc<Self>, table_folder: &TableFolder, file: &str) -> Arc<FileCharge> {
        let mut charges = table_folder.charges();
        if let Some(charge) = charges.get(file).and_then(Weak::upgrade) {
            return charge;
        }
        charges.retain(|_, charge| charge.strong_count() > 0);
        let charge = Arc::new(FileCharge { disk: Arc::clone(self), removed: AtomicU64::new(0) });
        charges.insert(file.to_owned(), Arc::downgrade(&charge));
        charge
    }

    /// Removes a file that no record names any more, and releases its bytes.
    pub(super) fn remove_file(&self, table_folder: &TableFolder, file: &str) {
        let bytes = table_folder.remove_file(file);
        self.account_removed(table_folder, file, bytes);
        self.release(bytes);
    }

    /// Accounts for a removed file: its bytes count until its last reader is dropped.
    pub(super) fn account_removed(&self, table_folder: &TableFolder, file: &str, bytes: u64) {
        self.requesters().fresh.remove(file);
        if let Some(charge) = table_folder.charges().get(file).and_then(Weak::upgrade) {
            self.unlinked.fetch_add(bytes, Ordering::Relaxed);
            charge.removed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn requesters(&self) -> MutexGuard<'_, RequesterBytes> {
        self.requesters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit_message(&self) -> String {
        format!(
            "all tables may have {} bytes in total (tables.max_total), including the decompressed text of open files",
            self.max_total
        )
    }

    /// Bytes of all files, including unlinked ones.
    fn total(&self) -> u64 {
        self.used_bytes().saturating_add(self.unlinked())
    }

    /// Bytes of unlinked files.
    pub fn unlinked(&self) -> u64 {
        self.unlinked.load(Ordering::Relaxed)
    }

    /// Bytes of all files.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The number of tables.
    pub(super) fn tables(&self) -> u64 {
        self.tables.load(Ordering::Relaxed)
    }

    fn decrement_tables(&self) {
        let _ =
            self.tables.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tables| tables.checked_sub(1));
    }

    fn folder(&self, id: TableId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// The folders of all tables. Other files in the store are ignored.
    fn folders(&self) -> impl Iterator<Item = (TableId, PathBuf)> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
    }

    /// Deletes a table that this process has open.
    pub(super) fn delete(&self, table_folder: &TableFolder) -> io::Result<()> {
        if !table_folder.folder.exists() {
            return Ok(());
        }
        let bytes = size(&table_folder.folder);
        let files: Vec<_> = table_folder.charges().keys().cloned().collect();
        let files: Vec<_> =
            files.into_iter().map(|file| (size_within(&table_folder.file(&file)), file)).collect();
        remove(&table_folder.folder)?;
        for (bytes, file) in files {
            self.account_removed(table_folder, &file, bytes);
        }
        self.release(bytes);
        self.decrement_tables();
        Ok(())
    }
}
