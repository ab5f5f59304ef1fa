//! Folders of tables: locks, times, sizes, and how one is removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::TABLE;
use crate::record::Record;

pub(super) const LOCK: &str = "lock";
pub(super) const RECORD: &str = "record.json";
/// Where the store is without a data folder, in the folder for temporary files; a random end follows.
pub(super) const TEMPORARY: &str = "tidings-tables-";
/// How often a folder is removed in which something else is being removed.
const TRIES: usize = 16;

/// Locks a table's folder against eviction; `None` when it is not there, or has gone meanwhile.
pub(super) fn lock_shared(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = match OpenOptions::new().read(true).append(true).create(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.lock_shared()?;
    let same = fs::metadata(&path).is_ok_and(|there| {
        file.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
    });
    Ok(same.then_some(file))
}

/// Locks a folder if no process has it open.
pub(super) fn lock_alone(folder: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(folder.join(LOCK)).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

/// When a table was used last, as its record's time says: that of the last change, of a moment when it had
/// viewers, and of the last viewer's leaving.
pub(super) fn last_used(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder.join(RECORD)).and_then(|metadata| metadata.modified()).ok()
}

/// The record of the table in this folder; what is none is [`io::ErrorKind::InvalidData`].
pub(super) fn read_record(folder: &Path) -> io::Result<Record> {
    let bytes = fs::read(folder.join(RECORD))?;
    serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Removes what the record does not name from a folder that is locked.
pub(super) fn tidy(folder: &Path) -> io::Result<()> {
    let record = read_record(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == LOCK || name == RECORD || Some(&*name) == record.file.as_deref() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a table's folder, the record first: without it there is no table.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(RECORD)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(folder) {
            // Another node or task has removed the folder, or a file in it; then the rest is still there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tries += 1;
                if !folder.exists() {
                    return Ok(());
                }
                if tries == TRIES {
                    return Err(error);
                }
            }
            outcome => return outcome,
        }
    }
}

/// The bytes that a table's folder takes.
pub(super) fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    files.map(|entry| size_within(&entry.path())).sum::<u64>() + TABLE
}

/// The bytes of the files in a file's folder.
pub(super) fn size_within(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Removes temporary stores of processes that are gone.
pub(super) fn remove_abandoned(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
        // One that is being made has no lock yet, and another user's cannot be opened.
        let lock = OpenOptions::new().write(true).open(entry.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
