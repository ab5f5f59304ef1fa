//! The store in a folder, which several nodes may share.

use std::sync::Arc;
use std::time::SystemTime;

use tidings_table::{Control, Writer};

use crate::bucket::SaveOutcome;
use crate::disk::{Disk, NewLog, TableFolder, lock_file};
use crate::id::TableId;
use crate::listing::StoredPage;
use crate::record::Record;
use crate::{AppendError, AppendRows, CompleteLog, Store, StoreError, read_appended};

/// The disk is the store: written files are visible to all nodes at once.
///
/// Invariant: a process writes to a file, or replaces it, only while it holds the file's lock.
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

    fn save(&self, table_folder: &TableFolder, record: &Record) -> Result<SaveOutcome, StoreError> {
        table_folder.save(record)?;
        Ok(SaveOutcome::Stored)
    }

    fn remove_record(&self, table_folder: &TableFolder) -> Result<(), StoreError> {
        Ok(table_folder.remove_record()?)
    }

    fn close_table(
        &self,
        table_folder: &TableFolder,
        record: &Record,
        left: SystemTime,
    ) -> Result<(), StoreError> {
        match table_folder.record()? {
            // The table never had a file, or was deleted.
            None => self.disk.delete(table_folder)?,
            // Another process has written a newer record.
            Some(stored) if stored.stamp > record.stamp => table_folder.save(&stored)?,
            Some(_) if record.file.is_none() => {}
            Some(_) => {
                table_folder.save(record)?;
                table_folder.set_last_used(left)?;
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
        table_folder: &TableFolder,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        _grown: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), StoreError> {
        // Waits for a process that is writing, which completes its rows or removes incomplete ones.
        let _lock = lock_file(&table_folder.file(file))?;
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
        let _lock = lock_file(&table_folder.file(file))?;
        // Another process has compacted the file.
        if writer.is_replaced()? {
            *writer = reopen()?;
        }
        read_appended(writer, Control::default())?;
        append(writer);
        Ok(())
    }

    fn compacts_logs(&self) -> bool {
        true
    }

    fn create_log(&self, table_folder: &TableFolder, file: &str) -> Result<Option<NewLog>, StoreError> {
        self.disk.create_log(table_folder, file)
    }

    fn replace_log(
        &self,
        table_folder: &TableFolder,
        (file, uploader): (&str, &str),
        writer: &mut Writer,
        mut new: NewLog,
        complete: CompleteLog<'_>,
    ) -> Result<(u64, u64), StoreError> {
        let _lock = lock_file(&table_folder.file(file))?;
        if writer.is_replaced()? {
            return Err(StoreError::Conflict("compact"));
        }
        read_appended(writer, Control::default())?;
        complete(writer, &mut new)?;
        Ok(self.disk.replace_log(table_folder, file, uploader, new)?)
    }

    fn remove_file(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.disk.remove_file(table_folder, file);
        Ok(())
    }

    fn delete(&self, table_folder: &TableFolder) -> Result<(), StoreError> {
        Ok(self.disk.delete(table_folder)?)
    }

    fn sweep(&self) -> u64 {
        self.disk.sweep()
    }

    fn page(&self, after: Option<TableId>, limit: usize) -> Result<StoredPage, StoreError> {
        Ok(self.disk.page(after, limit)?)
    }

    fn stored(&self) -> (u64, u64) {
        (self.disk.tables(), self.disk.used_bytes())
    }
}
