//! Writes snapshots.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::frames::{write_frame, write_header};
use super::{load, snapshot_name};

/// A snapshot to be written, without the lock of the journal.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    pub(super) folder: PathBuf,
    pub(super) name: &'static str,
    pub(super) generation: u64,
}

impl SnapshotFile {
    /// Writes the frames of the state, and removes the files of earlier generations. Returns the bytes.
    ///
    /// # Errors
    /// The file cannot be written; the earlier files remain.
    pub(crate) fn write(self, state: impl Iterator<Item = Vec<u8>>) -> io::Result<u64> {
        let Self { folder, name, generation } = self;
        let temporary = folder.join(format!("{name}.tmp"));
        let bytes = write_frames(&temporary, state).inspect_err(|_| {
            // Frees its bytes on a full disk. If it remains, the next attempt replaces it.
            let _ = fs::remove_file(&temporary);
        })?;
        fs::rename(&temporary, folder.join(snapshot_name(name, generation)))?;
        File::open(&folder)?.sync_all()?;
        for (earlier, path) in load::files(&folder, name)? {
            if earlier < generation {
                fs::remove_file(path)?;
            }
        }
        Ok(bytes)
    }
}

fn write_frames(path: &Path, state: impl Iterator<Item = Vec<u8>>) -> io::Result<u64> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut bytes = write_header(&mut file)?;
    for content in state {
        bytes += write_frame(&content, &mut file)?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(bytes)
}
