//! Builds a reading from bytes as they arrive: decompress, convert, guess, decode, index, publish.
//!
//! Until [`HEAD_BYTES`] of text have arrived, the dialect is guessed again each time the text has doubled, and the
//! reading restarts if the guess changes. So the first rows are available at once, and the dialect of a slow stream
//! does not depend on its first line alone.
//!
//! When the file ends with two lines or more, its dialect is final ([`StoredDialect`]): appended rows are read like
//! earlier rows, and bytes that are invalid in the encoding are shown as U+FFFD. With at most one line the guess
//! continues with the following rows.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use chardetng::{EncodingDetector, Iso2022JpDetection};

use crate::compression::Unpacker;
use crate::conversion::{Converter, FormatFacts};
use crate::dialect::{
    self, Choice, ChosenFields, Dialect, GuessContext, HEAD_BYTES, LONG_HEAD_BYTES, StoredDialect,
};
use crate::disk::{Folder, UnlinkedFile};
use crate::encoding::{self, Decoder, Encoding, Evidence};
use crate::index::Indexer;
use crate::reading::{Reading, Source, Text};
use crate::{Compression, Error, FileFormat, Limits};

/// The bytes that are decoded and indexed at once, small enough for a core's cache.
const PIECE_SIZE: usize = 64 << 10;

/// The environment of an intake.
#[derive(Clone, Debug)]
pub(crate) struct IntakeContext {
    /// The received file.
    pub(crate) original: Arc<File>,
    /// The folder of temporary files.
    pub(crate) folder: Folder,
    pub(crate) limits: Limits,
}

/// The state of reading one file with one choice.
pub(crate) struct Intake {
    context: IntakeContext,
    known: GuessContext,
    /// The first bytes, until the compression is detected.
    magic: Vec<u8>,
    unpacker: Option<Unpacker>,
    /// The bytes after decompression.
    unpacked: u64,
    converter: Converter,
    /// The bytes of the file that exist, including those that were not read yet.
    present: u64,
    rest: DecodeStage,
}

/// Receives the reading with the rows so far while a complete file is converted, and the part that is complete. Cancels
/// by an error.
pub(crate) type ConversionStep<'a> = &'a mut dyn FnMut(&Arc<Reading>, f32) -> Result<(), Error>;

/// The stages after decompression and conversion.
struct DecodeStage {
    /// The first decompressed bytes, until the guess is final; empty afterwards.
    head: Vec<u8>,
    /// The longest head.
    most: usize,
    /// The length of the head in the last guess.
    looked: usize,
    /// The length of the head at the last guess, and whether the file ended there; `None` when the guess is final.
    last_guess: Option<(usize, bool)>,
    build: Option<ReadingBuilder>,
    /// Detects the encoding if invalid UTF-8 has appeared after the head.
    suspicion: Option<EncodingDetector>,
}

/// A finding that affects the text that was already read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// No finding.
    None,
    /// The text was ASCII and continues in this encoding: the file must be read again from the start.
    Encoding(Encoding),
}

impl Intake {
    /// An intake at the start of a file. `later`: the encoding of an earlier [`Finding::Encoding`]; `stored`: the
    /// stored dialect of the complete file.
    pub(crate) fn new(
        context: IntakeContext,
        choice: Choice,
        later: Option<Encoding>,
        stored: Option<StoredDialect>,
    ) -> Self {
        let most = match &stored {
            // Another sheet than the stored one is another text.
            Some(stored) if !stored.header_open && choice.sheet.is_none() => {
                stored.looked.min(LONG_HEAD_BYTES as u64) as usize
            }
            _ => HEAD_BYTES,
        };
        Self {
            context,
            known: GuessContext {
                choice,
                later,
                compression: Compression::None,
                stored,
                format: FileFormat::Text,
                facts: Arc::default(),
            },
            magic: Vec::new(),
            unpacker: None,
            unpacked: 0,
            converter: Converter::new(),
            present: 0,
            rest: DecodeStage {
                head: Vec::new(),
                most,
                looked: 0,
                last_guess: Some((0, false)),
                build: None,
                suspicion: None,
            },
        }
    }

    /// Announces the size of the file, of which a part follows. The decompression ratio is measured against this size,
    /// so that reading a file again gives the same result however it is split.
    pub(crate) fn expect(&mut self, bytes: u64) {
        self.present = self.present.max(bytes);
    }

    /// The current reading, once there is text.
    pub(crate) fn reading(&self) -> Option<&Arc<Reading>> {
        self.rest.build.as_ref().map(|build| &build.reading)
    }

    /// The format of the file.
    pub(crate) const fn format(&self) -> FileFormat {
        self.known.format
    }

    /// The number of these objects.
    ///
    /// # Errors
    /// When they cannot follow the file.
    pub(crate) fn check_json(&self, objects: &[u8]) -> Result<u64, Error> {
        if self.known.compression != Compression::None {
            return Err(Error::Unwritable("objects cannot be appended to a compressed file"));
        }
        self.converter.check_json(objects)
    }

    /// Whether the text ends within a row, which following bytes would continue.
    pub(crate) fn is_in_row(&self) -> bool {
        self.rest.build.as_ref().is_some_and(|build| build.indexer.is_in_row())
    }

    /// Whether the file ends within a character, which following bytes would change.
    pub(crate) fn is_in_character(&self) -> bool {
        let is_half =
            |build: &ReadingBuilder| build.reading.dialect().encoding.is_utf_16() && build.fed % 2 == 1;
        self.rest.build.as_ref().is_some_and(is_half)
    }

    /// The stored dialect, if there is one.
    pub(crate) fn stored(&self) -> Option<&StoredDialect> {
        self.known.stored.as_ref()
    }

    /// The final dialect; `header_open`: without the header.
    pub(crate) fn final_dialect(&self, header_open: bool) -> Option<StoredDialect> {
        Some(StoredDialect {
            dialect: self.reading()?.dialect().clone(),
            given: ChosenFields::by(&self.known.choice),
            looked: self.rest.looked as u64,
            header_open,
        })
    }

    /// Fixes the dialect for all following bytes.
    pub(crate) fn fix_dialect(&mut self, stored: StoredDialect) {
        if !stored.header_open {
            (self.rest.last_guess, self.rest.head) = (None, Vec::new());
        }
        if let Some(build) = &mut self.rest.build {
            build.sure = true;
        }
        self.known.stored = Some(stored);
    }

    /// Reads the following bytes of the file. `received`: the received bytes including these.
    pub(crate) fn take(&mut self, bytes: &[u8], received: u64) -> Result<Finding, Error> {
        self.expect(received);
        if self.unpacker.is_some() {
            self.unpack(bytes)?;
        } else {
            self.magic.extend_from_slice(bytes);
            self.begin(false)?;
        }
        Ok(self.rest.publish(received, false, self.converter.names()))
    }

    /// Ends the file of `received` bytes. More may follow.
    pub(crate) fn finish(&mut self, received: u64, step: ConversionStep<'_>) -> Result<Finding, Error> {
        if self.unpacker.is_none() {
            self.begin(true)?;
        }
        self.expect(received);
        let Self { context, known, rest, unpacker, unpacked, converter, present, .. } = self;
        let (unpacker, compression) = (unpacker.as_mut().expect("it has begun"), known.compression);
        unpacker.finish(|piece| {
            check_ratio(unpacked, piece, *present, compression, context)?;
            converter
                .take(piece, *present, context, known, &mut |text, known| rest.take(text, context, known))
        })?;
        let stage = RefCell::new(&mut *rest);
        converter.finish(
            *present,
            context,
            known,
            &mut |text, known| stage.borrow_mut().take(text, context, known),
            &mut |part| {
                let mut rest = stage.borrow_mut();
                rest.publish(received, false, None);
                rest.build.as_ref().map_or(Ok(()), |build| step(&build.reading, part))
            },
        )?;
        rest.guess_dialect(true, context, known)?;
        rest.feed(&[], true, context)?;
        Ok(rest.publish(received, true, converter.names()))
    }

    /// Starts decompression once the compression is detected.
    fn begin(&mut self, whole: bool) -> Result<(), Error> {
        let stored = self.stored().map(|stored| stored.dialect.compression);
        let Some(compression) = stored.or_else(|| Compression::detect(&self.magic, whole)) else {
            return Ok(());
        };
        self.known.compression = compression;
        self.unpacker = Some(Unpacker::new(compression));
        let first = std::mem::take(&mut self.magic);
        self.unpack(&first)
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Self { context, known, rest, unpacker, unpacked, converter, present, .. } = self;
        let (unpacker, compression) = (unpacker.as_mut().expect("it has begun"), known.compression);
        bytes.chunks(PIECE_SIZE).try_for_each(|piece| {
            unpacker.unpack(piece, |piece| {
                check_ratio(unpacked, piece, *present, compression, context)?;
                converter
                    .take(piece, *present, context, known, &mut |text, known| rest.take(text, context, known))
            })
        })
    }
}

/// Counts a decompressed piece. Returns an error if the ratio to the existing bytes is too large.
fn check_ratio(
    unpacked: &mut u64,
    piece: &[u8],
    present: u64,
    compression: Compression,
    context: &IntakeContext,
) -> Result<(), Error> {
    *unpacked += piece.len() as u64;
    let ratio = context.limits.unpack_ratio;
    let most = present.saturating_mul(ratio).saturating_add(Limits::UNPACK_FREE);
    if compression != Compression::None && *unpacked > most {
        return Err(Error::UnpackRatio { ratio });
    }
    Ok(())
}

impl DecodeStage {
    fn take(&mut self, mut bytes: &[u8], context: &IntakeContext, known: &GuessContext) -> Result<(), Error> {
        // Repeated when the guess requires a longer head.
        while let Some((last_guess, _)) = self.last_guess {
            let (first, after) = bytes.split_at(bytes.len().min(self.most - self.head.len()));
            self.head.extend_from_slice(first);
            let has_grown = self.head.len() >= 2 * last_guess.max(1) || self.head.len() == self.most;
            if has_grown || self.build.as_ref().is_some_and(|build| build.is_refuted_by(first)) {
                self.guess_dialect(false, context, known)?;
            } else {
                self.feed(first, false, context)?;
            }
            bytes = after;
            if bytes.is_empty() {
                break;
            }
        }
        bytes.chunks(PIECE_SIZE).try_for_each(|piece| self.feed(piece, false, context))
    }

    /// Guesses from the head, and reads it again if the guess has changed.
    fn guess_dialect(
        &mut self,
        whole: bool,
        context: &IntakeContext,
        known: &GuessContext,
    ) -> Result<(), Error> {
        if self.last_guess.is_none_or(|last_guess| last_guess == (self.head.len(), whole) && whole) {
            return Ok(());
        }
        let is_full = self.head.len() == self.most;
        // The head of a complete file is all of it; a truncated head continues.
        let was_cut = matches!(self.most, HEAD_BYTES | LONG_HEAD_BYTES);
        let (dialect, open) = dialect::guess(&self.head, whole || is_full && !was_cut, known)?;
        let build = match self.build.take() {
            Some(build) if *build.reading.dialect() == dialect => build,
            _ => ReadingBuilder::new(dialect, known.is_sure(), Arc::clone(&known.facts), context)?,
        };
        let build = self.build.insert(build);
        build.feed(&self.head[build.fed..], false, context)?;
        (self.last_guess, self.looked) = (Some((self.head.len(), whole)), self.head.len());
        if is_full && open && self.most == HEAD_BYTES {
            self.most = LONG_HEAD_BYTES;
        } else if is_full {
            self.last_guess = None;
            self.head = Vec::new();
        }
        Ok(())
    }

    /// Reads bytes, or only detects their encoding once another encoding is suspected.
    fn feed(&mut self, bytes: &[u8], last: bool, context: &IntakeContext) -> Result<(), Error> {
        let Some(build) = &mut self.build else { return Ok(()) };
        if self.suspicion.is_none() && build.is_refuted_by(bytes) {
            self.suspicion = Some(EncodingDetector::new(Iso2022JpDetection::Deny));
        }
        match &mut self.suspicion {
            Some(detector) => {
                detector.feed(bytes, false);
                Ok(())
            }
            None => build.feed(bytes, last, context),
        }
    }

    /// Publishes the state to readers, unless the file must be read again.
    fn publish(&mut self, received: u64, finished: bool, names: Option<&Arc<Vec<String>>>) -> Finding {
        if let Some(detector) = &self.suspicion {
            return Finding::Encoding(encoding::legacy(detector));
        }
        if let Some(build) = &mut self.build {
            build.publish(received, finished, names);
        }
        Finding::None
    }
}

/// A reading under construction.
struct ReadingBuilder {
    reading: Arc<Reading>,
    decoder: Decoder,
    indexer: Indexer,
    /// The decoded text; `None` when the original is UTF-8.
    beside: Option<Arc<UnlinkedFile>>,
    /// The decompressed bytes read so far.
    fed: usize,
    /// The bytes of UTF-8 text so far.
    text: u64,
    /// The skipped bytes at the start of the text ([`Dialect::start`]).
    start: u64,
    lossy: bool,
    /// Whether the encoding is final because the file was complete.
    sure: bool,
}

impl ReadingBuilder {
    fn new(
        dialect: Dialect,
        sure: bool,
        facts: Arc<FormatFacts>,
        context: &IntakeContext,
    ) -> Result<Self, Error> {
        let is_original = dialect.encoding == Encoding::UTF_8
            && dialect.compression == Compression::None
            && dialect.format == FileFormat::Text;
        let beside = if is_original { None } else { Some(Arc::new(context.folder.unlinked()?)) };
        let source = match &beside {
            Some(beside) => Source::Beside(Arc::clone(beside)),
            None => Source::Original(Arc::clone(&context.original)),
        };
        let start = dialect.start;
        let text = Text::new(source, start);
        let (decoder, indexer) = (Decoder::new(dialect.encoding), Indexer::new(dialect.syntax));
        let reading = Reading::new(dialect, context.limits, text, context.folder.clone(), facts);
        let reading = Arc::new(reading);
        Ok(Self { reading, decoder, indexer, beside, fed: 0, text: 0, start, lossy: false, sure })
    }

    /// Whether these bytes show that the text is not UTF-8 as assumed.
    fn is_refuted_by(&self, bytes: &[u8]) -> bool {
        !self.sure && self.reading.dialect().evidence == Evidence::Valid && self.decoder.is_refuted_by(bytes)
    }

    fn feed(&mut self, bytes: &[u8], last: bool, context: &IntakeContext) -> Result<(), Error> {
        let Self { decoder, indexer, beside, text, start, .. } = self;
        self.fed = self.fed.saturating_add(bytes.len());
        let all = decoder.decode(bytes, last, |piece| {
            if *text + piece.len() as u64 > context.limits.text_bytes {
                return Err(Error::TooLarge { what: "the decoded text", limit: context.limits.text_bytes });
            }
            if let Some(mut file) = beside.as_deref() {
                file.write_all(piece)?;
            }
            let skip = start.saturating_sub(*text).min(piece.len() as u64);
            *text += piece.len() as u64;
            indexer.append(&piece[skip as usize..])
        })?;
        self.lossy |= !all;
        Ok(())
    }

    /// Publishes the indexed rows to readers.
    fn publish(&mut self, received: u64, finished: bool, names: Option<&Arc<Vec<String>>>) {
        let settled = self.indexer.tally().rows;
        let tally = if finished { self.indexer.tally_at_end() } else { self.indexer.tally() };
        let mut state = self.reading.state_mut();
        state.blocks.extend(self.indexer.take_fresh());
        state.tally = tally;
        state.settled = settled;
        state.received = received;
        state.finished = finished;
        state.lossy = self.lossy;
        state.open_quote = self.indexer.is_in_quotes();
        state.sloppy = self.indexer.is_sloppy();
        if state.names.as_ref() != names {
            state.names = names.cloned();
        }
    }
}
