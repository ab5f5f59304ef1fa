//! Reads the files of a journal.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::frames::{End, read};
use super::snapshot_name;

/// The files of a journal that were read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The latest generation.
    pub(super) latest: u64,
    /// Other processes cannot use the files while this is open.
    pub(super) lock: File,
}

/// The files of a journal, with their generations.
pub(super) fn files(folder: &Path, name: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(rest) = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('-')) else {
            continue;
        };
        let generation = rest.strip_suffix(".log").or_else(|| rest.strip_suffix(".snapshot"));
        if let Some(generation) = generation.and_then(|number| number.parse().ok()) {
            found.push((generation, entry.path()));
        }
    }
    Ok(found)
}

/// Locks the files for this process.
fn lock(folder: &Path, name: &str) -> io::Result<File> {
    let file = File::create(folder.join(format!("{name}.lock")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let words = "another process uses it; set another data_dir, or mqtt.persistence = false";
            Err(io::Error::new(io::ErrorKind::ResourceBusy, words))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Creates the folder if there is none, locks the files, and passes the frames of the latest snapshot and of the logs since then
/// to `apply`, which returns whether a frame is valid. A log ends at its first invalid frame; of a damaged one a copy is kept, the
/// last one.
///
/// # Errors
/// Another process uses the files; they cannot be read; they have another version; the snapshot is damaged.
pub(crate) fn load(folder: &Path, name: &str, mut apply: impl FnMut(&[u8]) -> bool) -> io::Result<Loaded> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock = lock(folder, name)?;
    let latest = read_files(folder, name, &mut apply)?;
    Ok(Loaded { latest, lock })
}

/// Reads the files; returns the latest generation.
pub(super) fn read_files(
    folder: &Path,
    name: &str,
    apply: &mut impl FnMut(&[u8]) -> bool,
) -> io::Result<u64> {
    let files = files(folder, name)?;
    let latest = files.iter().map(|(generation, _)| *generation).max().unwrap_or(0);
    let is_snapshot = |path: &Path| path.extension().is_some_and(|extension| extension == "snapshot");
    let begin = files.iter().filter(|(_, path)| is_snapshot(path)).map(|(generation, _)| *generation).max();
    if let Some(generation) = begin {
        let path = folder.join(snapshot_name(name, generation));
        if let End::Incomplete(rest) | End::Damaged(rest) = read(&path, apply)? {
            let words = format!("{} is damaged: its last {rest} bytes are invalid", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
    }
    let mut logs = files;
    logs.retain(|(generation, path)| *generation >= begin.unwrap_or(0) && !is_snapshot(path));
    logs.sort_unstable();
    for (_, path) in logs {
        let file = path.display();
        match read(&path, apply)? {
            End::Complete => {}
            End::Incomplete(bytes) => {
                tracing::warn!(%file, bytes, "an incomplete end of a log of MQTT is ignored");
            }
            End::Damaged(bytes) => {
                // The file itself is removed with its generation.
                let copy = folder.join(format!("{name}.damaged"));
                fs::copy(&path, &copy)?;
                let copy = copy.display();
                tracing::error!(%file, bytes, %copy, "a log of MQTT is damaged: its last bytes are ignored");
            }
        }
    }
    Ok(latest)
}
