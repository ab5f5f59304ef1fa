//! What files take: reserved before it is written, by table, by requester and in all.
//!
//! Invariants:
//! - What a [`Reserved`] or a [`FileCharge`] has taken is given back when it is dropped, but for what was kept.
//! - Every byte of a requester is counted once: as incoming, as fresh, or as stored.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table::Budget;

use super::Disk;
use crate::quota::Quota;
use crate::store::StoreError;

/// What requesters have uploaded.
#[derive(Debug, Default)]
pub(super) struct RequesterBytes {
    /// Of tables, as last counted and with what was appended since.
    pub(super) stored: HashMap<Arc<str>, u64>,
    /// Of complete files that no record names yet, by their names.
    pub(super) fresh: HashMap<String, (Arc<str>, u64)>,
    /// Of incoming files.
    incoming: HashMap<Arc<str>, u64>,
}

impl RequesterBytes {
    pub(super) fn of(&self, key: &str) -> u64 {
        let of = |bytes: &HashMap<Arc<str>, u64>| bytes.get(key).copied().unwrap_or(0);
        let fresh = self.fresh.values().filter(|(owner, _)| &**owner == key).map(|(_, bytes)| bytes);
        of(&self.stored) + of(&self.incoming) + fresh.sum::<u64>()
    }

    fn leave(&mut self, key: &str, bytes: u64) {
        if let Some(incoming) = self.incoming.get_mut(key) {
            *incoming = incoming.saturating_sub(bytes);
            if *incoming == 0 {
                self.incoming.remove(key);
            }
        }
    }
}

/// What one file of a table takes besides the bytes under its name. Every reader of the file holds it.
#[derive(Debug)]
pub(crate) struct FileCharge {
    pub(super) disk: Arc<Disk>,
    /// The bytes of the file, once it has been removed.
    pub(super) removed: AtomicU64,
}

impl Budget for FileCharge {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.disk.nameless.fetch_add(bytes, Ordering::Relaxed);
        if self.disk.has_room("") {
            return Ok(());
        }
        self.release(bytes);
        self.disk.refused[0].fetch_add(1, Ordering::Relaxed);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, self.disk.full()))
    }

    fn release(&self, bytes: u64) {
        subtract(&self.disk.nameless, bytes);
    }
}

impl Drop for FileCharge {
    fn drop(&mut self) {
        let removed = *self.removed.get_mut();
        self.release(removed);
    }
}

/// Bytes that are taken for a file; given back when this is dropped, unless they are [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(super) disk: Arc<Disk>,
    pub(super) bytes: u64,
    pub(super) quota: Quota,
    /// The file, while no record names it.
    pub(super) file: Option<String>,
}

impl Reserved {
    /// Reserves more bytes.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes == 0 {
            return Ok(());
        }
        let (disk, quota) = (&self.disk, &self.quota);
        if !quota.key.is_empty() {
            *disk.owned().incoming.entry(Arc::clone(&quota.key)).or_default() += bytes;
            if !disk.is_within(quota) {
                disk.owned().leave(&quota.key, bytes);
                disk.refused[1].fetch_add(1, Ordering::Relaxed);
                let (limit, option) = (quota.bytes, quota.bytes_option);
                return Err(StoreError::Full(format!(
                    "your tables together may have {limit} bytes ({option}), and those left are in use"
                )));
            }
        }
        disk.used.fetch_add(bytes, Ordering::Relaxed);
        if !disk.has_room(&quota.key) {
            disk.release(bytes);
            disk.owned().leave(&quota.key, bytes);
            disk.refused[0].fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Full(disk.full()));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// The file stays.
    pub(crate) fn keep(self) {
        let bytes = self.bytes;
        self.keep_only(bytes);
    }

    /// The file stays, and has grown by these bytes.
    pub(crate) fn keep_only(mut self, bytes: u64) {
        let kept = bytes.min(self.bytes);
        self.bytes -= kept;
        if !self.quota.key.is_empty() {
            let mut owned = self.disk.owned();
            owned.leave(&self.quota.key, kept);
            let key = Arc::clone(&self.quota.key);
            match self.file.take() {
                Some(file) => drop(owned.fresh.insert(file, (key, kept))),
                None => *owned.stored.entry(key).or_default() += kept,
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.disk.release(self.bytes);
        self.disk.owned().leave(&self.quota.key, self.bytes);
    }
}

pub(super) fn subtract(counter: &AtomicU64, bytes: u64) {
    let less = |count: u64| Some(count.saturating_sub(bytes));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}
