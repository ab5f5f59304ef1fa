//! The new file of a table whose log is compacted.
//!
//! Invariants:
//! - At most one process writes the new file of a log: the one that has locked it.
//! - It replaces the log by a rename, after its bytes are on the disk. So a crash leaves the old or the new file complete.
//! - Its bytes are reserved before they are written. The bytes of the old file count until its last reader is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table::ORIGINAL;

use super::charge::{FileCharge, Reserved};
use super::folder::{is_at, remove_if_exists};
use super::{Disk, TableFolder};
use crate::StoreError;
use crate::quota::Quota;

/// The name of the new file, beside the log.
pub const NEW_LOG: &str = "original.new";

/// The new file of a log. Removed on drop unless it has replaced the log.
#[derive(Debug)]
pub struct NewLog {
    file: File,
    path: PathBuf,
    reserved: Reserved,
    /// Reserved bytes that are not written yet.
    ahead: u64,
    charge: Arc<FileCharge>,
    is_kept: bool,
}

impl Disk {
    /// Creates the new file of a log; `None` when another process is writing one.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(crate) fn create_log(
        self: &Arc<Self>,
        table_folder: &TableFolder,
        file: &str,
    ) -> Result<Option<NewLog>, StoreError> {
        let path = table_folder.file(file).join(NEW_LOG);
        // A file of a terminated process is used again.
        let new = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if new.try_lock().is_err() || !is_at(&new, &path) {
            return Ok(None);
        }
        let charge = Arc::new(FileCharge { disk: Arc::clone(self), removed: AtomicU64::new(0) });
        let reserved = self.reserve(0, Quota::unlimited(), None)?;
        let new = NewLog { file: new, path, reserved, ahead: 0, charge, is_kept: false };
        new.file.set_len(0)?;
        Ok(Some(new))
    }

    /// Replaces a log by its new file. Returns the bytes of both. The log must be locked.
    pub(crate) fn replace_log(
        &self,
        table_folder: &TableFolder,
        file: &str,
        uploader: &str,
        mut new: NewLog,
    ) -> io::Result<(u64, u64)> {
        let folder = table_folder.file(file);
        new.sync()?;
        let (old_bytes, new_bytes) = (fs::metadata(folder.join(ORIGINAL))?.len(), new.file.metadata()?.len());
        fs::rename(&new.path, folder.join(ORIGINAL))?;
        new.is_kept = true;
        // A crash before the new name is on the disk leaves the old file.
        if let Err(error) = File::open(&folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!(%error, table = %table_folder.id, "the folder of a table cannot be synced");
        }
        let readers = table_folder.charges().insert(file.to_owned(), Arc::downgrade(&new.charge));
        if let Some(readers) = readers.and_then(|readers| readers.upgrade()) {
            self.unlinked.fetch_add(old_bytes, Ordering::Relaxed);
            readers.removed.fetch_add(old_bytes, Ordering::Relaxed);
        }
        self.release(old_bytes);
        if let Some(stored) = self.requesters().stored.get_mut(uploader) {
            *stored = (*stored + new_bytes).saturating_sub(old_bytes);
        }
        Ok((old_bytes, new_bytes))
    }
}

impl NewLog {
    /// Reserves bytes that are about to be written by another handle of the file.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        let from_ahead = bytes.min(self.ahead);
        self.reserved.grow(bytes - from_ahead)?;
        self.ahead -= from_ahead;
        Ok(())
    }

    /// Reserves the bytes of a file of about this size at once, so that a file without room takes none from others meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn reserve_ahead(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.reserved.grow(bytes)?;
        self.ahead += bytes;
        Ok(())
    }

    /// Waits until all bytes are on the disk.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// The disk space of the file besides its own bytes.
    pub fn charge(&self) -> Arc<FileCharge> {
        Arc::clone(&self.charge)
    }
}

impl Write for NewLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reserve(bytes.len() as u64).map_err(|error| match error {
            StoreError::Io(error) => error,
            error => io::Error::new(io::ErrorKind::QuotaExceeded, error.to_string()),
        })?;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewLog {
    fn drop(&mut self) {
        if self.is_kept {
            self.reserved.disk.release(self.ahead);
            self.reserved.keep_all();
        } else if let Err(error) = remove_if_exists(&self.path) {
            tracing::warn!(%error, "the new file of a table cannot be removed; it is removed when the table is closed");
        }
    }
}
