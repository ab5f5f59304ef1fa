//! Where tables lie on a disk: a folder each, within a bound of bytes for all together.
//!
//! ```text
//! <store>/<uuid>/lock           locked (shared) by every process that has the table open
//!               /record.json    what is kept besides the file
//!               /f-<random>/    the file that the record names, or one that is being uploaded
//! ```
//!
//! Several nodes may share a disk, or it holds one node's copies of what is in a bucket. Invariants:
//! - Whatever no record names belongs to a process that has the table locked, or is left over from one that is gone
//!   and is removed: at the start, and by every [`Disk::sweep`].
//! - A table that a process has open is never evicted. Its owner may delete it all the same: other processes read their open
//!   file until they receive the deletion.
//! - Every byte is reserved before it is written: those of files by [`Disk::reserve`], those of the nameless files in which
//!   the engine decodes what is packed or not in UTF-8, and sorts, by a [`FileCharge`]. A file that is removed while
//!   it is read counts until the last reader is dropped.
//! - What one requester has uploaded is within its [`Quota`]; where there is no room, its own tables go first.
//!
//! Everything here may wait for the disk.

mod charge;
mod eviction;
mod folder;
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
use crate::store::{CloseIdle, StoreError};
pub(crate) use charge::{FileCharge, Reserved};
use charge::{RequesterBytes, subtract};
use folder::{
    LOCK, TEMPORARY, lock_alone, lock_shared, read_record, remove, remove_abandoned, size, size_within,
};
pub(crate) use table_folder::TableFolder;

/// What a table takes besides its file, so that many small ones count too.
pub(crate) const TABLE: u64 = 8 << 10;

/// All tables in a folder.
pub(crate) struct Disk {
    root: PathBuf,
    /// Held while this process uses a temporary folder, which goes with it.
    _temporary: Option<(TempDir, File)>,
    /// Held while this process has the folder for itself.
    _own: Option<File>,
    max_total: u64,
    keep: Duration,
    /// Bytes of all files, as last counted and with what was written since.
    used: AtomicU64,
    /// Bytes of files without a name: what the engine derives from tables, and removed files that are still read.
    nameless: AtomicU64,
    /// Bytes by requester, see [`Quota::key`].
    owned: Mutex<RequesterBytes>,
    /// What was refused: past the bound of all tables, and past a requester's quota.
    pub(crate) refused: [AtomicU64; 2],
    /// Tables, as last counted.
    tables: AtomicU64,
    /// Closes tables in memory that nobody views.
    close_idle: CloseIdle,
    /// Tables whose records cannot be read; each was logged once.
    unreadable: Mutex<HashSet<TableId>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({})", self.root.display())
    }
}

impl Disk {
    /// Opens a folder of tables, or a temporary one, and removes what is left over in it. `is_own`: no other process
    /// may use it.
    ///
    /// # Errors
    /// When the folder cannot be made, read, or had for this process alone; with its name.
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
                    "another process uses it; with tables in a bucket each node needs its own data_dir",
                )
            })?;
            Ok(lock)
        });
        let own = own.transpose().map_err(named)?;
        let (used, nameless, tables) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let store = Self {
            root,
            _temporary: temporary,
            _own: own,
            max_total,
            keep,
            used,
            nameless,
            owned: Mutex::default(),
            refused: Default::default(),
            tables,
            close_idle,
            unreadable: Mutex::default(),
        };
        store.remove_unreadable();
        store.sweep();
        Ok(store)
    }

    /// Makes a folder for a new table.
    pub(crate) fn create(&self) -> io::Result<TableFolder> {
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

    /// A place for the copy of a table that is in the bucket.
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

    /// The table of this name, if there is one.
    pub(super) fn find(&self, id: TableId) -> io::Result<Option<(TableFolder, Record)>> {
        let folder = self.folder(id);
        let Some(lock) = lock_shared(&folder)? else { return Ok(None) };
        let place = TableFolder::new(id, folder, lock);
        match place.record() {
            Ok(record) => Ok(record.map(|record| (place, record))),
            // As good as none; it is removed at the next start, or after `tables.keep`.
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

    /// Removes tables whose records cannot be read, which a crash may leave.
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

    /// Reserves bytes of a requester's quota for a growing file, and evicts unused tables for them, the least recently used
    /// first.
    ///
    /// # Errors
    /// [`StoreError::Full`] when all that are left are in use, or the quota is used up.
    /// `file` is one that no record names yet; `None`: one that grows.
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

    /// Releases the bytes of a removed file.
    pub(super) fn release(&self, bytes: u64) {
        subtract(&self.used, bytes);
    }

    /// What a file of a table takes besides the bytes under its name; one for all who read the file.
    pub(super) fn charge(self: &Arc<Self>, place: &TableFolder, file: &str) -> Arc<FileCharge> {
        let mut charges = place.charges();
        if let Some(charge) = charges.get(file).and_then(Weak::upgrade) {
            return charge;
        }
        charges.retain(|_, charge| charge.strong_count() > 0);
        let charge = Arc::new(FileCharge { disk: Arc::clone(self), removed: AtomicU64::new(0) });
        charges.insert(file.to_owned(), Arc::downgrade(&charge));
        charge
    }

    /// Removes a file that no record names any more, and gives back what it took.
    pub(super) fn remove_file(&self, place: &TableFolder, file: &str) {
        let bytes = place.remove_file(file);
        self.removed(place, file, bytes);
        self.release(bytes);
    }

    /// Accounts for a removed file: its bytes stay counted while it is read.
    pub(super) fn removed(&self, place: &TableFolder, file: &str, bytes: u64) {
        self.owned().fresh.remove(file);
        if let Some(charge) = place.charges().get(file).and_then(Weak::upgrade) {
            self.nameless.fetch_add(bytes, Ordering::Relaxed);
            charge.removed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn owned(&self) -> MutexGuard<'_, RequesterBytes> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> String {
        format!(
            "all tables together may have {} bytes (tables.max_total), with what packed files unpack to while they are open",
            self.max_total
        )
    }

    /// Bytes of all files, with and without names.
    fn total(&self) -> u64 {
        self.used().saturating_add(self.nameless())
    }

    /// Bytes of files without a name.
    pub(crate) fn nameless(&self) -> u64 {
        self.nameless.load(Ordering::Relaxed)
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many tables there are.
    pub(super) fn tables(&self) -> u64 {
        self.tables.load(Ordering::Relaxed)
    }

    fn forget(&self) {
        let _ =
            self.tables.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tables| tables.checked_sub(1));
    }

    fn folder(&self, id: TableId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Every table's folder; whatever else lies in the store is left alone.
    fn folders(&self) -> impl Iterator<Item = (TableId, PathBuf)> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
    }

    /// Removes a table that this process has open, on its owner's word.
    pub(super) fn delete(&self, place: &TableFolder) -> io::Result<()> {
        if !place.folder.exists() {
            return Ok(());
        }
        let bytes = size(&place.folder);
        let files: Vec<_> = place.charges().keys().cloned().collect();
        let files: Vec<_> = files.into_iter().map(|file| (size_within(&place.file(&file)), file)).collect();
        remove(&place.folder)?;
        for (bytes, file) in files {
            self.removed(place, &file, bytes);
        }
        self.release(bytes);
        self.forget();
        Ok(())
    }
}
