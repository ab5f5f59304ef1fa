//! Tables in a bucket, which all nodes share. A folder holds this node's copies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tidings_table::{Control, Writer};

use super::bucket::{Bucket, BucketCounters, CommitOutcome, Saved};
use super::disk::{Disk, TableFolder};
use super::{AppendError, AppendRows, Store, StoreError, read_appended};
use crate::id::TableId;
use crate::quota::Quota;
use crate::record::Record;

/// The least time between two writes of one record to the bucket.
const PACE: Duration = Duration::from_secs(1);
/// How often an append is tried again when rows of other nodes came first.
const TRIES: usize = 64;

/// A bucket, and the disk with copies of its tables.
///
/// Invariant: rows are appended to the copy first and taken back unless the bucket accepts them at the same place.
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
        let place = self.disk.copy(id)?;
        place.saw(version);
        place.save(&record)?;
        Ok(Some((place, record)))
    }

    fn pace(&self) -> Duration {
        PACE
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.bucket.lease())
    }

    fn save(&self, place: &TableFolder, record: &Record) -> Result<Saved, StoreError> {
        place.save(record)?;
        self.bucket.save(place, record)
    }

    fn forget(&self, place: &TableFolder) -> Result<(), StoreError> {
        self.bucket.forget(place)?;
        Ok(place.forget()?)
    }

    fn put_away(&self, place: &TableFolder, record: &Record, left: SystemTime) -> Result<(), StoreError> {
        match place.record()? {
            // There never was a file, or the table is deleted; or only another node has one so far, and there is no copy.
            _ if record.file.is_none() => self.disk.delete(place)?,
            // Another process wrote a newer record.
            Some(stored) if stored.stamp > record.stamp => place.save(&stored)?,
            _ if self.save(place, record)? == Saved::Gone => self.disk.delete(place)?,
            _ => place.used(left)?,
        }
        Ok(())
    }

    fn publish(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.bucket.publish(place, file)
    }

    fn prepare(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.bucket.prepare(place, file)
    }

    fn catch_up(
        &self,
        place: &TableFolder,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        grown: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), StoreError> {
        let reserve = |bytes| {
            self.reserve(bytes, Quota::unlimited(), None)?.keep();
            Ok(())
        };
        self.bucket.fetch(place, file, &reserve, &mut |part| {
            writer.catch_up(control)?;
            grown(writer, part);
            Ok(())
        })?;
        read_appended(writer, control)
    }

    fn append(
        &self,
        place: &TableFolder,
        file: &str,
        writer: &mut Writer,
        reopen: &dyn Fn() -> Result<Writer, StoreError>,
        append: AppendRows<'_>,
    ) -> Result<(), AppendError> {
        let received = |writer: &Writer| writer.table().reading().summary().received;
        let usable = |error| AppendError { error, is_writer_usable: true };
        for _ in 0..TRIES {
            let before = received(writer);
            self.bucket.begin(place, file, before)?;
            append(writer);
            let after = received(writer);
            if after <= before {
                self.bucket.take_back(place, file, before)?;
                return Ok(());
            }
            let committed = self.bucket.commit(place, file, before..after);
            if let Ok(CommitOutcome::Kept { many }) = committed {
                place.to_join.store(if many { after } else { 0 }, Ordering::Relaxed);
                return Ok(());
            }
            self.bucket.take_back(place, file, before)?;
            *writer = reopen()?;
            match committed {
                Ok(CommitOutcome::Kept { .. } | CommitOutcome::Conflict) => {
                    self.catch_up(place, file, writer, Control::default(), &mut |_, _| {}).map_err(usable)?;
                }
                Ok(CommitOutcome::Gone) => return Err(usable(StoreError::NotFound)),
                Err(error) => return Err(usable(error)),
            }
        }
        Err(usable(StoreError::Conflict("append to")))
    }

    fn is_to_join(&self, place: &TableFolder) -> bool {
        place.to_join.load(Ordering::Relaxed) > 0
    }

    fn join(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        let Ok(_one) = place.joining.try_lock() else { return Ok(()) };
        self.bucket.join(place, file, place.to_join.swap(0, Ordering::Relaxed))
    }

    fn remove_file(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.disk.remove_file(place, file);
        self.bucket.remove_file(place.id, file)
    }

    fn delete(&self, place: &TableFolder) -> Result<(), StoreError> {
        self.bucket.delete(place.id)?;
        Ok(self.disk.delete(place)?)
    }

    fn close(&self) {
        self.bucket.close();
    }

    fn sweep(&self) -> u64 {
        self.disk.sweep();
        self.bucket.sweep()
    }

    fn stored(&self) -> (u64, u64) {
        self.bucket.stored()
    }

    fn numbers(&self) -> Option<(&BucketCounters, u64)> {
        Some((&self.bucket.numbers, self.disk.used()))
    }
}
