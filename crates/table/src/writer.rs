//! Where a table grows: the one writer of its file.
//!
//! Invariants:
//! - The file in the folder is exactly the received one, byte for byte. Beside it is the dialect, once that is final
//!   ([`DIALECT`](crate::DIALECT)); everything else is derived from the two and is in nameless files that end with the
//!   process.
//! - An append that fails leaves the file as it was before.
//! - The dialect is final when the file has ended and has two lines; before cells are appended to fewer, all of it but
//!   whether there is a header. Only [`Writer::reread`] with another choice changes it then.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::dialect::{Choice, Kept};
use crate::disk::{Budget, Folder, Unlimited};
use crate::encode;
use crate::encoding::Encoding;
use crate::intake::{Finding, Intake, Place};
use crate::reading::Reading;
use crate::{Control, Error, Limits, Summary};

/// The name of the file, as it was received, in the folder of a table.
pub const ORIGINAL: &str = "original";

/// How much of a file is read at once when it is read again: little enough to stay in a core's cache.
const PIECE: usize = 64 << 10;

/// A table for its readers: always the newest [`Reading`]. Clones are the same table.
#[derive(Clone, Debug)]
pub struct Table(Arc<RwLock<Arc<Reading>>>);

impl Table {
    /// The file as it is read now. What was taken here stays as it is when the dialect is changed.
    pub fn reading(&self) -> Arc<Reading> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, reading: &Arc<Reading>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(reading);
    }
}

/// The writer of a table. Readers never wait for it.
pub struct Writer {
    table: Table,
    place: Place,
    intake: Intake,
    choice: Choice,
    received: u64,
    finished: bool,
    broken: bool,
}

impl Writer {
    /// Makes an empty table in `folder`, which must be there and hold none.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Dialect`] when `choice` cannot be.
    pub fn create(folder: &Path, choice: Choice, limits: Limits) -> Result<Self, Error> {
        Self::create_within(Arc::new(Unlimited), folder, choice, limits)
    }

    /// As [`Self::create`], with a budget for the nameless files of the table, which every view of it holds.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_within(
        budget: Arc<dyn Budget>,
        folder: &Path,
        choice: Choice,
        limits: Limits,
    ) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(folder.join(ORIGINAL))?;
        Self::new(file, Folder::new(folder, budget), choice, limits)
    }

    /// Opens the table that `folder` holds and reads all of it: about as fast as the disk, up to three times
    /// the time of `wc -l`. `opened` gets the table at once, so that its first rows can be shown meanwhile.
    ///
    /// It is read as it was before, whatever was appended: in the dialect that was found when it was whole
    /// ([`DIALECT`](crate::DIALECT)), which a `choice` other than then replaces as [`Self::reread`] does. Nothing else
    /// is kept on disk, so there is no index that could be stale after a crash.
    ///
    /// # Errors
    /// As [`Self::append`], and [`Error::Cancelled`].
    pub fn open(
        folder: &Path,
        choice: Choice,
        limits: Limits,
        control: Control<'_>,
        opened: impl FnOnce(&Table),
    ) -> Result<Self, Error> {
        Self::open_within(Arc::new(Unlimited), folder, choice, limits, control, opened)
    }

    /// As [`Self::open`], with a budget for the nameless files of the table, which every view of it holds.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(
        budget: Arc<dyn Budget>,
        folder: &Path,
        choice: Choice,
        limits: Limits,
        control: Control<'_>,
        opened: impl FnOnce(&Table),
    ) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(ORIGINAL))?;
        let received = file.metadata()?.len();
        let kept = Kept::load(folder)?;
        let mut writer = Self::new(file, Folder::new(folder, budget), choice, limits)?;
        opened(&writer.table);
        writer.received = received;
        writer.read_again(choice, None, kept, true, true, control)?;
        writer.keep(false)?;
        Ok(writer)
    }

    fn new(file: File, folder: Folder, choice: Choice, limits: Limits) -> Result<Self, Error> {
        let place = Place { original: Arc::new(file), folder, limits };
        // Something to look at before the first byte: what an empty file is.
        let mut empty = Intake::new(place.clone(), choice, None, None);
        empty.finish(0)?;
        let reading = empty.reading().expect("a finished intake has a reading");
        reading.state_mut().finished = false;
        let table = Table(Arc::new(RwLock::new(Arc::clone(reading))));
        let intake = Intake::new(place.clone(), choice, None, None);
        Ok(Self { table, place, intake, choice, received: 0, finished: false, broken: false })
    }

    /// The table, for its readers.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Appends bytes of the file, cut anywhere; when this returns, the rows that are whole can be read.
    ///
    /// # Errors
    /// [`Error::Io`] (the disk is full, say), [`Error::TooLarge`], [`Error::NotText`], [`Error::Compression`],
    /// [`Error::TooMany`]. After any of them the file is as before, readers see what they saw, and every
    /// further call is [`Error::Broken`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<Summary, Error> {
        self.guarded(|writer| {
            writer.write(bytes)?;
            writer.finished = false;
            let finding = writer.intake.take(bytes, writer.received)?;
            writer.follow(finding)
        })
    }

    /// Says that the file is whole: a last row without a line break counts from now on. More may be appended, and is read
    /// in the dialect that was found until now, if there are two lines or more; bytes that mean nothing in its encoding
    /// are then shown as U+FFFD ([`Summary::lossy`]).
    ///
    /// # Errors
    /// As [`Self::append`]; [`Error::Compression`] when packed data ends early.
    pub fn finish(&mut self) -> Result<Summary, Error> {
        self.guarded(|writer| {
            writer.finished = true;
            let finding = writer.intake.finish(writer.received)?;
            let summary = writer.follow(finding)?;
            writer.keep(false)?;
            Ok(summary)
        })
    }

    /// Appends rows, written as the rest of the file is: in its dialect, encoding and packing, on a line of
    /// their own. The file counts as finished afterwards.
    ///
    /// # Errors
    /// [`Error::Unwritable`] when a cell cannot be written so; nothing is appended then, and the writer is as
    /// before. Else as [`Self::append`].
    pub fn append_rows<R, C>(&mut self, rows: R) -> Result<Summary, Error>
    where
        R: IntoIterator,
        R::Item: IntoIterator<Item = C>,
        C: AsRef<str>,
    {
        if self.broken {
            return Err(Error::Broken);
        }
        self.finish()?;
        // Whatever is written in it must be read in it.
        self.keep(true)?;
        let reading = self.table.reading();
        let dialect = reading.dialect();
        if self.intake.is_in_character() {
            return Err(Error::Unwritable("the file ends within a character"));
        }
        let mut text = Vec::new();
        if self.intake.is_in_row() {
            if reading.summary().open_quote {
                return Err(Error::Unwritable("the file ends within quotes"));
            }
            text.extend_from_slice(dialect.line_end.as_str().as_bytes());
        }
        for row in rows {
            encode::write_row(row, dialect, &mut text)?;
        }
        let bytes = dialect
            .compression
            .pack(dialect.encoding.encode(&String::from_utf8(text).expect("cells and ASCII"))?)?;
        self.append(&bytes)?;
        self.finish()
    }

    /// Reads rows that were written to the end of the file meanwhile, by another process that has it open or by a
    /// download. The caller must ensure that no other append runs at the same time.
    ///
    /// # Errors
    /// As [`Self::append`], but for the bound of the file's own size, and [`Error::Cancelled`]. The file is left alone
    /// then; every further call is [`Error::Broken`].
    pub fn catch_up(&mut self, control: Control<'_>) -> Result<Summary, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let taken = self.take_in(control);
        self.broken = taken.is_err();
        taken
    }

    fn take_in(&mut self, control: Control<'_>) -> Result<Summary, Error> {
        let end = self.place.original.metadata()?.len();
        let mut buffer = vec![0; PIECE];
        self.intake.expect(end);
        while self.received < end {
            control.check()?;
            let length = (end - self.received).min(PIECE as u64) as usize;
            self.place.original.read_exact_at(&mut buffer[..length], self.received)?;
            self.received += length as u64;
            self.finished = false;
            let finding = self.intake.take(&buffer[..length], self.received)?;
            self.follow(finding)?;
        }
        Ok(self.table.reading().summary())
    }

    /// Reads the file again in another dialect, as far as it has been received. Until that is done readers
    /// have the old reading; the time is that of [`Self::open`].
    ///
    /// # Errors
    /// As [`Self::append`], and [`Error::Cancelled`]; the old reading stays then, and the writer is as before.
    pub fn reread(&mut self, choice: Choice, control: Control<'_>) -> Result<Summary, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let kept = self.intake.kept().cloned();
        self.read_again(choice, None, kept, self.finished, false, control)?;
        Ok(self.table.reading().summary())
    }

    /// Reads the whole file with `choice`; `show`: readers see it while it is read.
    fn read_again(
        &mut self,
        choice: Choice,
        later: Option<Encoding>,
        kept: Option<Kept>,
        finished: bool,
        show: bool,
        control: Control<'_>,
    ) -> Result<(), Error> {
        choice.check()?;
        let mut intake = Intake::new(self.place.clone(), choice, later, kept);
        intake.expect(self.received);
        let mut finding = Finding::None;
        let (mut at, mut buffer) = (0, vec![0; PIECE]);
        while at < self.received && finding == Finding::None {
            control.check()?;
            let length = (self.received - at).min(PIECE as u64) as usize;
            self.place.original.read_exact_at(&mut buffer[..length], at)?;
            at += length as u64;
            finding = intake.take(&buffer[..length], at)?;
            if show {
                self.show(&intake);
            }
            control.report(at, self.received, (0.0, 1.0));
        }
        if finished && finding == Finding::None {
            finding = intake.finish(at)?;
        }
        if let Finding::Encoding(encoding) = finding {
            let kept = intake.kept().cloned();
            return self.read_again(choice, Some(encoding), kept, finished, show, control);
        }
        self.show(&intake);
        (self.intake, self.choice, self.finished) = (intake, choice, finished);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let limit = self.place.limits.original_bytes;
        if self.received + bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: "the file", limit });
        }
        self.place.original.write_all_at(bytes, self.received)?;
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Acts on what the intake found, and shows readers the outcome.
    fn follow(&mut self, finding: Finding) -> Result<Summary, Error> {
        match finding {
            Finding::None => self.show(&self.intake),
            Finding::Encoding(encoding) => {
                let (choice, later, kept) = (self.choice, Some(encoding), self.intake.kept().cloned());
                self.read_again(choice, later, kept, self.finished, false, Control::default())?;
            }
        }
        Ok(self.table.reading().summary())
    }

    /// Holds on to how the file is read, if it has ended and two lines show how; `anyway`: to all but the header, however
    /// little there is.
    fn keep(&mut self, anyway: bool) -> Result<(), Error> {
        if self.intake.kept().is_some_and(|kept| !kept.header_open) {
            return Ok(());
        }
        let header_open = self.table.reading().summary().lines < 2;
        if header_open && !anyway {
            return Ok(());
        }
        if let Some(kept) = self.intake.found(header_open) {
            if self.intake.kept() != Some(&kept) {
                kept.save(self.place.folder.path())?;
            }
            self.intake.keep(kept);
        }
        Ok(())
    }

    fn show(&self, intake: &Intake) {
        if let Some(reading) = intake.reading()
            && !Arc::ptr_eq(reading, &self.table.reading())
        {
            self.table.set(reading);
        }
    }

    /// Runs an operation that leaves nothing defined behind when it fails.
    fn guarded(&mut self, run: impl FnOnce(&mut Self) -> Result<Summary, Error>) -> Result<Summary, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let before = self.received;
        let result = run(self);
        if result.is_err() {
            self.broken = true;
            // If even that fails, this process never reads the superfluous bytes.
            let _ = self.place.original.set_len(before);
        }
        result
    }
}
