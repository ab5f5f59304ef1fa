//! Removal from the bucket: unused tables, tables that make room for other ones, and orphaned objects.
//!
//! Every node counts and sweeps periodically; concurrent sweeps of several nodes remove the same objects. The last use
//! of a table is the time at which its record was written: a node that has the table open rewrites it every
//! [`Bucket::lease`]. The clocks of the nodes and of the store may differ by a fraction of `tables.keep`.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::{Bucket, ORPHAN_AGE, RECORD};
use crate::StoreError;
use crate::disk::TABLE_OVERHEAD;
use crate::id::TableId;

/// The interval of counting all tables, which takes one request per thousand objects.
const COUNT_INTERVAL: Duration = Duration::from_secs(600);
/// The interval of health checks of the bucket.
const PROBE_INTERVAL: Duration = Duration::from_secs(50);

/// The times of the last count and the last health check.
#[derive(Debug, Default)]
pub(super) struct SweepTimes {
    counted: Option<Instant>,
    probed: Option<Instant>,
}

/// A table in the bucket, by its objects.
#[derive(Debug, Default)]
struct StoredTable {
    bytes: u64,
    /// The time at which its record was written.
    used: Option<SystemTime>,
    /// The time at which its newest object was written.
    written: Option<SystemTime>,
    /// Its files, with the time at which the newest object of each was written.
    files: HashMap<String, SystemTime>,
}

impl Bucket {
    /// Checks the health of the bucket and removes expired tables, each when it is due. Returns the number of removed
    /// tables.
    pub(crate) fn sweep(&self) -> u64 {
        if self.has_conditional_writes.get().is_none() {
            self.test_conditional_writes();
        }
        let now = Instant::now();
        let every = (self.keep / 4).min(COUNT_INTERVAL);
        let is_due = |last: Option<Instant>, every| last.is_none_or(|last| now - last >= every);
        let mut times = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(times.counted, every) {
            times.counted = Some(now);
            times.probed = Some(now);
            drop(times);
            self.abort_unaborted();
            // A random offset, so that nodes that were started together do not count at the same time.
            let later = every.mul_f64(fastrand::f64() / 4.0);
            let swept = self.count_and_evict(0).unwrap_or_default();
            let mut times = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
            times.counted = Some(now + later);
            return swept;
        }
        if is_due(times.probed, PROBE_INTERVAL) {
            times.probed = Some(now);
            drop(times);
            match self.block_on(self.s3.head(&self.probe_path())) {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => drop(self.unavailable("checking the store", &error)),
            }
        }
        0
    }

    /// An object outside of all tables, for health checks.
    fn probe_path(&self) -> Path {
        Path::from(format!("{}pulse", self.prefix))
    }

    /// Tests with that object whether the store supports conditional writes.
    fn test_conditional_writes(&self) {
        let path = self.probe_path();
        let put =
            |mode: PutMode| self.s3.put_opts(&path, PutPayload::from("tidings"), PutOptions::from(mode));
        let other = UpdateVersion { e_tag: Some("\"0\"".to_owned()), version: None };
        let keeps_to = self.block_on(async {
            match put(PutMode::Create).await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
            for mode in [PutMode::Create, PutMode::Update(other)] {
                match put(mode).await {
                    Ok(_) => return Ok(false),
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        });
        match keeps_to {
            Ok(has_conditional_writes) => drop(self.has_conditional_writes.set(has_conditional_writes)),
            Err(error) => drop(self.unavailable("testing conditional writes of the store", &error)),
        }
        if let Err(error) = self.check_conditional_writes() {
            tracing::error!(store = self.name, "{error}");
        }
    }

    /// Reserves bytes for a file, and removes unused tables if there is no room.
    ///
    /// # Errors
    /// [`StoreError::Full`] when removing unused tables is not enough.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        if !self.is_counted.load(Ordering::Relaxed) {
            // The objects of other nodes are not counted yet.
            self.count_and_evict(bytes)?;
        }
        let after = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if after <= self.max_total {
            return Ok(());
        }
        self.release(bytes);
        self.count_and_evict(bytes)?;
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max_total {
            return Ok(());
        }
        self.release(bytes);
        let limit = self.max_total;
        Err(StoreError::Full(format!("all tables together may have {limit} bytes (tables.max_total)")))
    }

    /// Counts all tables, removes the expired ones, and then the least recently used ones until `bytes` more fit.
    fn count_and_evict(&self, bytes: u64) -> Result<u64, StoreError> {
        let mut found = self.block_on(self.list_tables())?;
        let now = SystemTime::now();
        let ago = |when: Option<SystemTime>| {
            when.map_or(Duration::ZERO, |when| now.duration_since(when).unwrap_or_default())
        };
        let mut removed = 0;
        let mut over: Vec<TableId> = Vec::new();
        for (id, table) in &found {
            let is_over = match table.used {
                Some(_) => ago(table.used) >= self.keep,
                None => ago(table.written) >= ORPHAN_AGE,
            };
            if is_over && (table.used.is_none() || self.is_unchanged(*id, table.used)) {
                over.push(*id);
            } else if table.files.len() > 1 {
                self.remove_orphans(*id, table, now)?;
            }
        }
        for id in over {
            self.delete(id)?;
            let was_table = found.remove(&id).is_some_and(|table| table.used.is_some());
            if was_table {
                tracing::info!(table = %id, "a table was removed: it was not used for tables.keep");
                removed += 1;
            }
        }
        let mut used: u64 = found.values().map(|table| table.bytes + TABLE_OVERHEAD).sum();
        let mut unused: Vec<_> =
            found.iter().filter(|(_, table)| ago(table.used) >= 2 * self.lease()).collect();
        unused.sort_by_key(|(_, table)| table.used);
        for (id, table) in unused {
            if used + bytes <= self.max_total {
                break;
            }
            if table.used.is_some() && self.is_unchanged(*id, table.used) {
                self.delete(*id)?;
                tracing::info!(table = %id, bytes = table.bytes, "a table was removed to make room for another one (tables.max_total)");
                used -= table.bytes + TABLE_OVERHEAD;
                removed += 1;
            }
        }
        let tables = found.values().filter(|table| table.used.is_some()).count() as u64;
        self.used.store(used, Ordering::Relaxed);
        self.is_counted.store(true, Ordering::Relaxed);
        self.tables.store(tables.saturating_sub(removed), Ordering::Relaxed);
        Ok(removed)
    }

    /// Whether the record was not written since the listing.
    fn is_unchanged(&self, id: TableId, used: Option<SystemTime>) -> bool {
        let head = self.block_on(self.s3.head(&self.path(id, RECORD)));
        head.is_ok_and(|head| Some(head.last_modified.into()) == used)
    }

    /// Removes files that the record does not name.
    fn remove_orphans(&self, id: TableId, table: &StoredTable, now: SystemTime) -> Result<(), StoreError> {
        let Some((record, _)) = self.record(id)? else { return Ok(()) };
        for (file, written) in &table.files {
            let is_old = now.duration_since(*written).is_ok_and(|ago| ago >= ORPHAN_AGE);
            if is_old && !record.names(file) {
                self.remove_file(id, file)?;
            }
        }
        Ok(())
    }

    async fn list_tables(&self) -> Result<HashMap<TableId, StoredTable>, StoreError> {
        let mut found: HashMap<TableId, StoredTable> = HashMap::new();
        let prefix = Path::from(&*self.prefix);
        let mut objects = self.s3.list(Some(&prefix));
        loop {
            let object = objects.try_next().await;
            let Some(object) = object.map_err(|error| self.unavailable("listing tables", &error))? else {
                break;
            };
            let Some((id, rest)) = self.object_of_table(&object.location) else { continue };
            let written = SystemTime::from(object.last_modified);
            let table = found.entry(id).or_default();
            table.bytes += object.size;
            table.written = table.written.max(Some(written));
            if rest == RECORD {
                table.used = Some(written);
            } else if let Some((file, _)) = rest.split_once('/') {
                let newest = table.files.entry(file.to_owned()).or_insert(written);
                *newest = written.max(*newest);
            }
        }
        Ok(found)
    }
}
