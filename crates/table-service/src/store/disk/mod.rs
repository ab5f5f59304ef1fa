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
mod folder;
mod table_folder;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::id::TableId;
use crate::quota::Quota;
use crate::record::Record;
use crate::store::{CloseIdle, StoreError};
pub(crate) use charge::{FileCharge, Reserved};
use charge::{RequesterBytes, subtract};
use folder::{
    LOCK, RECORD, TEMPORARY, last_used, lock_alone, lock_shared, read_record, remove, remove_abandoned, size,
    size_within, tidy,
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

    /// Whether everything is within the bound, once tables that are not in use have been evicted.
    /// The tables of the requester `own` go first.
    fn has_room(&self, own: &str) -> bool {
        self.make_room(|| self.total().saturating_sub(self.max_total), own, false)
    }

    /// Whether a requester is within its quota, once tables of its that are not in use have been evicted.
    fn is_within(&self, quota: &Quota) -> bool {
        let excess = || self.owned().of(&quota.key).saturating_sub(quota.bytes);
        if excess() == 0 {
            return true;
        }
        // Files that were replaced since it was counted last are no longer its.
        self.count_owned();
        let recounted = || {
            self.count_owned();
            excess()
        };
        excess() == 0 || self.make_room(recounted, &quota.key, true)
    }

    fn make_room(&self, excess: impl Fn() -> u64, own: &str, only_own: bool) -> bool {
        let evict = || match excess() {
            0 => true,
            bytes => {
                self.evict(bytes, own, only_own);
                excess() == 0
            }
        };
        if evict() {
            return true;
        }
        (self.close_idle)();
        evict()
    }

    fn owned(&self) -> MutexGuard<'_, RequesterBytes> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what requesters have, by the records.
    fn count_owned(&self) {
        let (mut stored, mut recorded): (HashMap<Arc<str>, u64>, _) = (HashMap::new(), Vec::new());
        for (_, folder) in self.folders() {
            let Ok(Record { uploader, file: Some(file), .. }) = read_record(&folder) else { continue };
            if !uploader.is_empty() {
                *stored.entry(uploader.into()).or_default() += TABLE + size_within(&folder.join(&file));
                recorded.push(file);
            }
        }
        let mut owned = self.owned();
        owned.stored = stored;
        for file in recorded {
            owned.fresh.remove(&file);
        }
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

    /// Removes what is left over and tables that nobody has used for `tables.keep`, and counts what is there. Gives
    /// how many tables were removed.
    pub(super) fn sweep(&self) -> u64 {
        let (mut used, mut tables, mut removed) = (0, 0, 0);
        for (id, folder) in self.folders() {
            let now = SystemTime::now();
            if let Some(lock) = lock_alone(&folder) {
                let is_over = last_used(&folder)
                    .is_none_or(|when| now.duration_since(when).is_ok_and(|unused| unused >= self.keep));
                let known = File::open(folder.join(RECORD)).is_ok();
                if is_over || !known {
                    match remove(&folder) {
                        Ok(()) if known => {
                            tracing::info!(table = %id, "a table was not used for tables.keep and is removed");
                            removed += 1;
                        }
                        Ok(()) => {}
                        Err(error) => tracing::warn!(%error, table = %id, "a table cannot be removed"),
                    }
                    continue;
                }
                if let Err(error) = tidy(&folder) {
                    tracing::warn!(%error, table = %id, "a table's folder cannot be tidied");
                }
                drop(lock);
            }
            tables += 1;
            used += size(&folder);
        }
        self.used.store(used, Ordering::Relaxed);
        self.tables.store(tables, Ordering::Relaxed);
        self.count_owned();
        removed
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many tables there are.
    pub(super) fn tables(&self) -> u64 {
        self.tables.load(Ordering::Relaxed)
    }

    /// Makes room for so many bytes more than the bound, if it can: of tables that are not in use those of the requester
    /// `own` go first, and of others those that were used longest ago.
    fn evict(&self, excess: u64, own: &str, only_own: bool) {
        let is_own =
            |folder: &Path| !own.is_empty() && read_record(folder).is_ok_and(|record| record.uploader == own);
        let mut unused: Vec<_> = self
            .folders()
            .filter_map(|(id, folder)| {
                let lock = lock_alone(&folder)?;
                let is_others = !is_own(&folder);
                (!only_own || !is_others).then(|| (is_others, last_used(&folder), id, folder, lock))
            })
            .collect();
        unused.sort_by_key(|(is_others, when, ..)| (*is_others, *when));
        let mut freed = 0;
        for (_, _, id, folder, _lock) in unused {
            if freed >= excess {
                break;
            }
            let bytes = size(&folder);
            match remove(&folder) {
                Ok(()) => {
                    tracing::info!(table = %id, bytes, "a table made room for another (tables.max_total)");
                    freed += bytes;
                    self.release(bytes);
                    self.forget();
                }
                Err(error) => tracing::warn!(%error, table = %id, "a table cannot be removed"),
            }
        }
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

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use tidings_table::Budget as _;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn store(folder: &Path, max_total: u64, keep: Duration) -> Arc<Disk> {
        Arc::new(Disk::open(Some(folder), max_total, keep, false, Box::new(|| {})).expect("a store"))
    }

    /// A table with a file of so many bytes, which nobody has open.
    fn table(store: &Arc<Disk>, bytes: usize) -> TableId {
        table_of(store, bytes, Quota::unlimited())
    }

    fn table_of(store: &Arc<Disk>, bytes: usize, quota: Quota) -> TableId {
        let place = store.create().expect("a folder");
        let name = place.new_file().expect("a folder");
        let uploader = quota.key.to_string();
        store.reserve(bytes as u64 + TABLE, quota, Some(&name)).expect("room").keep();
        fs::write(place.file(&name).join("original"), vec![b'x'; bytes]).expect("a file");
        place.save(&Record { file: Some(name), uploader, ..Record::new(None) }).expect("a record");
        place.id
    }

    fn reserve(store: &Arc<Disk>, bytes: u64) -> Result<Reserved, StoreError> {
        store.reserve(bytes, Quota::unlimited(), None)
    }

    fn age(store: &Disk, id: TableId, by: Duration) {
        let record = OpenOptions::new().write(true).open(store.folder(id).join(RECORD)).expect("a record");
        record.set_modified(SystemTime::now() - by).expect("a time");
    }

    #[test]
    fn a_table_is_found_again_and_knows_nothing_of_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path(), 1 << 20, DAY);
        let id = table(&store, 10);
        let (place, record) = store.find(id).expect("a disk").expect("the table");
        assert_eq!(
            fs::read(place.file(&record.file.expect("a file")).join("original")).expect("it").len(),
            10
        );
        assert!(store.find(TableId::random()).expect("a disk").is_none());
    }

    #[test]
    fn what_a_dead_process_left_is_removed_at_the_start_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = store(folder.path(), 1 << 20, DAY);
        let id = table(&first, 10);
        let (place, _) = first.find(id).expect("a disk").expect("the table");
        let half = place.new_file().expect("a folder");
        fs::write(place.file(&half).join("original"), b"half").expect("a file");
        let never = first.create().expect("a folder");
        fs::write(never.file("record.json.1"), b"{").expect("a file");
        fs::write(folder.path().join("README"), b"not a table").expect("a file");
        // While a process has them open, another one's start leaves them alone.
        store(folder.path(), 1 << 20, DAY);
        assert!(place.file(&half).exists() && never.folder.exists());
        drop((place, never));
        let second = store(folder.path(), 1 << 20, DAY);
        let (place, record) = second.find(id).expect("a disk").expect("the table");
        assert!(!place.file(&half).exists());
        assert!(place.file(&record.file.expect("a file")).exists() && folder.path().join("README").exists());
        assert_eq!((second.tables(), second.used()), (1, 10 + TABLE));
    }

    #[test]
    fn the_bound_is_kept_by_evicting_what_was_used_longest_ago_and_is_not_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path(), 3 * TABLE + 100, DAY);
        let [old, older, oldest] = [(); 3].map(|()| table(&store, 30));
        for (id, hours) in [(old, 1), (older, 2), (oldest, 3)] {
            age(&store, id, Duration::from_secs(hours * 3600));
        }
        let there = |id| store.find(id).expect("a disk").is_some();
        let in_use = store.find(oldest).expect("a disk").expect("the table");
        let reserved = reserve(&store, 30).expect("room");
        assert_eq!((there(old), there(older), there(oldest)), (true, false, true));
        assert_eq!(
            reserve(&store, 2 * TABLE + 60).map(|_| ()).expect_err("no room").to_string(),
            store.full()
        );
        drop((reserved, in_use));
        reserve(&store, 3 * TABLE + 90).expect("room");
        assert!(!there(oldest));
    }

    #[test]
    fn a_requester_has_its_quota_and_its_own_tables_go_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path(), 5 * TABLE, DAY);
        let quota = |key: &str, bytes| Quota { key: key.into(), bytes, ..Quota::unlimited() };
        let ann = || quota("user:ann", 2 * TABLE + 100);
        let bob = table_of(&store, 0, quota("user:bob", u64::MAX));
        age(&store, bob, 2 * Duration::from_secs(3600));
        let [first, second] = [(); 2].map(|()| table_of(&store, 10, ann()));
        age(&store, first, Duration::from_secs(3600));
        let there = |id| store.find(id).expect("a disk").is_some();
        // One more takes the place of her oldest one, and not of his, which is older.
        let third = table_of(&store, 10, ann());
        assert_eq!((there(bob), there(first), there(second), there(third)), (true, false, true, true));
        let in_use = [second, third].map(|id| store.find(id).expect("a disk").expect("the table"));
        let refused = store.reserve(TABLE, ann(), None).map(|_| ()).expect_err("no room");
        assert!(matches!(&refused, StoreError::Full(why) if why.contains("tables.max_total")), "{refused:?}");
        assert_eq!(store.refused[1].load(Ordering::Relaxed), 1);
        drop(in_use);
        // Where all tables are too much, her own go first as well.
        let mut coming = store.reserve(0, quota("user:ann", u64::MAX), None).expect("room");
        coming.grow(3 * TABLE).expect("room");
        assert!(there(bob) && !there(second));
        // A failed upload counts to no requester.
        drop(coming);
        store.sweep();
        assert_eq!(store.owned().of("user:ann"), if there(third) { TABLE + 10 } else { 0 });
    }

    #[test]
    fn what_a_file_unpacks_to_and_a_removed_file_that_is_read_count_until_the_last_reader_has_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path(), 2 * TABLE, DAY);
        let id = table(&store, 100);
        let (place, record) = store.find(id).expect("a disk").expect("the table");
        let file = record.file.expect("a file");
        let reader = store.charge(&place, &file);
        reader.reserve(500).expect("room");
        assert_eq!((store.used(), store.nameless()), (TABLE + 100, 500));
        let refused = reader.reserve(TABLE).expect_err("no room");
        assert!(
            refused.kind() == io::ErrorKind::QuotaExceeded
                && refused.to_string().contains("tables.max_total")
        );
        assert_eq!(reserve(&store, TABLE - 500).map(|_| ()).expect_err("no room").to_string(), store.full());
        store.delete(&place).expect("a disk");
        // The file is as large as its folder says, and the folder takes nothing of it.
        assert_eq!(store.nameless(), 500 + 100);
        reader.release(500);
        drop((place, reader));
        assert_eq!((store.used(), store.nameless()), (0, 0));
    }

    #[test]
    fn a_table_that_nobody_uses_is_kept_as_long_as_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path(), 1 << 20, DAY);
        let (fresh, stale, open) = (table(&store, 1), table(&store, 1), table(&store, 1));
        age(&store, stale, 2 * DAY);
        age(&store, open, 2 * DAY);
        let _in_use = store.find(open).expect("a disk").expect("the table");
        assert_eq!(store.sweep(), 1);
        let there = |id| store.find(id).expect("a disk").is_some();
        assert_eq!((there(fresh), there(stale), there(open)), (true, false, true));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_table_and_is_removed_at_the_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = store(folder.path(), 1 << 20, DAY);
        let (good, empty, odd) = (table(&first, 1), table(&first, 1), table(&first, 1));
        fs::write(first.folder(empty).join(RECORD), b"").expect("a file");
        fs::write(first.folder(odd).join(RECORD), b"{\"file\":3}").expect("a file");
        for id in [empty, odd] {
            assert!(first.find(id).expect("no failure").is_none());
            assert!(first.folder(id).exists());
        }
        let second = store(folder.path(), 1 << 20, DAY);
        assert!(!second.folder(empty).exists() && !second.folder(odd).exists());
        assert!(second.find(good).expect("a disk").is_some());
    }

    #[test]
    fn a_temporary_store_goes_with_its_server() {
        let store = Disk::open(None, 1 << 20, DAY, false, Box::new(|| {})).expect("a store");
        let root = store.root.clone();
        assert!(root.exists());
        drop(store);
        assert!(!root.exists());
    }
}
