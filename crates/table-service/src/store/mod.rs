//! Where tables are kept: on this machine's disk or one that nodes share, or in a bucket.
//!
//! ```text
//! mod.rs    what rooms ask for, whichever it is
//! disk.rs   folders on a disk, within a bound: the tables themselves, or copies of those in the bucket
//! bucket/   objects of S3
//! ```
//!
//! A file is always written and read on the disk; [`Home`] is where everybody finds it. This is the one place that
//! knows of the difference:
//!
//! | | a folder | a bucket |
//! |---|---|---|
//! | an uploaded file is there for all | once the record names it | once it was put ([`Store::publish`]) |
//! | what others appended | lies on the same disk | is [fetched](Store::catch_up) |
//! | who appends | locks the file | puts an object that nobody may have put before ([`Store::append`]) |
//! | a table is in use | while a process holds its lock | while its record is written again and again |
//!
//! Everything here may wait for the disk and the network.

mod bucket;
mod disk;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tidings_table::{Control, ORIGINAL, Summary, Writer};

use super::Service;
use super::failure::Failure;
use super::id::TableId;
use super::quota::Quota;
use super::record::Record;
use crate::options::{Options, StoreLocation};
use bucket::{Bucket, Committed};
use disk::Disk;

pub use bucket::Numbers;
pub(crate) use bucket::Saved;
pub(super) use disk::{FileCharge, Place, Reserved, TABLE};

/// How long after a record was written to a bucket it is written again at the earliest.
const PACE: Duration = Duration::from_secs(1);
/// How often rows are appended that others come before with theirs.
const TRIES: usize = 64;

/// All tables of a server, or of all servers that share them.
#[derive(Debug)]
pub(super) struct Store {
    disk: Arc<Disk>,
    home: Home,
}

/// Where everybody finds what lies on the disk.
#[derive(Debug)]
enum Home {
    /// There.
    Disk,
    /// In a bucket, of which the disk holds copies.
    Bucket(Box<Bucket>),
}

/// What became of an append.
pub(super) enum Written<T> {
    /// It is done, and for all.
    Done(T),
    /// It cannot be done, and nothing was written.
    Refused(Failure),
}

impl Store {
    /// Opens the store that the configuration names, and removes what is left over on the disk. Within a runtime.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or the bucket's options cannot be; with its name.
    pub(super) fn open(options: &Options) -> io::Result<Self> {
        let (root, home) = match &options.store {
            StoreLocation::Folder(folder) => (folder, Home::Disk),
            StoreLocation::Bucket { bucket, copies } => {
                let bucket = Bucket::open(bucket, options)?;
                (copies, Home::Bucket(Box::new(bucket)))
            }
        };
        let is_own = matches!(home, Home::Bucket(_));
        let disk = Disk::open(root.as_deref(), options.max_total, options.keep, is_own)?;
        Ok(Self { disk: Arc::new(disk), home })
    }

    /// Whom to ask to put tables away that are in memory though nobody looks at them, when there is no room.
    pub(super) fn serves(&self, service: Weak<Service>) {
        self.disk.serves(service);
    }

    /// Makes a place for a new table.
    pub(super) fn create(&self) -> io::Result<Place> {
        self.disk.create()
    }

    /// The table of this name, if there is one.
    pub(super) fn find(&self, id: TableId) -> Result<Option<(Place, Record)>, Failure> {
        let Home::Bucket(bucket) = &self.home else { return Ok(self.disk.find(id)?) };
        let Some((record, version)) = bucket.record(id)? else { return Ok(None) };
        let place = self.disk.copy(id)?;
        place.saw(version);
        place.save(&record)?;
        Ok(Some((place, record)))
    }

    /// Takes so many bytes of the disk for a file that grows; see [`Disk::reserve`].
    pub(super) fn reserve(&self, bytes: u64, quota: Quota, file: Option<&str>) -> Result<Reserved, Failure> {
        self.disk.reserve(bytes, quota, file)
    }

    /// What a file takes besides the bytes under its name, for whoever writes or reads it.
    pub(super) fn charge(&self, place: &Place, file: &str) -> Arc<FileCharge> {
        self.disk.charge(place, file)
    }

    /// Removes from the disk a file of an upload that came to nothing, whose bytes were given back already.
    pub(super) fn discard(&self, place: &Place, file: &str) {
        self.disk.removed(place, file, place.remove_file(file));
    }

    /// Gives back what a file on the disk took that is gone.
    pub(super) fn release(&self, bytes: u64) {
        self.disk.release(bytes);
    }

    /// How long to wait between two [saves](Self::save) of one table.
    pub(super) fn pace(&self) -> Duration {
        if matches!(self.home, Home::Bucket(_)) { PACE } else { Duration::ZERO }
    }

    /// How often a table that is open is to be saved although nothing has changed, so that it counts as used.
    pub(super) fn lease(&self) -> Option<Duration> {
        match &self.home {
            Home::Disk => None,
            Home::Bucket(bucket) => Some(bucket.lease()),
        }
    }

    /// Writes the record, all of it or nothing, unless there is a newer one; the table counts as used now.
    pub(super) fn save(&self, place: &Place, record: &Record) -> Result<Saved, Failure> {
        place.save(record)?;
        match &self.home {
            Home::Disk => Ok(Saved::Kept),
            Home::Bucket(bucket) => bucket.save(place, record),
        }
    }

    /// Removes the record of a table that never had a file.
    pub(super) fn forget(&self, place: &Place) -> Result<(), Failure> {
        if let Home::Bucket(bucket) = &self.home {
            bucket.forget(place)?;
        }
        Ok(place.forget()?)
    }

    /// Leaves a table that was open to be found again, counting as used until `left` (in a bucket, until now); removes it
    /// when it is over.
    pub(super) fn put_away(&self, place: &Place, record: &Record, left: SystemTime) -> Result<(), Failure> {
        match (&self.home, place.record()?) {
            // There never was a file, or the table is deleted; or there is one on another node yet, and no copy here.
            (Home::Bucket(_), _) if record.file.is_none() => self.disk.delete(place)?,
            (Home::Disk, None) => self.disk.delete(place)?,
            // Another process may have written a newer one.
            (_, Some(there)) if there.stamp > record.stamp => place.save(&there)?,
            (Home::Disk, Some(_)) if record.file.is_none() => {}
            _ => {
                if self.save(place, record)? == Saved::Gone {
                    self.disk.delete(place)?;
                } else {
                    place.used(left)?;
                }
            }
        }
        Ok(())
    }

    /// Lets everybody have a file that is whole.
    ///
    /// # Errors
    /// 503 when the bucket cannot be reached, 507 when it is full.
    pub(super) fn publish(&self, place: &Place, file: &str) -> Result<(), Failure> {
        match &self.home {
            Home::Disk => Ok(()),
            Home::Bucket(bucket) => bucket.publish(place, file),
        }
    }

    /// Sees to it that a file has a place on the disk from which it can be opened.
    pub(super) fn prepare(&self, place: &Place, file: &str) -> Result<(), Failure> {
        match &self.home {
            Home::Disk => Ok(()),
            Home::Bucket(bucket) => bucket.prepare(place, file),
        }
    }

    /// Has the writer take in what others have appended to its file, or what the disk lacks of it. `grown` is called
    /// while much comes.
    ///
    /// # Errors
    /// 404 when the file is not there, 503 when the bucket cannot be reached; the disk's and the writer's.
    pub(super) fn catch_up(
        &self,
        place: &Place,
        file: &str,
        writer: &mut Writer,
        control: Control<'_>,
        grown: &mut dyn FnMut(&Writer, f32),
    ) -> Result<(), Failure> {
        match &self.home {
            // Whoever is writing comes to the end, or takes back what could not be written whole.
            Home::Disk => {
                lock(&place.file(file)).map_err(Failure::from).and_then(|_lock| take_in(writer, control))
            }
            Home::Bucket(bucket) => {
                let reserve = |bytes| {
                    self.reserve(bytes, Quota::unlimited(), None)?.keep();
                    Ok(())
                };
                bucket.fetch(place, file, &reserve, &mut |part| {
                    writer.catch_up(control)?;
                    grown(writer, part);
                    Ok(())
                })?;
                take_in(writer, control)
            }
        }
    }

    /// Appends to a file, for all: `append` writes to the disk and may be called again, when others came before. What
    /// `reopen` gives of the disk takes the writer's place when what it wrote was taken back.
    ///
    /// # Errors
    /// When the writer is of no use any more.
    pub(super) fn append<T>(
        &self,
        place: &Place,
        file: &str,
        writer: &mut Writer,
        reopen: &dyn Fn() -> Result<Writer, Failure>,
        append: &mut dyn FnMut(&mut Writer) -> Result<Written<T>, Failure>,
    ) -> Result<Written<T>, Failure> {
        let received = |writer: &Writer| writer.table().reading().summary().received;
        let Home::Bucket(bucket) = &self.home else {
            let _lock = lock(&place.file(file))?;
            take_in(writer, Control::default())?;
            return append(writer);
        };
        for _ in 0..TRIES {
            let before = received(writer);
            bucket.begin(place, file, before)?;
            let done = append(writer);
            let after = received(writer);
            let committed = match &done {
                Ok(Written::Done(_)) if after > before => bucket.commit(place, file, before..after),
                _ => {
                    bucket.take_back(place, file, before)?;
                    return done;
                }
            };
            if let Ok(Committed::Kept { many }) = committed {
                place.to_join.store(if many { after } else { 0 }, Ordering::Relaxed);
                return done;
            }
            bucket.take_back(place, file, before)?;
            *writer = reopen()?;
            let caught_up = match committed {
                Ok(Committed::Kept { .. } | Committed::Conflict) => {
                    self.catch_up(place, file, writer, Control::default(), &mut |_, _| {})
                }
                Ok(Committed::Gone) => Err(Failure::unknown()),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = caught_up {
                return Ok(Written::Refused(failure));
            }
        }
        Ok(Written::Refused(Failure::new(503, "too many nodes append to this table at once; try again")))
    }

    /// Whether a file was appended to so often that it is to be [joined](Self::join).
    pub(super) fn is_to_join(&self, place: &Place) -> bool {
        place.to_join.load(Ordering::Relaxed) > 0
    }

    /// Keeps a file that was appended to in few pieces. Rows may be appended meanwhile.
    pub(super) fn join(&self, place: &Place, file: &str) -> Result<(), Failure> {
        let (Home::Bucket(bucket), Ok(_one)) = (&self.home, place.joining.try_lock()) else { return Ok(()) };
        bucket.join(place, file, place.to_join.swap(0, Ordering::Relaxed))
    }

    /// Removes a file that no record names any more, wherever it is.
    pub(super) fn remove_file(&self, place: &Place, file: &str) -> Result<(), Failure> {
        let bytes = place.remove_file(file);
        self.disk.removed(place, file, bytes);
        self.release(bytes);
        match &self.home {
            Home::Disk => Ok(()),
            Home::Bucket(bucket) => bucket.remove_file(place.id, file),
        }
    }

    /// Removes a table that this process has open.
    pub(super) fn delete(&self, place: &Place) -> Result<(), Failure> {
        if let Home::Bucket(bucket) = &self.home {
            bucket.delete(place.id)?;
        }
        Ok(self.disk.delete(place)?)
    }

    /// The server stops: whatever waits for the bucket does not any more.
    pub(super) fn close(&self) {
        if let Home::Bucket(bucket) = &self.home {
            bucket.close();
        }
    }

    /// Removes what is left over and tables that nobody has used for `tables.keep`, and counts what is there. Gives
    /// how many tables were removed.
    pub(super) fn sweep(&self) -> u64 {
        let removed = self.disk.sweep();
        match &self.home {
            Home::Disk => removed,
            Home::Bucket(bucket) => bucket.sweep(),
        }
    }

    /// How many tables there are, and the bytes of their files.
    pub(super) fn stored(&self) -> (u64, u64) {
        match &self.home {
            Home::Disk => (self.disk.tables(), self.disk.used()),
            Home::Bucket(bucket) => bucket.stored(),
        }
    }

    /// Bytes of files without a name: what packed files unpack to, what views are sorted with, removed files that are still
    /// read.
    pub(super) fn nameless(&self) -> u64 {
        self.disk.nameless()
    }

    /// How often room on the disk was refused: past the bound of all tables, and past a requester's quota.
    pub(super) fn refused(&self) -> [u64; 2] {
        self.disk.refused.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// What has happened between this node and the bucket, and the bytes of copies; `None` without one.
    pub(super) fn numbers(&self) -> Option<(&Numbers, u64)> {
        match &self.home {
            Home::Disk => None,
            Home::Bucket(bucket) => Some((&bucket.numbers, self.disk.used())),
        }
    }
}

/// Keeps other nodes from writing to the file in this folder.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder.join(ORIGINAL))?;
    file.lock()?;
    Ok(file)
}

/// Has the writer take in what others have written to its file on the disk.
fn take_in(writer: &mut Writer, control: Control<'_>) -> Result<(), Failure> {
    let Summary { finished, received, .. } = writer.table().reading().summary();
    let now = writer.catch_up(control)?;
    if now.received > received || !finished {
        writer.finish()?;
    }
    Ok(())
}
