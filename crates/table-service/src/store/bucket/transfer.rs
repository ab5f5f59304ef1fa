//! Files between a node's disk and the bucket.

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
use super::{Bucket, CommitOutcome, PART};
use crate::id::{self, TableId};
use crate::store::StoreError;
use crate::store::disk::TableFolder;

/// Most parts of one object; S3 takes 10,000.
const PARTS: u64 = 9_000;
/// How often fetching begins again after it broke off without having got any further.
const ATTEMPTS: u32 = 3;
/// The longest stored dialect, in bytes.
const MOST_DIALECT: u64 = 4096;
/// The bytes between two calls of `grown`.
const GLANCE: u64 = 1 << 20;
/// How many multipart uploads that could not be aborted are remembered.
const UNFINISHED: usize = 64;
/// The attribute that identifies the writer of an object, so that a put with a lost response is recognized.
const PUTTER: &str = "tidings-put";
/// In the folder of a file that is being appended to: where the bytes end that the bucket has as well.
const UNCONFIRMED: &str = "unconfirmed";

impl Bucket {
    /// Puts a whole file that lies on the disk.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Full`] when it holds `tables.max_total` already; nothing is left then, or
    /// is removed later.
    pub(in crate::store) fn publish(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        self.check_fit()?;
        let source = File::open(place.file(file).join(ORIGINAL))?;
        let length = source.metadata()?.len();
        self.make_room(length)?;
        // Before the file, so that every node reads the file in the same dialect.
        if let Ok(dialect) = File::open(place.file(file).join(DIALECT)) {
            let bytes = 0..dialect.metadata()?.len();
            self.put(&self.object(place.id, file, DIALECT), &dialect, bytes)?;
        }
        let path = self.object(place.id, file, &chain::joined(&(0..length)));
        let put = self.put(&path, &source, 0..length);
        if put.is_err() {
            self.release(length);
        }
        put
    }

    /// Joins small objects of a file, so that it stays few. A concurrent reader lists the objects again. Of the disk's copy no
    /// more is read than these bytes, which are sure to be those of the bucket.
    pub(in crate::store) fn join(
        &self,
        place: &TableFolder,
        file: &str,
        sure: u64,
    ) -> Result<(), StoreError> {
        let Some((bytes, replaced)) = self.chain(place.id, file)?.to_join(sure) else { return Ok(()) };
        let source = File::open(place.file(file).join(ORIGINAL))?;
        let length = bytes.end - bytes.start;
        let path = self.object(place.id, file, &chain::joined(&bytes));
        self.put(&path, &source, bytes)?;
        self.used.fetch_add(length, Ordering::Relaxed);
        self.wait(async {
            for name in replaced {
                self.remove(&self.object(place.id, file, &name)).await?;
            }
            self.release(length);
            Ok(())
        })
    }

    /// Makes the file's copy on the disk as it is for all, so far as it has come; who calls sees to it that what it
    /// lacks is [fetched](Self::fetch).
    pub(in crate::store) fn prepare(&self, place: &TableFolder, file: &str) -> Result<(), StoreError> {
        let folder = place.file(file);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let copy = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(ORIGINAL))?;
        match fs::read_to_string(folder.join(UNCONFIRMED)) {
            Ok(length) => {
                // The process ended between the two; the rows that the bucket accepted are fetched again.
                copy.set_len(length.parse().unwrap_or(0))?;
                fs::remove_file(folder.join(UNCONFIRMED))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if !folder.join(DIALECT).exists() {
            self.fetch_dialect(&self.object(place.id, file, DIALECT), &folder)?;
        }
        Ok(())
    }

    /// Fetches how a file is read, where that was found.
    fn fetch_dialect(&self, path: &Path, folder: &FilePath) -> Result<(), StoreError> {
        let failed = |error: Error| self.failed("getting how a file is read", &error);
        let dialect = match self.wait(self.s3.get(path)) {
            Ok(there) if there.meta.size <= MOST_DIALECT => self.wait(there.bytes()).map_err(failed)?,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let new = folder.join(format!("{DIALECT}.new"));
        fs::write(&new, dialect)?;
        Ok(fs::rename(new, folder.join(DIALECT))?)
    }

    /// Fetches what the disk's copy of a file lacks. `grown` is called again and again while it grows, with the part of
    /// the file that is there; `reserve` before the disk takes so many bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`], the disk's, and those of
    /// `grown` and `reserve`.
    pub(in crate::store) fn fetch(
        &self,
        place: &TableFolder,
        file: &str,
        reserve: &dyn Fn(u64) -> Result<(), StoreError>,
        grown: &mut dyn FnMut(f32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let copy = OpenOptions::new().write(true).open(place.file(file).join(ORIGINAL))?;
        let mut have = copy.metadata()?.len();
        let (mut attempts, mut reserved) = (0, have);
        loop {
            let chain = self.chain(place.id, file)?;
            let (Some(parts), Some(end)) = (chain.parts(), chain.end()) else {
                return Err(StoreError::NotFound);
            };
            if have >= end {
                return Ok(());
            }
            let permit = self.wait(self.fetching.acquire());
            let before = have;
            reserve(end.saturating_sub(reserved))?;
            reserved = reserved.max(end);
            let fetched = parts.iter().filter(|part| part.bytes.end > before).try_for_each(|part| {
                self.fetch_part(place.id, file, part, &copy, &mut have, &mut |have| {
                    grown(have as f32 / end as f32)
                })
            });
            drop(permit);
            match fetched {
                Ok(()) => return Ok(()),
                Err(Broken::Store(error)) => return Err(error),
                // What was joined meanwhile is listed anew; what broke off goes on where it did.
                Err(Broken::Bucket(error)) => {
                    attempts = if have > before { 0 } else { attempts + 1 };
                    if attempts >= ATTEMPTS {
                        return Err(self.failed("fetching a file", &error));
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
        grown: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<(), Broken> {
        let path = self.object(id, file, &part.name);
        let range = have.saturating_sub(part.bytes.start)..part.bytes.end - part.bytes.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.wait(self.s3.get_opts(&path, options)).map_err(Broken::Bucket)?;
        let mut pieces = got.into_stream();
        let mut looked = *have;
        while let Some(piece) = self.wait(pieces.next()) {
            let piece = piece.map_err(Broken::Bucket)?;
            let piece = &piece[..piece.len().min((part.bytes.end - *have) as usize)];
            copy.write_all_at(piece, *have).map_err(|error| Broken::Store(error.into()))?;
            *have += piece.len() as u64;
            if *have - looked >= GLANCE {
                looked = *have;
                grown(*have).map_err(Broken::Store)?;
            }
        }
        if *have < part.bytes.end {
            let source = "an object ended early".into();
            return Err(Broken::Bucket(Error::Generic { store: "S3", source }));
        }
        Ok(())
    }

    /// Notes that what follows these bytes of a file on the disk is not in the bucket yet.
    pub(in crate::store) fn begin(&self, place: &TableFolder, file: &str, at: u64) -> io::Result<()> {
        fs::write(place.file(file).join(UNCONFIRMED), at.to_string())
    }

    /// Takes back what was written to the disk's copy since [`Self::begin`].
    pub(in crate::store) fn take_back(&self, place: &TableFolder, file: &str, to: u64) -> io::Result<()> {
        let folder = place.file(file);
        OpenOptions::new().write(true).open(folder.join(ORIGINAL))?.set_len(to)?;
        confirmed(&folder)
    }

    /// Puts what was appended to the disk's copy.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]. The bucket may have the rows all the same: then they are seen later.
    pub(in crate::store) fn commit(
        &self,
        place: &TableFolder,
        file: &str,
        bytes: Range<u64>,
    ) -> Result<CommitOutcome, StoreError> {
        self.check_fit()?;
        let folder = place.file(file);
        let mut rows = vec![0; (bytes.end - bytes.start) as usize];
        File::open(folder.join(ORIGINAL))?.read_exact_at(&mut rows, bytes.start)?;
        let (name, putter) = (chain::appended(bytes.start), id::secret());
        let path = self.object(place.id, file, &name);
        let attributes = Attributes::from_iter([(Attribute::Metadata(PUTTER.into()), putter.clone())]);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let put = self.wait(async {
            match self.s3.put_opts(&path, rows.into(), options).await {
                Ok(_) => Ok(true),
                Err(error) => self.is_of(&path, &putter, error).await,
            }
        });
        match put {
            Ok(true) => {}
            Ok(false) => {
                self.numbers.conflicts.fetch_add(1, Ordering::Relaxed);
                return Ok(CommitOutcome::Conflict);
            }
            Err(error) => return Err(self.failed("appending rows", &error)),
        }
        // Other nodes may have appended here and joined their objects, so that the name was free again.
        let chain = self.chain(place.id, file)?;
        if chain.counts(&name) {
            self.used.fetch_add(bytes.end - bytes.start, Ordering::Relaxed);
            confirmed(&folder)?;
            return Ok(CommitOutcome::Kept { many: chain.to_join(bytes.end).is_some() });
        }
        self.wait(self.remove(&path))?;
        if chain.end().is_none() {
            return Ok(CommitOutcome::Gone);
        }
        self.numbers.conflicts.fetch_add(1, Ordering::Relaxed);
        Ok(CommitOutcome::Conflict)
    }

    /// Whether an object that could not be put is there all the same, put by the same one.
    async fn is_of(&self, path: &Path, putter: &str, error: Error) -> Result<bool, Error> {
        let head = GetOptions { head: true, ..GetOptions::default() };
        match self.s3.get_opts(path, head).await {
            Ok(there) => {
                let by = there.attributes.get(&Attribute::Metadata(PUTTER.into()));
                Ok(by.is_some_and(|by| **by == *putter))
            }
            // It was joined with other objects meanwhile.
            Err(Error::NotFound { .. }) if matches!(error, Error::AlreadyExists { .. }) => Ok(false),
            Err(_) => Err(error),
        }
    }

    /// Puts these bytes of a file as an object. It is there whole or not at all.
    fn put(&self, path: &Path, source: &File, bytes: Range<u64>) -> Result<(), StoreError> {
        let _permit = self.wait(self.sending.acquire());
        let length = bytes.end - bytes.start;
        if length <= PART {
            let piece = read(source, bytes)?;
            let put = self.wait(self.s3.put_opts(path, piece.into(), PutOptions::default()));
            return put.map(|_| ()).map_err(|error| self.failed("putting a file", &error));
        }
        let upload = self.wait(self.s3.create_multipart(path));
        let upload = upload.map_err(|error| self.failed("putting a file", &error))?;
        let put = self.put_parts(path, &upload, source, bytes);
        if put.is_err() && self.wait(self.s3.abort_multipart(path, &upload)).is_err() {
            let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
            if unfinished.len() < UNFINISHED {
                unfinished.push((path.clone(), upload));
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
        let failed = |error: Error| self.failed("putting a file", &error);
        let size = PART.max((bytes.end - bytes.start).div_ceil(PARTS));
        let mut parts: Vec<PartId> = Vec::new();
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min(at + size);
            let piece = read(source, at..end)?;
            let put = self.s3.put_part(path, upload, parts.len(), piece.into());
            parts.push(self.wait(put).map_err(failed)?);
            at = end;
        }
        self.wait(self.s3.complete_multipart(path, upload, parts)).map(|_| ()).map_err(failed)
    }

    /// Aborts what could not be aborted before.
    pub(super) fn abort_unfinished(&self) {
        let unfinished = std::mem::take(&mut *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, upload) in unfinished {
            if let Err(error) = self.wait(self.s3.abort_multipart(&path, &upload))
                && !matches!(error, Error::NotFound { .. })
            {
                self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).push((path, upload));
            }
        }
    }

    /// The objects of a file.
    fn chain(&self, id: TableId, file: &str) -> Result<Chain, StoreError> {
        let listed = self.wait(self.list(&self.path(id, file)))?;
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

/// Why fetching has ended early.
enum Broken {
    Bucket(Error),
    Store(StoreError),
}

/// Reads these bytes of a file into memory.
fn read(source: &File, bytes: Range<u64>) -> io::Result<Bytes> {
    let mut piece = vec![0; (bytes.end - bytes.start) as usize];
    source.read_exact_at(&mut piece, bytes.start)?;
    Ok(piece.into())
}

/// What lies on the disk is in the bucket as well.
fn confirmed(folder: &FilePath) -> io::Result<()> {
    match fs::remove_file(folder.join(UNCONFIRMED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
