//! Transfers of files between a node's disk and the bucket.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path as FilePath;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutOptions,
};
use tidings_table::{DIALECT, ORIGINAL};

use super::chain::{self, Chain, Object};
use super::{Bucket, CommitOutcome, PART_SIZE};
use crate::StoreError;
use crate::disk::TableFolder;
use crate::id::{self, TableId};

/// The most parts of one object; S3 accepts 10,000.
const MAX_PARTS: u64 = 9_000;
/// The attempts to continue a download without progress.
const MAX_STALLED_ATTEMPTS: u32 = 3;
/// The longest stored dialect, in bytes.
const MAX_DIALECT: u64 = 4096;
/// The bytes between two calls of `on_progress`.
const PROGRESS_STEP: u64 = 1 << 20;
/// The most remembered multipart uploads that could not be aborted.
const MAX_UNABORTED: usize = 64;
/// The attribute that identifies the writer of an object, so that a put with a lost response is recognized.
const WRITER_ATTRIBUTE: &str = "tidings-put";
/// A file in the folder of a file during an append: the length of the part that the bucket also has.
const UNCONFIRMED: &str = "unconfirmed";

impl Bucket {
    /// Puts a complete file from the disk.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Full`] when the bucket has reached `tables.max_total`. Incomplete
    /// objects are removed now or by a later sweep.
    pub(crate) fn publish(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.check_conditional_writes()?;
        let source = File::open(table_folder.file(file).join(ORIGINAL))?;
        let length = source.metadata()?.len();
        self.make_room(length)?;
        // Put before the file, so that every node reads the file in the same dialect.
        if let Ok(dialect) = File::open(table_folder.file(file).join(DIALECT)) {
            let bytes = 0..dialect.metadata()?.len();
            self.put(&self.object(table_folder.id, file, DIALECT), &dialect, bytes)?;
        }
        let path = self.object(table_folder.id, file, &chain::merged_name(&(0..length)));
        let put = self.put(&path, &source, 0..length);
        if put.is_err() {
            self.release(length);
        }
        put
    }

    /// Compacts a file: merges small objects, so that their number stays bounded. Concurrent readers list the objects
    /// again. Only the first `confirmed` bytes of the disk's copy are read: those are confirmed to equal the bucket's.
    pub(crate) fn compact(
        &self,
        table_folder: &TableFolder,
        file: &str,
        confirmed: u64,
    ) -> Result<(), StoreError> {
        let Some((bytes, replaced)) = self.chain(table_folder.id, file)?.compaction(confirmed) else {
            return Ok(());
        };
        let source = File::open(table_folder.file(file).join(ORIGINAL))?;
        let length = bytes.end - bytes.start;
        let path = self.object(table_folder.id, file, &chain::merged_name(&bytes));
        self.put(&path, &source, bytes)?;
        self.used.fetch_add(length, Ordering::Relaxed);
        self.block_on(async {
            for name in replaced {
                self.remove(&self.object(table_folder.id, file, &name)).await?;
            }
            self.release(length);
            Ok(())
        })
    }

    /// Creates the local copy of a file, without unconfirmed rows. The caller [fetches](Self::fetch) the missing part.
    pub(crate) fn prepare(&self, table_folder: &TableFolder, file: &str) -> Result<(), StoreError> {
        let folder = table_folder.file(file);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let copy = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(ORIGINAL))?;
        match fs::read_to_string(folder.join(UNCONFIRMED)) {
            Ok(length) => {
                // The process ended during an append. If the bucket accepted the rows, they are fetched again.
                copy.set_len(length.parse().unwrap_or(0))?;
                fs::remove_file(folder.join(UNCONFIRMED))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if !folder.join(DIALECT).exists() {
            self.fetch_dialect(&self.object(table_folder.id, file, DIALECT), &folder)?;
        }
        Ok(())
    }

    /// Fetches the stored dialect of a file, if there is one.
    fn fetch_dialect(&self, path: &Path, folder: &FilePath) -> Result<(), StoreError> {
        let failed = |error: Error| self.unavailable("reading the dialect of a file", &error);
        let dialect = match self.block_on(self.s3.get(path)) {
            Ok(there) if there.meta.size <= MAX_DIALECT => self.block_on(there.bytes()).map_err(failed)?,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let new = folder.join(format!("{DIALECT}.new"));
        fs::write(&new, dialect)?;
        Ok(fs::rename(new, folder.join(DIALECT))?)
    }

    /// Fetches the missing part of the local copy. Calls `on_progress` repeatedly with the fraction that is present,
    /// and `reserve` before bytes are written to the disk.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`], errors of the disk, and those of `on_progress` and
    /// `reserve`.
    pub(crate) fn fetch(
        &self,
        table_folder: &TableFolder,
        file: &str,
        reserve: &dyn Fn(u64) -> Result<(), StoreError>,
        on_progress: &mut dyn FnMut(f32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let copy = OpenOptions::new().write(true).open(table_folder.file(file).join(ORIGINAL))?;
        let mut have = copy.metadata()?.len();
        let (mut attempts, mut reserved) = (0, have);
        loop {
            let chain = self.chain(table_folder.id, file)?;
            let (Some(parts), Some(end)) = (chain.parts(), chain.end()) else {
                return Err(StoreError::NotFound);
            };
            if have >= end {
                return Ok(());
            }
            let permit = self.block_on(self.gets.acquire());
            let before = have;
            reserve(end.saturating_sub(reserved))?;
            reserved = reserved.max(end);
            let fetched = parts.iter().filter(|part| part.bytes.end > before).try_for_each(|part| {
                self.fetch_part(table_folder.id, file, part, &copy, &mut have, &mut |have| {
                    on_progress(have as f32 / end as f32)
                })
            });
            drop(permit);
            match fetched {
                Ok(()) => return Ok(()),
                Err(FetchError::Store(error)) => return Err(error),
                // Objects that were merged meanwhile are listed again; a broken download continues at its offset.
                Err(FetchError::Bucket(error)) => {
                    attempts = if have > before { 0 } else { attempts + 1 };
                    if attempts >= MAX_STALLED_ATTEMPTS {
                        return Err(self.unavailable("fetching a file", &error));
                    }
                }
            }
        }
    }

    fn fetch_part(
        &self,
        id: TableId,
        file: &str,
        part: &Object,
        copy: &File,
        have: &mut u64,
        on_progress: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<(), FetchError> {
        let path = self.object(id, file, &part.name);
        let range = have.saturating_sub(part.bytes.start)..part.bytes.end - part.bytes.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.block_on(self.s3.get_opts(&path, options)).map_err(FetchError::Bucket)?;
        let mut pieces = got.into_stream();
        let mut reported = *have;
        while let Some(piece) = self.block_on(pieces.next()) {
            let piece = piece.map_err(FetchError::Bucket)?;
            let piece = &piece[..piece.len().min((part.bytes.end - *have) as usize)];
            copy.write_all_at(piece, *have).map_err(|error| FetchError::Store(error.into()))?;
            *have += piece.len() as u64;
            if *have - reported >= PROGRESS_STEP {
                reported = *have;
                on_progress(*have).map_err(FetchError::Store)?;
            }
        }
        if *have < part.bytes.end {
            let source = "an object ended early".into();
            return Err(FetchError::Bucket(Error::Generic { store: "S3", source }));
        }
        Ok(())
    }

    /// Records that the bytes of the local copy after this offset are not in the bucket yet.
    pub(crate) fn begin_append(&self, table_folder: &TableFolder, file: &str, at: u64) -> io::Result<()> {
        fs::write(table_folder.file(file).join(UNCONFIRMED), at.to_string())
    }

    /// Truncates the local copy to its length at [`Self::begin_append`].
    pub(crate) fn revert_append(&self, table_folder: &TableFolder, file: &str, to: u64) -> io::Result<()> {
        let folder = table_folder.file(file);
        OpenOptions::new().write(true).open(folder.join(ORIGINAL))?.set_len(to)?;
        mark_confirmed(&folder)
    }

    /// Puts the rows that were appended to the local copy.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]. The bucket may have stored the rows; in that case they are fetched later.
    pub(crate) fn commit_append(
        &self,
        table_folder: &TableFolder,
        file: &str,
        bytes: Range<u64>,
    ) -> Result<CommitOutcome, StoreError> {
        self.check_conditional_writes()?;
        let folder = table_folder.file(file);
        let mut rows = vec![0; (bytes.end - bytes.start) as usize];
        File::open(folder.join(ORIGINAL))?.read_exact_at(&mut rows, bytes.start)?;
        let (name, writer_id) = (chain::appended_name(bytes.start), id::secret());
        let path = self.object(table_folder.id, file, &name);
        let attributes =
            Attributes::from_iter([(Attribute::Metadata(WRITER_ATTRIBUTE.into()), writer_id.clone())]);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let put = self.block_on(async {
            match self.s3.put_opts(&path, rows.into(), options).await {
                Ok(_) => Ok(true),
                Err(error) => self.was_put_by(&path, &writer_id, error).await,
            }
        });
        match put {
            Ok(true) => {}
            Ok(false) => {
                self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                return Ok(CommitOutcome::Conflict);
            }
            Err(error) => return Err(self.unavailable("appending rows", &error)),
        }
        // Other nodes may have appended at this offset and merged their objects, which freed the name.
        let chain = self.chain(table_folder.id, file)?;
        if chain.contains(&name) {
            self.used.fetch_add(bytes.end - bytes.start, Ordering::Relaxed);
            mark_confirmed(&folder)?;
            return Ok(CommitOutcome::Stored { needs_compaction: chain.compaction(bytes.end).is_some() });
        }
        self.block_on(self.remove(&path))?;
        if chain.end().is_none() {
            return Ok(CommitOutcome::FileRemoved);
        }
        self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
        Ok(CommitOutcome::Conflict)
    }

    /// Whether an object exists although its put failed, and was written by the same writer.
    async fn was_put_by(&self, path: &Path, writer_id: &str, error: Error) -> Result<bool, Error> {
        let head = GetOptions { head: true, ..GetOptions::default() };
        match self.s3.get_opts(path, head).await {
            Ok(there) => {
                let by = there.attributes.get(&Attribute::Metadata(WRITER_ATTRIBUTE.into()));
                Ok(by.is_some_and(|by| **by == *writer_id))
            }
            // The object was merged meanwhile.
            Err(Error::NotFound { .. }) if matches!(error, Error::AlreadyExists { .. }) => Ok(false),
            Err(_) => Err(error),
        }
    }

    /// Puts these bytes of a file as one object, atomically.
    fn put(&self, path: &Path, source: &File, bytes: Range<u64>) -> Result<(), StoreError> {
        let _permit = self.block_on(self.puts.acquire());
        let length = bytes.end - bytes.start;
        if length <= PART_SIZE {
            let piece = read(source, bytes)?;
            let put = self.block_on(self.s3.put_opts(path, piece.into(), PutOptions::default()));
            return put.map(|_| ()).map_err(|error| self.unavailable("putting a file", &error));
        }
        let upload = self.block_on(self.s3.create_multipart(path));
        let upload = upload.map_err(|error| self.unavailable("putting a file", &error))?;
        let put = self.put_parts(path, &upload, source, bytes);
        if put.is_err() && self.block_on(self.s3.abort_multipart(path, &upload)).is_err() {
            let mut unaborted = self.unaborted.lock().unwrap_or_else(PoisonError::into_inner);
            if unaborted.len() < MAX_UNABORTED {
                unaborted.push((path.clone(), upload));
            }
        }
        put
    }

    fn put_parts(
        &self,
        path: &Path,
        upload: &String,
        source: &File,
        bytes: Range<u64>,
    ) -> Result<(), StoreError> {
        let failed = |error: Error| self.unavailable("putting a file", &error);
        let size = PART_SIZE.max((bytes.end - bytes.start).div_ceil(MAX_PARTS));
        let mut parts: Vec<PartId> = Vec::new();
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min(at + size);
            let piece = read(source, at..end)?;
            let put = self.s3.put_part(path, upload, parts.len(), piece.into());
            parts.push(self.block_on(put).map_err(failed)?);
            at = end;
        }
        self.block_on(self.s3.complete_multipart(path, upload, parts)).map(|_| ()).map_err(failed)
    }

    /// Aborts multipart uploads that could not be aborted before.
    pub(super) fn abort_unaborted(&self) {
        let unaborted = std::mem::take(&mut *self.unaborted.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, upload) in unaborted {
            if let Err(error) = self.block_on(self.s3.abort_multipart(&path, &upload))
                && !matches!(error, Error::NotFound { .. })
            {
                self.unaborted.lock().unwrap_or_else(PoisonError::into_inner).push((path, upload));
            }
        }
    }

    /// The objects of a file.
    fn chain(&self, id: TableId, file: &str) -> Result<Chain, StoreError> {
        let listed = self.block_on(self.list(&self.path(id, file)))?;
        let named = |object: object_store::ObjectMeta| {
            let name = object.location.filename()?.to_owned();
            Some((name, object.size))
        };
        Ok(Chain::new(listed.into_iter().filter_map(named)))
    }

    fn object(&self, id: TableId, file: &str, name: &str) -> Path {
        self.path(id, &format!("{file}/{name}"))
    }
}

/// The cause of an incomplete download.
enum FetchError {
    Bucket(Error),
    Store(StoreError),
}

/// Reads these bytes of a file into memory.
fn read(source: &File, bytes: Range<u64>) -> io::Result<Bytes> {
    let mut piece = vec![0; (bytes.end - bytes.start) as usize];
    source.read_exact_at(&mut piece, bytes.start)?;
    Ok(piece.into())
}

/// Records that the bucket has all bytes of the local copy.
fn mark_confirmed(folder: &FilePath) -> io::Result<()> {
    match fs::remove_file(folder.join(UNCONFIRMED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
