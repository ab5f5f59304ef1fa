//! A log of changes in files, with snapshots that replace it.
//!
//! The files of a journal `NAME` in its folder have a generation in their names: `NAME-G.snapshot` has the state when the log
//! `NAME-G.log` began. A file has a header with the version of its form, and then frames: the length of the content, the CRC-32
//! of the content (both in 32 bits, little-endian), the content. A snapshot is written under a temporary name, synchronised and
//! renamed, and then the files of earlier generations are removed. `NAME.lock` is locked by the process that uses the files.
//!
//! Invariants:
//! - A frame is applied as a whole or not at all. [`Journal::append`] returns once the operating system has the frame, which
//!   survives the end of the process; [`Journal::unsynced`] has the file to synchronise for a loss of power.
//! - A log grows to [`MIN_LOG`] or the size of its snapshot before the next snapshot, whichever is larger.
//! - After an error of a write, [`Journal::append`] fails until a snapshot has succeeded: no change is acknowledged that the
//!   files do not have. Snapshots that fail are [`RETRY`] apart.

mod frames;
mod load;
mod snapshot;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use frames::{write_frame, write_header};
pub(crate) use load::{Loaded, load};
pub(crate) use snapshot::SnapshotFile;

/// Bytes of a log before a snapshot replaces it, if the snapshot is smaller.
const MIN_LOG: u64 = 8 << 20;
/// The time between two attempts to write a snapshot after an error.
const RETRY: Duration = Duration::from_secs(5);

/// The files cannot be written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the data directory cannot be written: {0}")]
pub struct StorageError(pub String);

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    name: &'static str,
    generation: u64,
    log: File,
    log_bytes: u64,
    /// Bytes of earlier logs that no snapshot has replaced.
    earlier_bytes: u64,
    snapshot_bytes: u64,
    is_snapshotting: bool,
    is_dirty: bool,
    /// The log has an incomplete frame: nothing can be appended.
    is_broken: bool,
    /// Why changes are refused.
    failure: Option<StorageError>,
    /// Whether there is a failure, to be read without the lock of the journal.
    is_failed: Arc<AtomicBool>,
    failures: u64,
    /// No snapshot before this time, after one that has failed.
    retry: Option<Instant>,
    /// Other processes cannot use the files until this is closed.
    lock: Option<File>,
}

fn snapshot_name(name: &str, generation: u64) -> String {
    format!("{name}-{generation}.snapshot")
}

fn log_name(name: &str, generation: u64) -> String {
    format!("{name}-{generation}.log")
}

fn create_log(folder: &Path, name: &str, generation: u64) -> io::Result<File> {
    let path = folder.join(log_name(name, generation));
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    if let Err(error) = write_header(&mut file) {
        // A later attempt creates it again.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

impl Journal {
    /// Begins the next generation of files, with the state as its snapshot: the files of earlier ones are removed.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(crate) fn start(
        folder: &Path,
        name: &'static str,
        loaded: Loaded,
        state: impl Iterator<Item = Vec<u8>>,
    ) -> io::Result<Self> {
        let Loaded { latest, lock } = loaded;
        let generation = latest + 1;
        let log = create_log(folder, name, generation)?;
        let snapshot = SnapshotFile { folder: folder.to_owned(), name, generation };
        let snapshot_bytes = snapshot.write(state)?;
        Ok(Self {
            folder: folder.to_owned(),
            name,
            generation,
            log,
            log_bytes: 0,
            earlier_bytes: 0,
            snapshot_bytes,
            is_snapshotting: false,
            is_dirty: false,
            is_broken: false,
            failure: None,
            is_failed: Arc::default(),
            failures: 0,
            retry: None,
            lock: Some(lock),
        })
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// The file cannot be written, or an earlier frame could not, and no snapshot was written since.
    pub(crate) fn append(&mut self, content: &[u8]) -> Result<(), StorageError> {
        // A snapshot that begins later has the change.
        let is_needed = self.failure.is_none() || self.is_snapshotting;
        if is_needed && !self.is_broken {
            match write_frame(content, &mut self.log) {
                Ok(bytes) => {
                    self.log_bytes += bytes;
                    self.is_dirty = true;
                }
                Err(error) => {
                    self.is_broken = true;
                    self.fail(&error);
                }
            }
        }
        self.check()
    }

    /// Whether changes are accepted.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Whether changes are refused, to be read at any time.
    pub(crate) fn is_failed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_failed)
    }

    /// The files cannot be written.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        self.failures += 1;
        if self.failure.is_none() {
            tracing::error!(%error, file = self.name, "the state of MQTT cannot be written to data_dir; messages are refused");
        }
        self.failure = Some(StorageError(error.to_string()));
        self.is_failed.store(true, Ordering::Release);
    }

    /// The log, if it has frames since the last call.
    pub(crate) fn unsynced(&mut self) -> Option<File> {
        let file = if self.is_dirty { self.log.try_clone().ok() } else { None };
        self.is_dirty &= file.is_none();
        file
    }

    /// Whether a snapshot is due: the log is long, or has failed.
    pub(crate) fn needs_snapshot(&self) -> bool {
        let is_long = self.earlier_bytes + self.log_bytes >= MIN_LOG.max(self.snapshot_bytes);
        let is_open = self.lock.is_some() && self.retry.is_none_or(|retry| retry <= Instant::now());
        is_open && !self.is_snapshotting && (is_long || self.failure.is_some())
    }

    /// Begins the next log. The caller takes the state under the same lock, and writes it to the snapshot afterwards.
    pub(crate) fn begin_snapshot(&mut self) -> Option<SnapshotFile> {
        // An attempt that has failed may have left an empty log.
        if self.log_bytes > 0 || self.is_broken {
            match create_log(&self.folder, self.name, self.generation + 1) {
                Ok(log) => self.log = log,
                Err(error) => {
                    self.fail(&error);
                    self.retry = Some(Instant::now() + RETRY);
                    return None;
                }
            }
            self.generation += 1;
            self.earlier_bytes += std::mem::take(&mut self.log_bytes);
        }
        (self.is_broken, self.is_snapshotting) = (false, true);
        let Self { folder, name, generation, .. } = &*self;
        Some(SnapshotFile { folder: folder.clone(), name, generation: *generation })
    }

    /// The snapshot is written, or has failed.
    pub(crate) fn end_snapshot(&mut self, written: io::Result<u64>) {
        self.is_snapshotting = false;
        match written {
            Ok(bytes) => {
                (self.snapshot_bytes, self.earlier_bytes, self.retry) = (bytes, 0, None);
                if !self.is_broken && self.failure.take().is_some() {
                    self.is_failed.store(false, Ordering::Release);
                    tracing::info!(file = self.name, "the state of MQTT is written to data_dir again");
                }
            }
            Err(error) => {
                self.fail(&error);
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Another process can use the files from now on: no further change is accepted.
    pub(crate) fn close(&mut self) {
        self.lock = None;
        self.is_broken = true;
        self.failure = Some(StorageError("the server has stopped".to_owned()));
        self.is_failed.store(true, Ordering::Release);
    }

    /// Bytes of the snapshot and of the logs behind it.
    pub(crate) fn bytes(&self) -> u64 {
        self.snapshot_bytes + self.earlier_bytes + self.log_bytes
    }

    /// Errors of writes so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests;
