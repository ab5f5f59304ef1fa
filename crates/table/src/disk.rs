//! Nameless files beside a table's own, and how many bytes all of them take.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a table lies on disk. Clones are the same folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Bytes of the nameless files that are there.
    nameless: Arc<AtomicU64>,
}

/// A file without a name, which goes with the last who holds it (or with the process).
#[derive(Debug)]
pub(crate) struct Nameless {
    file: File,
    bytes: AtomicU64,
    all: Arc<AtomicU64>,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), nameless: Arc::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty file.
    pub(crate) fn nameless(&self) -> io::Result<Nameless> {
        let file = tempfile::tempfile_in(&self.path)?;
        Ok(Nameless { file, bytes: AtomicU64::new(0), all: Arc::clone(&self.nameless) })
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
        let written = (&self.file).write(bytes)?;
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
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}
