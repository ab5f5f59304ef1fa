//! One table's folder: its record, and the files in it.
//!
//! Invariant: a record is replaced as a whole or not at all, also by a crash.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use object_store::UpdateVersion;

use super::charge::FileCharge;
use super::folder::{RECORD, read_record, size_within};
use crate::id::{self, TableId};
use crate::record::Record;

/// A table's folder, which is kept from being evicted while this is there.
#[derive(Debug)]
pub(crate) struct TableFolder {
    pub(crate) id: TableId,
    pub(super) folder: PathBuf,
    _lock: File,
    /// The version of the record in the bucket that was read or written here last.
    pub(in crate::store) seen: Mutex<Option<UpdateVersion>>,
    /// Up to where a file that was appended to is to be joined in the bucket; 0 while there is no need.
    pub(in crate::store) to_join: AtomicU64,
    /// Held while that is done.
    pub(in crate::store) joining: Mutex<()>,
    /// The charges of its files, by their names.
    charges: Mutex<HashMap<String, Weak<FileCharge>>>,
}

impl TableFolder {
    pub(super) fn new(id: TableId, folder: PathBuf, lock: File) -> Self {
        let (seen, to_join, joining) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Self { id, folder, _lock: lock, seen, to_join, joining, charges: Mutex::default() }
    }

    pub(super) fn charges(&self) -> MutexGuard<'_, HashMap<String, Weak<FileCharge>>> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record has been read from the bucket, and was of this version.
    pub(in crate::store) fn saw(&self, version: UpdateVersion) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }

    /// The record as it is on disk now; `None` when the table has been deleted, or has none yet.
    pub(in crate::store) fn record(&self) -> io::Result<Option<Record>> {
        match read_record(&self.folder) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The table was used last at this moment.
    pub(crate) fn used(&self, when: SystemTime) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.folder.join(RECORD))?.set_modified(when)
    }

    /// Writes the record, all of it or nothing; the table counts as used now.
    pub(in crate::store) fn save(&self, record: &Record) -> io::Result<()> {
        // Another process may write one at the same time.
        let new = self.folder.join(format!("{RECORD}.{:x}", fastrand::u64(..)));
        let text = serde_json::to_vec(record)?;
        let name = self.folder.join(RECORD);
        // On disk before it has the name: after a crash there is the old one or the new one. Where there is no old one
        // to lose, other nodes find the table sooner.
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
    pub(in crate::store) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(RECORD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes a folder for a file, and gives its name.
    pub(crate) fn new_file(&self) -> io::Result<String> {
        let name = format!("f-{}", &id::secret()[..16]);
        DirBuilder::new().mode(0o700).create(self.folder.join(&name))?;
        Ok(name)
    }

    /// Where a file's folder is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes a file with its folder; gives how many bytes it had.
    pub(crate) fn remove_file(&self, name: &str) -> u64 {
        let folder = self.file(name);
        let bytes = size_within(&folder);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, table = %self.id, "an old file cannot be removed");
        }
        bytes
    }
}
