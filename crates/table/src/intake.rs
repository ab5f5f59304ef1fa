//! Makes a reading of bytes as they arrive: unpack, guess, decode, index, publish.
//!
//! Until [`HEAD_BYTES`] of text have come the guess is made anew whenever the text has doubled, and the reading
//! begins again if it came out differently; so the first rows show at once, and a slow stream is not judged by
//! its first line.
//!
//! When the file ends and has two lines or more, its dialect is final ([`Kept`]): appended rows are read like the rows
//! before, and bytes that are invalid in the encoding are shown as U+FFFD. With one line or none the guess goes on with
//! the following rows.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use chardetng::{EncodingDetector, Iso2022JpDetection};

use crate::compression::Unpacker;
use crate::dialect::{self, Choice, Dialect, Given, HEAD_BYTES, Kept, Known, LONG_HEAD_BYTES};
use crate::disk::{Folder, Nameless};
use crate::encoding::{self, Decoder, Encoding, Evidence};
use crate::index::Indexer;
use crate::reading::{Reading, Source, Text};
use crate::{Compression, Error, Limits};

/// How much is decoded and indexed at once, so that it stays in a core's cache from step to step.
const PIECE: usize = 64 << 10;

/// The environment of an intake.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file as it was received.
    pub(crate) original: Arc<File>,
    /// Where temporary files go.
    pub(crate) folder: Folder,
    pub(crate) limits: Limits,
}

/// The state of reading one file with one choice.
pub(crate) struct Intake {
    place: Place,
    known: Known,
    /// The first bytes, until they say how the file is packed.
    magic: Vec<u8>,
    unpacker: Option<Unpacker>,
    /// The bytes that have come of unpacking.
    unpacked: u64,
    /// The bytes of the file that are known to be there, received through this intake or not.
    present: u64,
    rest: Rest,
}

/// What comes after unpacking.
struct Rest {
    /// The first unpacked bytes, until the guess is final; empty afterwards.
    head: Vec<u8>,
    /// How long the head may become.
    most: usize,
    /// How much of the head went into the last guess.
    looked: usize,
    /// How long the head was when it was last judged, and whether the file ended there; `None` when the guess is
    /// final.
    judged: Option<(usize, bool)>,
    build: Option<Build>,
    /// Examines the bytes that are not UTF-8, once such bytes have appeared after the head.
    suspicion: Option<EncodingDetector>,
}

/// What an intake found out that changes everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing.
    None,
    /// The text was ASCII and goes on in this encoding: the file must be read again from the start.
    Encoding(Encoding),
}

impl Intake {
    /// An intake at the start of a file. `later`: what an earlier one found ([`Finding::Encoding`]); `kept`: what
    /// was found when the file was whole.
    pub(crate) fn new(place: Place, choice: Choice, later: Option<Encoding>, kept: Option<Kept>) -> Self {
        let most = match &kept {
            Some(kept) if !kept.header_open => kept.looked.min(LONG_HEAD_BYTES as u64) as usize,
            _ => HEAD_BYTES,
        };
        Self {
            place,
            known: Known { choice, later, compression: Compression::None, kept },
            magic: Vec::new(),
            unpacker: None,
            unpacked: 0,
            present: 0,
            rest: Rest {
                head: Vec::new(),
                most,
                looked: 0,
                judged: Some((0, false)),
                build: None,
                suspicion: None,
            },
        }
    }

    /// Says that the file has so many bytes, of which some are still to be taken: what they unpack to is measured by all of
    /// them, so that a file is read again as it was read while it came in, in whatever pieces.
    pub(crate) fn expect(&mut self, bytes: u64) {
        self.present = self.present.max(bytes);
    }

    /// The reading so far, once something of the text is there.
    pub(crate) fn reading(&self) -> Option<&Arc<Reading>> {
        self.rest.build.as_ref().map(|build| &build.reading)
    }

    /// Whether the text ends within a row, which bytes that follow would continue.
    pub(crate) fn is_in_row(&self) -> bool {
        self.rest.build.as_ref().is_some_and(|build| build.indexer.is_in_row())
    }

    /// Whether the file ends within a character, so that whatever follows would be read as something else.
    pub(crate) fn is_in_character(&self) -> bool {
        let is_half = |build: &Build| build.reading.dialect().encoding.is_utf_16() && build.fed % 2 == 1;
        self.rest.build.as_ref().is_some_and(is_half)
    }

    /// What was found when the file was whole, if that was noted.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.known.kept.as_ref()
    }

    /// How the file is read now, for good; `header_open`: but for the header.
    pub(crate) fn found(&self, header_open: bool) -> Option<Kept> {
        Some(Kept {
            dialect: self.reading()?.dialect().clone(),
            given: Given::by(&self.known.choice),
            looked: self.rest.looked as u64,
            header_open,
        })
    }

    /// Fixes the dialect, whatever follows.
    pub(crate) fn keep(&mut self, kept: Kept) {
        if !kept.header_open {
            (self.rest.judged, self.rest.head) = (None, Vec::new());
        }
        if let Some(build) = &mut self.rest.build {
            build.sure = true;
        }
        self.known.kept = Some(kept);
    }

    /// Takes the bytes that follow in the file, of which `received` have been received with them.
    pub(crate) fn take(&mut self, bytes: &[u8], received: u64) -> Result<Finding, Error> {
        self.expect(received);
        if self.unpacker.is_some() {
            self.unpack(bytes)?;
        } else {
            self.magic.extend_from_slice(bytes);
            self.begin(false)?;
        }
        Ok(self.rest.publish(received, false))
    }

    /// Ends the file, of which `received` bytes have been received. More may be taken afterwards.
    pub(crate) fn finish(&mut self, received: u64) -> Result<Finding, Error> {
        if self.unpacker.is_none() {
            self.begin(true)?;
        }
        self.expect(received);
        let Self { place, known, rest, unpacker, unpacked, present, .. } = self;
        let unpacker = unpacker.as_mut().expect("it has begun");
        unpacker.finish(|piece| {
            check_ratio(unpacked, piece, *present, known, place)?;
            rest.take(piece, place, known)
        })?;
        rest.judge(true, place, known)?;
        rest.feed(&[], true, place)?;
        Ok(rest.publish(received, true))
    }

    /// Starts unpacking when the first bytes say how.
    fn begin(&mut self, whole: bool) -> Result<(), Error> {
        let kept = self.kept().map(|kept| kept.dialect.compression);
        let Some(compression) = kept.or_else(|| Compression::detect(&self.magic, whole)) else {
            return Ok(());
        };
        self.known.compression = compression;
        self.unpacker = Some(Unpacker::new(compression));
        let first = std::mem::take(&mut self.magic);
        self.unpack(&first)
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Self { place, known, rest, unpacker, unpacked, present, .. } = self;
        let unpacker = unpacker.as_mut().expect("it has begun");
        bytes.chunks(PIECE).try_for_each(|piece| {
            unpacker.unpack(piece, |piece| {
                check_ratio(unpacked, piece, *present, known, place)?;
                rest.take(piece, place, known)
            })
        })
    }
}

/// Counts a piece of a packed file; an error if the file unpacks to too much for the bytes that are there of it.
fn check_ratio(
    unpacked: &mut u64,
    piece: &[u8],
    present: u64,
    known: &Known,
    place: &Place,
) -> Result<(), Error> {
    *unpacked += piece.len() as u64;
    let ratio = place.limits.unpack_ratio;
    let most = present.saturating_mul(ratio).saturating_add(Limits::UNPACK_FREE);
    if known.compression != Compression::None && *unpacked > most {
        return Err(Error::UnpackRatio { ratio });
    }
    Ok(())
}

impl Rest {
    fn take(&mut self, mut bytes: &[u8], place: &Place, known: &Known) -> Result<(), Error> {
        // Once more when the guess asks for a longer head.
        while let Some((judged, _)) = self.judged {
            let (first, after) = bytes.split_at(bytes.len().min(self.most - self.head.len()));
            self.head.extend_from_slice(first);
            let has_grown = self.head.len() >= 2 * judged.max(1) || self.head.len() == self.most;
            if has_grown || self.build.as_ref().is_some_and(|build| build.is_refuted_by(first)) {
                self.judge(false, place, known)?;
            } else {
                self.feed(first, false, place)?;
            }
            bytes = after;
            if bytes.is_empty() {
                break;
            }
        }
        bytes.chunks(PIECE).try_for_each(|piece| self.feed(piece, false, place))
    }

    /// Guesses from the head, and reads it anew if the guess is another one than before.
    fn judge(&mut self, whole: bool, place: &Place, known: &Known) -> Result<(), Error> {
        if self.judged.is_none_or(|judged| judged == (self.head.len(), whole) && whole) {
            return Ok(());
        }
        let is_full = self.head.len() == self.most;
        // The head of a file that was whole then is all there was; but one that was cut goes on.
        let was_cut = matches!(self.most, HEAD_BYTES | LONG_HEAD_BYTES);
        let (dialect, open) = dialect::guess(&self.head, whole || is_full && !was_cut, known)?;
        let build = match self.build.take() {
            Some(build) if *build.reading.dialect() == dialect => build,
            _ => Build::new(dialect, known.is_sure(), place)?,
        };
        let build = self.build.insert(build);
        build.feed(&self.head[build.fed..], false, place)?;
        (self.judged, self.looked) = (Some((self.head.len(), whole)), self.head.len());
        if is_full && open && self.most == HEAD_BYTES {
            self.most = LONG_HEAD_BYTES;
        } else if is_full {
            self.judged = None;
            self.head = Vec::new();
        }
        Ok(())
    }

    /// Has bytes read; or only listened to, once they are known to be in another encoding.
    fn feed(&mut self, bytes: &[u8], last: bool, place: &Place) -> Result<(), Error> {
        let Some(build) = &mut self.build else { return Ok(()) };
        if self.suspicion.is_none() && build.is_refuted_by(bytes) {
            self.suspicion = Some(EncodingDetector::new(Iso2022JpDetection::Deny));
        }
        match &mut self.suspicion {
            Some(detector) => {
                detector.feed(bytes, false);
                Ok(())
            }
            None => build.feed(bytes, last, place),
        }
    }

    /// Shows readers what there is, unless all must be read again.
    fn publish(&mut self, received: u64, finished: bool) -> Finding {
        if let Some(detector) = &self.suspicion {
            return Finding::Encoding(encoding::legacy(detector));
        }
        if let Some(build) = &mut self.build {
            build.publish(received, finished);
        }
        Finding::None
    }
}

/// A reading that is being made.
struct Build {
    reading: Arc<Reading>,
    decoder: Decoder,
    indexer: Indexer,
    /// The file of UTF-8 beside the original; `None` when the original is UTF-8 itself.
    beside: Option<Arc<Nameless>>,
    /// The unpacked bytes taken so far.
    fed: usize,
    /// The bytes of UTF-8 that came of them.
    text: u64,
    /// How many bytes of the text are left out at its start ([`Dialect::start`]).
    start: u64,
    lossy: bool,
    /// Whether the encoding was found when the file was whole: whatever follows, it is that.
    sure: bool,
}

impl Build {
    fn new(dialect: Dialect, sure: bool, place: &Place) -> Result<Self, Error> {
        let is_original = dialect.encoding == Encoding::UTF_8 && dialect.compression == Compression::None;
        let beside = if is_original { None } else { Some(Arc::new(place.folder.nameless()?)) };
        let source = match &beside {
            Some(beside) => Source::Beside(Arc::clone(beside)),
            None => Source::Original(Arc::clone(&place.original)),
        };
        let start = dialect.start;
        let text = Text::new(source, start);
        let (decoder, indexer) = (Decoder::new(dialect.encoding), Indexer::new(dialect.syntax));
        let reading = Reading::new(dialect, place.limits, text, place.folder.clone());
        let reading = Arc::new(reading);
        Ok(Self { reading, decoder, indexer, beside, fed: 0, text: 0, start, lossy: false, sure })
    }

    /// Whether these bytes, which follow, show that the text is not UTF-8 though it was taken for that.
    fn is_refuted_by(&self, bytes: &[u8]) -> bool {
        !self.sure && self.reading.dialect().evidence == Evidence::Valid && self.decoder.is_refuted_by(bytes)
    }

    fn feed(&mut self, bytes: &[u8], last: bool, place: &Place) -> Result<(), Error> {
        let Self { decoder, indexer, beside, text, start, .. } = self;
        self.fed = self.fed.saturating_add(bytes.len());
        let all = decoder.decode(bytes, last, |piece| {
            if *text + piece.len() as u64 > place.limits.text_bytes {
                return Err(Error::TooLarge { what: "the decoded text", limit: place.limits.text_bytes });
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

    /// Shows readers what has been indexed.
    fn publish(&mut self, received: u64, finished: bool) {
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
    }
}
