//! The store in a bucket that all nodes share. A folder holds this node's copies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tidings_table::{Control, Writer};

use crate::bucket::{Bucket, BucketCounters, CommitOutcome, SaveOutcome};
use crate::disk::{Disk, TableFolder};
use crate::id::TableId;
use crate::listing::StoredPage;
use crate::quota::Quota;
use crate::record::Record;
use crate::{AppendError, AppendRows, Store, StoreError, read_appended};

/// The least time between two writes of a record to the bucket.
const MIN_SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// The attempts to append while other nodes append concurrently.
const MAX_ATTEMPTS: usize = 64;

/// A bucket, and the disk with copies of its tables.
///
/// Invariant: rows are appended to the copy first, and removed from it unless the bucket accepts them at the same
/// offset.
#[derive(Debug)]
pub(super) struct BucketStore {
    disk: Arc<Disk>,
    bucket: Bucket,
}

impl BucketStore {
    pub(super) const fn new(disk: Arc<Disk>, bucket: Bucket) -> Self {
        Self { disk, bucket }
    }
}

impl Store for BucketStore {
    fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    fn find(&self, id: TableId) -> Result<Option<(TableFolder, Record)>, StoreError> {
        let Some((record, version)) = self.bucket.record(id)? else { return Ok(None) };
        let table_folder = self.disk.copy(id)?;
        table_folder.set_bucket_version(version);
        table_folder.save(&record)?;
        Ok(Some((table_folder, record)))
    }

    fn min_save_interval(&self) -> Duration {
        MIN_SAVE_INTERVAL
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.bucket.lease())
    }

    fn save(&self, table_folder: &TableFolder, record: &Record) -> Result<SaveOutcome, StoreError> {
        table_folder.save(record)?;
        self.bucket.save(table_folder, record)
    }

    fn remove_record(&self, table_folder: &TableFolder) -> Result<(), StoreError> {
        self.bucket.remove_record(table_folder)?;
        Ok(table_folder.remove_record()?)
    }

    fn close_table(
        &self,
        table_folder: &TableFolder,
        record: &Record,
        left: SystemTime,
    ) -> Result<(), StoreError> {
        match table_folder.record()? {
            // The table never had a file or was deleted; or only another node has its file, and there is no copy here.
            _ if record.file.is_none() => self.disk.delete(table_folder)?,
            // Another process has written a newer record.
            Some(stored) if stored.stamp > record.stamp => table_folder.save(&stored)?,
            _ if self.save(table_folder, record)? == SaveOutcome::Deleted => {
                self.disk.delete(table_folder)?;
            }
            _ => table_folder.set_last_used(left)?,
        }
        Ok(())
    }

    fn publish(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.bucket.publish(table_folder, file)
    }

    fn prepare(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.bucket.prepare(table_folder, file)
    }

    fn catch_up(
        &self,
        table_folder: &TableFolder,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        on_progress: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), StoreError> {
        let reserve = |bytes| {
            self.reserve(bytes, Quota::unlimited(), None)?.keep();
            Ok(())
        };
        self.bucket.fetch(table_folder, file, &reserve, &mut |part| {
            writer.catch_up(control)?;
            on_progress(writer, part);
            Ok(())
        })?;
        read_appended(writer, control)
    }

    fn append(
        &self,
        table_folder: &TableFolder,
        file: &str,
        writer: &mut Writer,
        reopen: &dyn Fn() -> Result<Writer, StoreError>,
        append: AppendRows<'_>,
    ) -> Result<(), AppendError> {
        let received = |writer: &Writer| writer.table().reading().summary().received;
        let usable = |error| AppendError { error, is_writer_usable: true };
        for _ in 0..MAX_ATTEMPTS {
            let before = received(writer);
            self.bucket.begin_append(table_folder, file, before)?;
            append(writer);
            let after = received(writer);
            if after <= before {
                self.bucket.revert_append(table_folder, file, before)?;
                return Ok(());
            }
            let committed = self.bucket.commit_append(table_folder, file, before..after);
            if let Ok(CommitOutcome::Stored { needs_compaction }) = committed {
                table_folder.compact_up_to.store(if needs_compaction { after } else { 0 }, Ordering::Relaxed);
                return Ok(());
            }
            self.bucket.revert_append(table_folder, file, before)?;
            *writer = reopen()?;
            match committed {
                Ok(CommitOutcome::Stored { .. } | CommitOutcome::Conflict) => {
                    self.catch_up(table_folder, file, writer, Control::default(), &mut |_, _| {})
                        .map_err(usable)?;
                }
                Ok(CommitOutcome::FileRemoved) => return Err(usable(StoreError::NotFound)),
                Err(error) => return Err(usable(error)),
            }
        }
        Err(usable(StoreError::Conflict("append to")))
    }

    fn needs_compaction(&self, table_folder: &TableFolder) -> bool {
        table_folder.compact_up_to.load(Ordering::Relaxed) > 0
    }

    fn compact(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        let Ok(_one) = table_folder.compacting.try_lock() else { return Ok(()) };
        self.bucket.compact(table_folder, file, table_folder.compact_up_to.swap(0, Ordering::Relaxed))
    }

    fn remove_file(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.disk.remove_file(table_folder, file);
        self.bucket.remove_file(table_folder.id, file)
    }

    fn delete(&self, table_folder: &TableFolder) -> Result<(), StoreError> {
        self.bucket.delete(table_folder.id)?;
        Ok(self.disk.delete(table_folder)?)
    }

    fn shut_down(&self) {
        self.bucket.shut_down();
    }

    fn sweep(&self) -> u64 {
        self.disk.sweep();
        self.bucket.sweep()
    }

    fn page(&self, after: Option<TableId>, limit: usize) -> Result<StoredPage, StoreError> {
        self.bucket.page(after, limit)
    }

    fn stored(&self) -> (u64, u64) {
        self.bucket.stored()
    }

    fn bucket_counters(&self) -> Option<(&BucketCounters, u64)> {
        Some((&self.bucket.counters, self.disk.used_bytes()))
    }
}
