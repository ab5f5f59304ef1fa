//! Eviction: tables that make room for others, and tables that were not used for `tables.keep`.
//!
//! Invariant: a table that a process has open is never removed here; its folder is locked.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::folder::{RECORD, last_used, lock_alone, read_record, remove, size, size_within, tidy};
use super::{Disk, TABLE};
use crate::quota::Quota;
use crate::record::Record;

impl Disk {
    /// Whether everything is within the bound, once tables that are not in use have been evicted.
    /// The tables of the requester `own` go first.
    pub(super) fn has_room(&self, own: &str) -> bool {
        self.make_room(|| self.total().saturating_sub(self.max_total), own, false)
    }

    /// Whether a requester is within its quota, once tables of its that are not in use have been evicted.
    pub(super) fn is_within(&self, quota: &Quota) -> bool {
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

    /// Removes what is left over and tables that nobody has used for `tables.keep`, and counts what is there. Gives
    /// how many tables were removed.
    pub(in crate::store) fn sweep(&self) -> u64 {
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
}
