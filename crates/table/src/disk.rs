//! Unlinked files of a table, and their size.
//!
//! Invariant: every byte of an unlinked file is reserved from the table's [`Budget`] before it is written, and released
//! when the last handle of the file is dropped.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The disk budget of a table's unlinked files. Methods are called from any thread and may block.
pub trait Budget: Debug + Send + Sync {
    /// Reserves bytes that are about to be written.
    ///
    /// # Errors
    /// When there is no room ([`io::ErrorKind::QuotaExceeded`]). Nothing is reserved then.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Releases bytes that were reserved.
    fn release(&self, bytes: u64);
}

/// The budget of a table without a limit.
#[derive(Debug)]
pub(crate) struct Unlimited;

impl Budget for Unlimited {
    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn release(&self, _: u64) {}
}

/// The folder of a table. Clones refer to the same folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The size of its unlinked files in bytes.
    unlinked: Arc<AtomicU64>,
    budget: Arc<dyn Budget>,
}

/// An unlinked temporary file. It is removed when the last handle is closed or the process ends.
#[derive(Debug)]
pub(crate) struct UnlinkedFile {
    file: File,
    bytes: AtomicU64,
    all: Arc<AtomicU64>,
    budget: Arc<dyn Budget>,
}

impl Folder {
    pub(crate) fn new(path: &Path, budget: Arc<dyn Budget>) -> Self {
        Self { path: path.to_owned(), unlinked: Arc::default(), budget }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates an empty file.
    pub(crate) fn unlinked(&self) -> io::Result<UnlinkedFile> {
        let file = tempfile::tempfile_in(&self.path)?;
        let (all, budget) = (Arc::clone(&self.unlinked), Arc::clone(&self.budget));
        Ok(UnlinkedFile { file, bytes: AtomicU64::new(0), all, budget })
    }

    /// The current size of the unlinked files in bytes.
    pub(crate) fn unlinked_bytes(&self) -> u64 {
        self.unlinked.load(Ordering::Relaxed)
    }
}

impl UnlinkedFile {
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl Write for &UnlinkedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.budget.reserve(bytes.len() as u64)?;
        let written = (&self.file).write(bytes);
        let unwritten = bytes.len() - *written.as_ref().unwrap_or(&0);
        if unwritten > 0 {
            self.budget.release(unwritten as u64);
        }
        let written = written?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        self.all.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.file).flush()
    }
}

impl Write for UnlinkedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Drop for UnlinkedFile {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.release(bytes);
    }
}
