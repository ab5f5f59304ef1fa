//! The folder of one table: its record and its files.
//!
//! Invariant: a record is replaced atomically, also if the process crashes.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use object_store::UpdateVersion;

use super::NEW_LOG;
use super::charge::FileCharge;
use super::folder::{RECORD, read_record, remove_if_exists, size_within};
use crate::id::{self, TableId};
use crate::record::Record;

/// The folder of a table. It is locked against eviction until the drop.
#[derive(Debug)]
pub struct TableFolder {
    /// Its id.
    pub id: TableId,
    pub(super) folder: PathBuf,
    _lock: File,
    /// The version of the record in the bucket, as this process read or wrote it last.
    pub(crate) bucket_version: Mutex<Option<UpdateVersion>>,
    /// The length of the file up to which its objects in the bucket should be merged; 0: none.
    pub(crate) compact_up_to: AtomicU64,
    /// Locked during a compaction.
    pub(crate) compacting: Mutex<()>,
    /// The charges of its files, by file name.
    charges: Mutex<HashMap<String, Weak<FileCharge>>>,
}

impl TableFolder {
    pub(super) fn new(id: TableId, folder: PathBuf, lock: File) -> Self {
        let (bucket_version, compact_up_to, compacting) =
            (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Self { id, folder, _lock: lock, bucket_version, compact_up_to, compacting, charges: Mutex::default() }
    }

    pub(super) fn charges(&self) -> MutexGuard<'_, HashMap<String, Weak<FileCharge>>> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the version of the record that was read from the bucket.
    pub(crate) fn set_bucket_version(&self, version: UpdateVersion) {
        *self.bucket_version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }

    /// The record on the disk; `None` when the table was deleted, or has no record yet.
    pub(crate) fn record(&self) -> io::Result<Option<Record>> {
        match read_record(&self.folder) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the time of the table's last use.
    pub fn set_last_used(&self, when: SystemTime) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.folder.join(RECORD))?.set_modified(when)
    }

    /// Writes the record atomically. Sets the table's last use to now.
    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        // A unique name, because another process may write a record at the same time.
        let new = self.folder.join(format!("{RECORD}.{:x}", fastrand::u64(..)));
        let text = serde_json::to_vec(record)?;
        let name = self.folder.join(RECORD);
        // Synced before the rename, so that a crash leaves the old or the new record. A first record is renamed before
        // the sync: there is no old one to lose, and other nodes find the table sooner.
        let is_first = !name.exists();
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            if is_first {
                fs::rename(&new, &name)?;
                return file.sync_all();
            }
            file.sync_all()?;
            fs::rename(&new, &name)
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Removes the record.
    pub(crate) fn remove_record(&self) -> io::Result<()> {
        remove_if_exists(&self.folder.join(RECORD))
    }

    /// Creates the folder of a new file, and returns its name.
    pub fn new_file(&self) -> io::Result<String> {
        let name = format!("f-{}", &id::secret()[..16]);
        DirBuilder::new().mode(0o700).create(self.folder.join(&name))?;
        Ok(name)
    }

    /// The path of a file's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes the folder of a file. Returns the size of the file in bytes.
    pub fn remove_file(&self, name: &str) -> u64 {
        let folder = self.file(name);
        // The bytes of a running compaction are released by it.
        let compacted = fs::metadata(folder.join(NEW_LOG)).map_or(0, |metadata| metadata.len());
        let bytes = size_within(&folder).saturating_sub(compacted);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, table = %self.id, "a replaced file of a table cannot be removed");
        }
        bytes
    }
}
