//! Operations on the folders of tables: locks, times, sizes, removal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use tidings_table::ORIGINAL;

use super::{NEW_LOG, TABLE_OVERHEAD};
use crate::record::Record;

pub(super) const LOCK: &str = "lock";
pub(super) const RECORD: &str = "record.json";
/// The prefix of a temporary store in the system's folder for temporary files, used without a data folder.
pub(super) const TEMPORARY: &str = "tidings-tables-";
/// The attempts to remove a folder while other processes remove files in it.
const MAX_ATTEMPTS: usize = 16;

/// Locks a table's folder against eviction. `None` when it does not exist or was removed meanwhile.
pub(super) fn lock_shared(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = match OpenOptions::new().read(true).append(true).create(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.lock_shared()?;
    Ok(is_at(&file, &path).then_some(file))
}

/// Whether an open file is the one at this path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| {
        file.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
    })
}

/// Locks the file in this folder against other writing processes. The file is the current one as long as it is locked.
pub(crate) fn lock_file(folder: &Path) -> io::Result<File> {
    let path = folder.join(ORIGINAL);
    loop {
        let file = File::open(&path)?;
        file.lock()?;
        // A compaction may have replaced it meanwhile.
        if is_at(&file, &path) {
            return Ok(file);
        }
    }
}

/// Locks a folder exclusively; `None` when a process has it open.
pub(super) fn lock_alone(folder: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(folder.join(LOCK)).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

/// The time of a table's last use, stored as the modification time of its record: the last change, the last save with
/// viewers, or the departure of the last viewer.
pub(super) fn last_used(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder.join(RECORD)).and_then(|metadata| metadata.modified()).ok()
}

/// Reads the record in this folder. An invalid record is [`io::ErrorKind::InvalidData`].
pub(super) fn read_record(folder: &Path) -> io::Result<Record> {
    let bytes = fs::read(folder.join(RECORD))?;
    serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Removes files that the record does not name from a locked folder.
pub(super) fn remove_orphans(folder: &Path) -> io::Result<()> {
    let mut record = read_record(folder)?;
    // The table that removes the file itself is not open.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    record.previous.take_if(|previous| previous.until <= now);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == LOCK || name == RECORD {
            continue;
        }
        if record.names(&name) {
            remove_if_exists(&entry.path().join(NEW_LOG))?;
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

/// Removes a file, unless it does not exist.
pub(super) fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a table's folder. The record is removed first: without it the table does not exist.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    remove_if_exists(&folder.join(RECORD))?;
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(folder) {
            // Another node or task removed the folder or a file in it; the rest may still exist.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tries += 1;
                if !folder.exists() {
                    return Ok(());
                }
                if tries == MAX_ATTEMPTS {
                    return Err(error);
                }
            }
            outcome => return outcome,
        }
    }
}

/// The size of a table's folder in bytes.
pub(super) fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    files.map(|entry| size_within(&entry.path())).sum::<u64>() + TABLE_OVERHEAD
}

/// The size of the files in a folder in bytes.
pub(super) fn size_within(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Removes temporary stores of terminated processes.
pub(super) fn remove_abandoned(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
        // A store that is being created has no lock yet; one of another user cannot be opened.
        let lock = OpenOptions::new().write(true).open(entry.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
