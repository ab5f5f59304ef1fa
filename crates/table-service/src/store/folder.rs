//! Tables in a folder, which several nodes may share.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tidings_table::{Control, ORIGINAL, Writer};

use super::bucket::Saved;
use super::disk::{Disk, TableFolder};
use super::{AppendError, AppendRows, Store, StoreError, read_appended};
use crate::id::TableId;
use crate::record::Record;

/// The disk is the store: what is written there is visible to all nodes at once.
///
/// Invariant: a process writes to a file only while it holds the lock on it.
#[derive(Debug)]
pub(super) struct FolderStore {
    disk: Arc<Disk>,
}

impl FolderStore {
    pub(super) const fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }
}

impl Store for FolderStore {
    fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    fn find(&self, id: TableId) -> Result<Option<(TableFolder, Record)>, StoreError> {
        Ok(self.disk.find(id)?)
    }

    fn save(&self, place: &TableFolder, record: &Record) -> Result<Saved, StoreError> {
        place.save(record)?;
        Ok(Saved::Kept)
    }

    fn forget(&self, place: &TableFolder) -> Result<(), StoreError> {
        Ok(place.forget()?)
    }

    fn put_away(&self, place: &TableFolder, record: &Record, left: SystemTime) -> Result<(), StoreError> {
        match place.record()? {
            // There never was a file, or the table is deleted.
            None => self.disk.delete(place)?,
            // Another process wrote a newer record.
            Some(stored) if stored.stamp > record.stamp => place.save(&stored)?,
            Some(_) if record.file.is_none() => {}
            Some(_) => {
                place.save(record)?;
                place.used(left)?;
            }
        }
        Ok(())
    }

    fn publish(&self, _place: &TableFolder, _file: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn prepare(&self, _place: &TableFolder, _file: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn catch_up(
        &self,
        place: &TableFolder,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        _grown: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), StoreError> {
        // A process that is writing completes first, or takes back what it could not write completely.
        let _lock = lock(&place.file(file))?;
        read_appended(writer, control)
    }

    fn append(
        &self,
        place: &TableFolder,
        file: &str,
        writer: &mut Writer,
        _reopen: &dyn Fn() -> Result<Writer, StoreError>,
        append: AppendRows<'_>,
    ) -> Result<(), AppendError> {
        let _lock = lock(&place.file(file))?;
        read_appended(writer, Control::default())?;
        append(writer);
        Ok(())
    }

    fn remove_file(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.disk.remove_file(place, file);
        Ok(())
    }

    fn delete(&self, place: &TableFolder) -> Result<(), StoreError> {
        Ok(self.disk.delete(place)?)
    }

    fn sweep(&self) -> u64 {
        self.disk.sweep()
    }

    fn stored(&self) -> (u64, u64) {
        (self.disk.tables(), self.disk.used())
    }
}

/// Locks the file in this folder against writers of other processes.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder.join(ORIGINAL))?;
    file.lock()?;
    Ok(file)
}
