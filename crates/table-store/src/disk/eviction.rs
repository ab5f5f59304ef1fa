//! Eviction of tables: for space, and after `tables.keep` without use.
//!
//! Invariant: a table that a process has open is never evicted; its folder is locked.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::folder::{RECORD, last_used, lock_alone, read_record, remove, remove_orphans, size, size_within};
use super::{Disk, TABLE_OVERHEAD};
use crate::quota::Quota;
use crate::record::Record;

impl Disk {
    /// Whether the total is within the limit, after evicting unused tables if necessary. Tables of the requester `own`
    /// are evicted first.
    pub(super) fn has_room(&self, own: &str) -> bool {
        self.make_room(|| self.total().saturating_sub(self.max_total), own, false)
    }

    /// Whether a requester is within its quota, after evicting its unused tables if necessary.
    pub(super) fn is_within(&self, quota: &Quota) -> bool {
        let excess = || self.requesters().total(&quota.key).saturating_sub(quota.bytes);
        if excess() == 0 {
            return true;
        }
        // Files that were replaced since the last count do not belong to the requester any more.
        self.count_requesters();
        let recounted = || {
            self.count_requesters();
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

    /// Removes left-over files and tables that were not used for `tables.keep`, and counts the remaining ones. Returns
    /// the number of removed tables.
    pub(crate) fn sweep(&self) -> u64 {
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
                            tracing::info!(table = %id, "a table was removed: it was not used for tables.keep");
                            removed += 1;
                        }
                        Ok(()) => {}
                        Err(error) => tracing::warn!(%error, table = %id, "a table cannot be removed"),
                    }
                    continue;
                }
                if let Err(error) = remove_orphans(&folder) {
                    tracing::warn!(%error, table = %id, "left-over files in the folder of a table cannot be removed");
                }
                drop(lock);
            }
            tables += 1;
            used += size(&folder);
        }
        self.used.store(used, Ordering::Relaxed);
        self.tables.store(tables, Ordering::Relaxed);
        self.count_requesters();
        removed
    }

    /// Evicts unused tables until `excess` bytes are released, if possible: first those of the requester `own`, then
    /// the others, the least recently used first.
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
                    tracing::info!(table = %id, bytes, "a table was removed to make room for another one (tables.max_total)");
                    freed += bytes;
                    self.release(bytes);
                    self.decrement_tables();
                }
                Err(error) => tracing::warn!(%error, table = %id, "a table cannot be removed"),
            }
        }
    }

    /// Counts the bytes of requesters from the records.
    fn count_requesters(&self) {
        let (mut stored, mut recorded): (HashMap<Arc<str>, u64>, _) = (HashMap::new(), Vec::new());
        for (_, folder) in self.folders() {
            let Ok(Record { uploader, file: Some(file), .. }) = read_record(&folder) else { continue };
            if !uploader.is_empty() {
                *stored.entry(uploader.into()).or_default() +=
                    TABLE_OVERHEAD + size_within(&folder.join(&file));
                recorded.push(file);
            }
        }
        let mut requesters = self.requesters();
        requesters.stored = stored;
        for file in recorded {
            requesters.fresh.remove(&file);
        }
    }
}
