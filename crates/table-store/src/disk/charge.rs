//! Accounting of disk space: bytes are reserved before they are written, in total and by requester.
//!
//! Invariants:
//! - Dropping a [`Reserved`] or a [`FileCharge`] releases its bytes, except those that were kept.
//! - Every byte of a requester is counted in one state: incoming, fresh, or stored.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table::Budget;

use super::{Disk, ExceededLimit};
use crate::StoreError;
use crate::quota::Quota;

/// Bytes by requester.
#[derive(Debug, Default)]
pub(super) struct RequesterBytes {
    /// Of stored tables: the last count plus later appends.
    pub(super) stored: HashMap<Arc<str>, u64>,
    /// Of complete files that no record names yet, by file name.
    pub(super) fresh: HashMap<String, (Arc<str>, u64)>,
    /// Of running uploads.
    incoming: HashMap<Arc<str>, u64>,
}

impl RequesterBytes {
    pub(super) fn total(&self, key: &str) -> u64 {
        let of = |bytes: &HashMap<Arc<str>, u64>| bytes.get(key).copied().unwrap_or(0);
        let fresh = self.fresh.values().filter(|(owner, _)| &**owner == key).map(|(_, bytes)| bytes);
        of(&self.stored) + of(&self.incoming) + fresh.sum::<u64>()
    }

    fn release_incoming(&mut self, key: &str, bytes: u64) {
        if let Some(incoming) = self.incoming.get_mut(key) {
            *incoming = incoming.saturating_sub(bytes);
            if *incoming == 0 {
                self.incoming.remove(key);
            }
        }
    }
}

/// The disk space of one file besides its own bytes. Shared by all its readers and its writer.
#[derive(Debug)]
pub struct FileCharge {
    pub(super) disk: Arc<Disk>,
    /// The bytes of the file after its removal, while it is read.
    pub(super) removed: AtomicU64,
}

impl Budget for FileCharge {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.disk.unlinked.fetch_add(bytes, Ordering::Relaxed);
        if self.disk.has_room("") {
            return Ok(());
        }
        self.release(bytes);
        self.disk.refused.add(ExceededLimit::Total);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, self.disk.limit_message()))
    }

    fn release(&self, bytes: u64) {
        subtract(&self.disk.unlinked, bytes);
    }
}

impl Drop for FileCharge {
    fn drop(&mut self) {
        let removed = *self.removed.get_mut();
        self.release(removed);
    }
}

/// Reserved bytes of a file. Released on drop unless they are [kept](Self::keep).
#[derive(Debug)]
pub struct Reserved {
    pub(super) disk: Arc<Disk>,
    pub(super) bytes: u64,
    pub(super) quota: Quota,
    /// The name of a new file, until a record names it.
    pub(super) file: Option<String>,
}

impl Reserved {
    /// Reserves additional bytes.
    pub fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes == 0 {
            return Ok(());
        }
        let (disk, quota) = (&self.disk, &self.quota);
        if !quota.key.is_empty() {
            *disk.requesters().incoming.entry(Arc::clone(&quota.key)).or_default() += bytes;
            if !disk.is_within(quota) {
                disk.requesters().release_incoming(&quota.key, bytes);
                disk.refused.add(ExceededLimit::Quota);
                let (limit, option) = (quota.bytes, quota.bytes_option);
                return Err(StoreError::Full(format!(
                    "your tables may have {limit} bytes in total ({option}), and the remaining ones are in use"
                )));
            }
        }
        disk.used.fetch_add(bytes, Ordering::Relaxed);
        if !disk.has_room(&quota.key) {
            disk.release(bytes);
            disk.requesters().release_incoming(&quota.key, bytes);
            disk.refused.add(ExceededLimit::Total);
            return Err(StoreError::Full(disk.limit_message()));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Keeps all reserved bytes: the file was written.
    pub fn keep(self) {
        let bytes = self.bytes;
        self.keep_only(bytes);
    }

    /// As [`Self::keep`], of bytes without a quota.
    pub(super) const fn keep_all(&mut self) {
        self.bytes = 0;
    }

    /// Keeps `bytes` and releases the rest: the file has grown by this much.
    pub fn keep_only(mut self, bytes: u64) {
        let kept = bytes.min(self.bytes);
        self.bytes -= kept;
        if !self.quota.key.is_empty() {
            let mut requesters = self.disk.requesters();
            requesters.release_incoming(&self.quota.key, kept);
            let key = Arc::clone(&self.quota.key);
            match self.file.take() {
                Some(file) => drop(requesters.fresh.insert(file, (key, kept))),
                None => *requesters.stored.entry(key).or_default() += kept,
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.disk.release(self.bytes);
        self.disk.requesters().release_incoming(&self.quota.key, self.bytes);
    }
}

pub(super) fn subtract(counter: &AtomicU64, bytes: u64) {
    let less = |count: u64| Some(count.saturating_sub(bytes));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}
