//! The only writer of a table's file.
//!
//! Invariants:
//! - The file in the folder equals the received bytes. Beside it is the dialect, once that is final
//!   ([`DIALECT`](crate::DIALECT)). All other data is derived from the two and is in unlinked files that end with the
//!   process.
//! - A failed append leaves the file unchanged.
//! - The dialect is final when the file has ended with two lines; before cells are appended to fewer lines, all of it
//!   except the header becomes final. Afterwards only [`Writer::reread`] with another choice changes it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::dialect::{Choice, StoredDialect};
use crate::disk::{Budget, Folder, Unlimited};
use crate::encode;
use crate::encoding::Encoding;
use crate::intake::{Finding, Intake, IntakeContext};
use crate::reading::Reading;
use crate::{Control, Error, FileFormat, Limits, Summary};

/// The name of the received file in the folder of a table.
pub const ORIGINAL: &str = "original";

/// The size of one read when a file is read again: small enough for a core's cache.
const PIECE_SIZE: usize = 64 << 10;

/// The readers' handle of a table, with the current [`Reading`]. Clones are the same table.
#[derive(Clone, Debug)]
pub struct Table(Arc<RwLock<Arc<Reading>>>);

impl Table {
    /// The current reading. It stays unchanged when the dialect is changed.
    pub fn reading(&self) -> Arc<Reading> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, reading: &Arc<Reading>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(reading);
    }
}

/// The writer of a table. It never blocks readers.
pub struct Writer {
    table: Table,
    context: IntakeContext,
    intake: Intake,
    choice: Choice,
    received: u64,
    finished: bool,
    broken: bool,
}

impl Writer {
    /// Creates an empty table in `folder`, which must exist and contain no table.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Dialect`] for an invalid choice.
    pub fn create(folder: &Path, choice: Choice, limits: Limits) -> Result<Self, Error> {
        Self::create_within(Arc::new(Unlimited), folder, choice, limits)
    }

    /// As [`Self::create`], with a budget for the unlinked files of the table and all its views.
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

    /// Opens the table in `folder` and reads all of it: about as fast as the disk, at most three times as long as `wc
    /// -l`. `opened` receives the table at once, so that its first rows are available meanwhile.
    ///
    /// It is read in the stored dialect ([`DIALECT`](crate::DIALECT)), unless another `choice` replaces it as in
    /// [`Self::reread`]. There is no stored index that could be stale after a crash.
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

    /// As [`Self::open`], with a budget for the unlinked files of the table and all its views.
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
        Self::open_named(budget, folder, ORIGINAL, choice, limits, control, opened)
    }

    /// As [`Self::open_within`], of the file with this name beside the stored dialect, which may later replace the file of
    /// the table.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_named(
        budget: Arc<dyn Budget>,
        folder: &Path,
        name: &str,
        choice: Choice,
        limits: Limits,
        control: Control<'_>,
        opened: impl FnOnce(&Table),
    ) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(name))?;
        let received = file.metadata()?.len();
        let stored = StoredDialect::load(folder)?;
        let mut writer = Self::new(file, Folder::new(folder, budget), choice.clone(), limits)?;
        opened(&writer.table);
        writer.received = received;
        match writer.read_again(choice.clone(), None, stored.clone(), true, true, control) {
            // The file may be a part of a file that is fetched now; otherwise the next call reports the error.
            Err(Error::Format(_)) if stored.as_ref().is_some_and(StoredDialect::needs_whole_file) => {
                writer.read_again(choice, None, stored, false, true, control)?;
            }
            read => read?,
        }
        writer.store_dialect(false)?;
        Ok(writer)
    }

    fn new(file: File, folder: Folder, choice: Choice, limits: Limits) -> Result<Self, Error> {
        let context = IntakeContext { original: Arc::new(file), folder, limits };
        // The table before the first byte equals an empty file.
        let mut empty = Intake::new(context.clone(), choice.clone(), None, None);
        empty.finish(0, &mut |_, _| Ok(()))?;
        let reading = empty.reading().expect("a finished intake has a reading");
        reading.state_mut().finished = false;
        let table = Table(Arc::new(RwLock::new(Arc::clone(reading))));
        let intake = Intake::new(context.clone(), choice.clone(), None, None);
        Ok(Self { table, context, intake, choice, received: 0, finished: false, broken: false })
    }

    /// The readers' handle of the table.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The received file, to which this writer alone writes.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.context.original)
    }

    /// Whether another file has replaced that of the writer in its folder. It must be opened again then.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn is_replaced(&self) -> io::Result<bool> {
        let (own, now) =
            (self.context.original.metadata()?, fs::metadata(self.context.folder.path().join(ORIGINAL))?);
        Ok((own.dev(), own.ino()) != (now.dev(), now.ino()))
    }

    /// Appends bytes of the file, split anywhere. On return, the complete rows are available to readers.
    ///
    /// # Errors
    /// [`Error::Io`] (for example when the disk is full), [`Error::TooLarge`], [`Error::NotText`],
    /// [`Error::Compression`], [`Error::TooMany`]. After an error the file and the state of readers are unchanged, and
    /// every further call returns [`Error::Broken`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<Summary, Error> {
        if self.is_converted() {
            return Err(Error::Unwritable("rows cannot be appended to an XLSX or Parquet file"));
        }
        self.guarded(|writer| {
            writer.write(bytes)?;
            writer.finished = false;
            let finding = writer.intake.take(bytes, writer.received)?;
            writer.apply_finding(finding)
        })
    }

    /// Ends the file: a last row without a line break counts from now on. More may be appended, and is read in the
    /// current dialect if there are two lines or more; bytes that are invalid in its encoding are then shown as U+FFFD
    /// ([`Summary::lossy`]).
    ///
    /// # Errors
    /// As [`Self::append`]; [`Error::Compression`] for incomplete compressed data.
    pub fn finish(&mut self) -> Result<Summary, Error> {
        self.finish_observed(&mut |_| Ok(()))
    }

    /// As [`Self::finish`]. An XLSX or Parquet file is converted now: `observe` receives the state repeatedly while rows
    /// become available, and cancels by an error.
    ///
    /// # Errors
    /// As [`Self::finish`]; [`Error::Format`], [`Error::FormatLimit`], [`Error::NoSheet`]; the error of `observe`.
    pub fn finish_observed(
        &mut self,
        observe: &mut dyn FnMut(Summary) -> Result<(), Error>,
    ) -> Result<Summary, Error> {
        if self.is_converted() {
            return Ok(self.table.reading().summary());
        }
        self.guarded(|writer| {
            writer.finished = true;
            let Self { table, intake, received, .. } = writer;
            let finding = intake.finish(*received, &mut |reading, _| {
                table.set(reading);
                observe(reading.summary())
            })?;
            let summary = writer.apply_finding(finding)?;
            writer.store_dialect(false)?;
            Ok(summary)
        })
    }

    /// Whether the file is complete and of a format that rows cannot be appended to.
    fn is_converted(&self) -> bool {
        self.finished && self.received > 0 && self.intake.format().needs_whole_file()
    }

    /// Appends rows in the dialect, encoding and compression of the file, on a line of their own. The file counts as
    /// finished afterwards.
    ///
    /// # Errors
    /// [`Error::Unwritable`] when a cell cannot be written in them; nothing is appended, and the writer is unchanged.
    /// Otherwise as [`Self::append`].
    pub fn append_rows<R, C>(&mut self, rows: R) -> Result<Summary, Error>
    where
        R: IntoIterator,
        R::Item: IntoIterator<Item = C>,
        C: AsRef<str>,
    {
        if self.broken {
            return Err(Error::Broken);
        }
        if self.intake.format() != FileFormat::Text {
            return Err(Error::Unwritable("cells cannot be appended to a JSON, XLSX or Parquet file"));
        }
        self.finish()?;
        // From now on the file must be read in the dialect of the appended rows.
        self.store_dialect(true)?;
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

    /// Appends JSON objects to a file of JSON objects. Returns their number. The file counts as finished afterwards.
    ///
    /// # Errors
    /// [`Error::Format`] when the bytes are not complete objects; [`Error::Unwritable`] when the file is an array, or
    /// compressed. Nothing is appended then, and the writer is unchanged. Otherwise as [`Self::append`].
    pub fn append_json(&mut self, objects: &[u8]) -> Result<u64, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let rows = self.intake.check_json(objects)?;
        if rows > 0 {
            let mut last = [b'\n'];
            if let Some(at) = self.received.checked_sub(1) {
                self.context.original.read_exact_at(&mut last, at)?;
            }
            if last != *b"\n" {
                self.append(b"\n")?;
            }
            self.append(objects)?;
            self.finish()?;
        }
        Ok(rows)
    }

    /// Reads bytes that another process, or a download from a store, has appended to the file. The caller must ensure
    /// that no append runs at the same time.
    ///
    /// # Errors
    /// As [`Self::append`], without the limit on the file's size, and [`Error::Cancelled`]. After an error the file is
    /// unchanged, and every further call returns [`Error::Broken`].
    pub fn catch_up(&mut self, control: Control<'_>) -> Result<Summary, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let taken = self.take_in(control);
        self.broken = taken.is_err();
        taken
    }

    fn take_in(&mut self, control: Control<'_>) -> Result<Summary, Error> {
        let end = self.context.original.metadata()?.len();
        let mut buffer = vec![0; PIECE_SIZE];
        self.intake.expect(end);
        while self.received < end {
            control.check()?;
            let length = (end - self.received).min(PIECE_SIZE as u64) as usize;
            self.context.original.read_exact_at(&mut buffer[..length], self.received)?;
            self.received += length as u64;
            self.finished = false;
            let finding = self.intake.take(&buffer[..length], self.received)?;
            self.apply_finding(finding)?;
        }
        Ok(self.table.reading().summary())
    }

    /// Reads the received part of the file again in another dialect. Until then readers have the old reading. It takes
    /// as long as [`Self::open`].
    ///
    /// # Errors
    /// As [`Self::append`], and [`Error::Cancelled`]. After an error the old reading and the writer are unchanged.
    pub fn reread(&mut self, choice: Choice, control: Control<'_>) -> Result<Summary, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let stored = self.intake.stored().cloned();
        self.read_again(choice, None, stored, self.finished, false, control)?;
        Ok(self.table.reading().summary())
    }

    /// Reads the whole file with `choice`; `show`: readers see it while it is read.
    fn read_again(
        &mut self,
        choice: Choice,
        later: Option<Encoding>,
        stored: Option<StoredDialect>,
        finished: bool,
        show: bool,
        control: Control<'_>,
    ) -> Result<(), Error> {
        choice.check()?;
        let mut intake = Intake::new(self.context.clone(), choice.clone(), later, stored);
        intake.expect(self.received);
        let mut finding = Finding::None;
        let (mut at, mut buffer) = (0, vec![0; PIECE_SIZE]);
        while at < self.received && finding == Finding::None {
            control.check()?;
            let length = (self.received - at).min(PIECE_SIZE as u64) as usize;
            self.context.original.read_exact_at(&mut buffer[..length], at)?;
            at += length as u64;
            finding = intake.take(&buffer[..length], at)?;
            if show {
                self.show(&intake);
            }
            // A complete file is converted afterwards, which takes longer.
            if !intake.format().needs_whole_file() {
                control.report(at, self.received, (0.0, 1.0));
            }
        }
        if finished && finding == Finding::None {
            let table = &self.table;
            finding = intake.finish(at, &mut |reading, part| {
                if show {
                    table.set(reading);
                }
                control.report((part * 1000.0) as u64, 1000, (0.0, 1.0));
                control.check()
            })?;
        }
        if let Finding::Encoding(encoding) = finding {
            let stored = intake.stored().cloned();
            return self.read_again(choice, Some(encoding), stored, finished, show, control);
        }
        self.show(&intake);
        (self.intake, self.choice, self.finished) = (intake, choice, finished);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let limit = self.context.limits.original_bytes;
        if self.received + bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: "the file", limit });
        }
        self.context.original.write_all_at(bytes, self.received)?;
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Applies a finding of the intake, and publishes the result to readers.
    fn apply_finding(&mut self, finding: Finding) -> Result<Summary, Error> {
        match finding {
            Finding::None => self.show(&self.intake),
            Finding::Encoding(encoding) => {
                let (choice, stored) = (self.choice.clone(), self.intake.stored().cloned());
                let later = Some(encoding);
                self.read_again(choice, later, stored, self.finished, false, Control::default())?;
            }
        }
        Ok(self.table.reading().summary())
    }

    /// Stores the dialect if the file has ended with two lines; `anyway`: stores all but the header, whatever the
    /// number of lines.
    fn store_dialect(&mut self, anyway: bool) -> Result<(), Error> {
        if self.intake.stored().is_some_and(|stored| !stored.header_open) {
            return Ok(());
        }
        let header_open = self.table.reading().summary().lines < 2;
        // The format is final.
        let anyway = anyway || self.intake.format() != FileFormat::Text && self.finished;
        if header_open && !anyway {
            return Ok(());
        }
        if let Some(stored) = self.intake.final_dialect(header_open) {
            if self.intake.stored() != Some(&stored) {
                stored.save(self.context.folder.path())?;
            }
            self.intake.fix_dialect(stored);
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

    /// Runs an operation that leaves an undefined state when it fails.
    fn guarded(&mut self, run: impl FnOnce(&mut Self) -> Result<Summary, Error>) -> Result<Summary, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let before = self.received;
        let result = run(self);
        if result.is_err() {
            self.broken = true;
            // If the truncation fails too, this process still never reads the superfluous bytes.
            let _ = self.context.original.set_len(before);
        }
        result
    }
}
