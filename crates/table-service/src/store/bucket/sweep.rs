//! Removal from the bucket: unused tables, tables that make room for others, and left-overs.
//!
//! Every node counts and sweeps now and then; two that do so at once remove the same. When a table was used is when its
//! record was written: a node that has it open writes it again every [`Bucket::lease`]. The clocks of the nodes and of the store
//! are taken for the same, give or take a fraction of `tables.keep`.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::{Bucket, ORPHAN, RECORD};
use crate::id::TableId;
use crate::store::StoreError;
use crate::store::disk::TABLE;

/// How often all tables are counted: a request for each thousand objects.
const EVERY: Duration = Duration::from_secs(600);
/// How often it is seen whether the bucket answers.
const PULSE: Duration = Duration::from_secs(50);

/// When that was done last.
#[derive(Debug, Default)]
pub(super) struct SweepTimes {
    counted: Option<Instant>,
    felt: Option<Instant>,
}

/// A table, by its objects.
#[derive(Debug, Default)]
struct StoredTable {
    bytes: u64,
    /// When its record was written.
    used: Option<SystemTime>,
    /// When the newest of its objects was written.
    written: Option<SystemTime>,
    /// Its files, and when the newest object of each was written.
    files: HashMap<String, SystemTime>,
}

impl Bucket {
    /// Checks that the bucket responds, and removes expired tables, each when it is due. Returns the number of tables that were
    /// removed.
    pub(in crate::store) fn sweep(&self) -> u64 {
        if self.is_fit.get().is_none() {
            self.try_conditions();
        }
        let now = Instant::now();
        let every = (self.keep / 4).min(EVERY);
        let is_due = |last: Option<Instant>, every| last.is_none_or(|last| now - last >= every);
        let mut times = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(times.counted, every) {
            times.counted = Some(now);
            times.felt = Some(now);
            drop(times);
            self.abort_unfinished();
            // A little apart, so that nodes that were started together do not all count at once.
            let later = every.mul_f64(fastrand::f64() / 4.0);
            let swept = self.clean(0).unwrap_or_default();
            let mut times = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
            times.counted = Some(now + later);
            return swept;
        }
        if is_due(times.felt, PULSE) {
            times.felt = Some(now);
            drop(times);
            match self.wait(self.s3.head(&self.pulse())) {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => drop(self.failed("feeling the pulse of the store", &error)),
            }
        }
        0
    }

    /// An object of no table, which is always there.
    fn pulse(&self) -> Path {
        Path::from(format!("{}pulse", self.prefix))
    }

    /// Sees whether the store keeps to conditions of writes, on an object of no table.
    fn try_conditions(&self) {
        let path = self.pulse();
        let put =
            |mode: PutMode| self.s3.put_opts(&path, PutPayload::from("tidings"), PutOptions::from(mode));
        let other = UpdateVersion { e_tag: Some("\"0\"".to_owned()), version: None };
        let keeps_to = self.wait(async {
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
            Ok(is_fit) => drop(self.is_fit.set(is_fit)),
            Err(error) => drop(self.failed("trying whether the store keeps to conditions of writes", &error)),
        }
        if let Err(error) = self.check_fit() {
            tracing::error!(store = self.name, "{error}");
        }
    }

    /// Reserves bytes for a file, and removes unused tables where there is no room.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is none.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        if !self.is_counted.load(Ordering::Relaxed) {
            // The objects of other nodes are not counted yet.
            self.clean(bytes)?;
        }
        let after = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if after <= self.max_total {
            return Ok(());
        }
        self.release(bytes);
        self.clean(bytes)?;
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max_total {
            return Ok(());
        }
        self.release(bytes);
        let limit = self.max_total;
        Err(StoreError::Full(format!("all tables together may have {limit} bytes (tables.max_total)")))
    }

    /// Counts all tables, removes the expired ones, and then the least recently used ones until `bytes` more fit.
    fn clean(&self, bytes: u64) -> Result<u64, StoreError> {
        let mut found = self.wait(self.found())?;
        let now = SystemTime::now();
        let ago = |when: Option<SystemTime>| {
            when.map_or(Duration::ZERO, |when| now.duration_since(when).unwrap_or_default())
        };
        let mut removed = 0;
        let mut over: Vec<TableId> = Vec::new();
        for (id, table) in &found {
            let is_over = match table.used {
                Some(_) => ago(table.used) >= self.keep,
                None => ago(table.written) >= ORPHAN,
            };
            if is_over && (table.used.is_none() || self.is_still(*id, table.used)) {
                over.push(*id);
            } else if table.files.len() > 1 {
                self.tidy(*id, table, now)?;
            }
        }
        for id in over {
            self.delete(id)?;
            let was_table = found.remove(&id).is_some_and(|table| table.used.is_some());
            if was_table {
                tracing::info!(table = %id, "a table was not used for tables.keep and is removed");
                removed += 1;
            }
        }
        let mut used: u64 = found.values().map(|table| table.bytes + TABLE).sum();
        let mut unused: Vec<_> =
            found.iter().filter(|(_, table)| ago(table.used) >= 2 * self.lease()).collect();
        unused.sort_by_key(|(_, table)| table.used);
        for (id, table) in unused {
            if used + bytes <= self.max_total {
                break;
            }
            if table.used.is_some() && self.is_still(*id, table.used) {
                self.delete(*id)?;
                tracing::info!(table = %id, bytes = table.bytes, "a table made room for another (tables.max_total)");
                used -= table.bytes + TABLE;
                removed += 1;
            }
        }
        let tables = found.values().filter(|table| table.used.is_some()).count() as u64;
        self.used.store(used, Ordering::Relaxed);
        self.is_counted.store(true, Ordering::Relaxed);
        self.tables.store(tables.saturating_sub(removed), Ordering::Relaxed);
        Ok(removed)
    }

    /// Whether a table was not used since it was listed.
    fn is_still(&self, id: TableId, used: Option<SystemTime>) -> bool {
        let head = self.wait(self.s3.head(&self.path(id, RECORD)));
        head.is_ok_and(|head| Some(head.last_modified.into()) == used)
    }

    /// Removes files that the record does not name.
    fn tidy(&self, id: TableId, table: &StoredTable, now: SystemTime) -> Result<(), StoreError> {
        let Some((record, _)) = self.record(id)? else { return Ok(()) };
        for (file, written) in &table.files {
            let is_old = now.duration_since(*written).is_ok_and(|ago| ago >= ORPHAN);
            if is_old && record.file.as_ref() != Some(file) {
                self.remove_file(id, file)?;
            }
        }
        Ok(())
    }

    async fn found(&self) -> Result<HashMap<TableId, StoredTable>, StoreError> {
        let mut found: HashMap<TableId, StoredTable> = HashMap::new();
        let prefix = Path::from(&*self.prefix);
        let mut objects = self.s3.list(Some(&prefix));
        loop {
            let object = objects.try_next().await;
            let Some(object) = object.map_err(|error| self.failed("listing tables", &error))? else { break };
            // Whatever else lies there is left alone.
            let Some(rest) = object.location.as_ref().strip_prefix(&self.prefix) else { continue };
            let Some((id, rest)) = rest.split_once('/') else { continue };
            let Ok(id) = id.parse::<TableId>() else { continue };
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
