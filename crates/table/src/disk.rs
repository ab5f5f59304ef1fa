//! Nameless files beside a table's own, and how many bytes all of them take.
//!
//! Invariant: every byte of a nameless file is reserved from the table's [`Budget`] before it is written, and released when
//! the last holder of the file drops it.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The disk budget that the nameless files of a table are charged to. Methods may be called from any thread and may block.
pub trait Budget: Debug + Send + Sync {
    /// Reserves bytes that are about to be written.
    ///
    /// # Errors
    /// When there is no room for them ([`io::ErrorKind::QuotaExceeded`]); nothing is reserved then.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Releases bytes that were reserved.
    fn release(&self, bytes: u64);
}

/// The budget of a table that has none.
#[derive(Debug)]
pub(crate) struct Unlimited;

impl Budget for Unlimited {
    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn release(&self, _: u64) {}
}

/// Where a table lies on disk. Clones are the same folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Bytes of the nameless files that are there.
    nameless: Arc<AtomicU64>,
    budget: Arc<dyn Budget>,
}

/// A file without a name; it is removed when the last handle is closed (or the process ends).
#[derive(Debug)]
pub(crate) struct Nameless {
    file: File,
    bytes: AtomicU64,
    all: Arc<AtomicU64>,
    budget: Arc<dyn Budget>,
}

impl Folder {
    pub(crate) fn new(path: &Path, budget: Arc<dyn Budget>) -> Self {
        Self { path: path.to_owned(), nameless: Arc::default(), budget }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty file.
    pub(crate) fn nameless(&self) -> io::Result<Nameless> {
        let file = tempfile::tempfile_in(&self.path)?;
        let (all, budget) = (Arc::clone(&self.nameless), Arc::clone(&self.budget));
        Ok(Nameless { file, bytes: AtomicU64::new(0), all, budget })
    }

    /// The bytes of the nameless files that are there now.
    pub(crate) fn nameless_bytes(&self) -> u64 {
        self.nameless.load(Ordering::Relaxed)
    }
}

impl Nameless {
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl Write for &Nameless {
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

impl Write for Nameless {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.release(bytes);
    }
}
