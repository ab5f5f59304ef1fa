//! The XML of a workbook as events, bounded in bytes.
//!
//! Invariant: one event has at most [`MAX_EVENT`] bytes, and a part at most the bytes that its reader is created with.
//! So neither a huge element nor a decompression bomb takes memory or time without a bound.

use std::io::{self, BufRead, BufReader, Read};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::zip::{Archive, Stream};
use super::{invalid, too_large};
use crate::FormatError;

/// The most bytes of one event: a tag, or a text without tags.
const MAX_EVENT: u64 = 4 << 20;

/// The XML of one part.
pub(super) struct Part<'a> {
    name: String,
    compressed: u64,
    reader: Reader<Bounded<'a>>,
    buffer: Vec<u8>,
}

/// Counts the bytes of an event and of all events.
struct Bounded<'a> {
    stream: BufReader<Stream<'a>>,
    event: u64,
    left: u64,
    exceeded: Option<Bound>,
}

#[derive(Clone, Copy)]
enum Bound {
    Event,
    Part,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let read = available.len().min(buffer.len());
        buffer[..read].copy_from_slice(&available[..read]);
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Bounded<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.event > MAX_EVENT || self.left == 0 {
            self.exceeded = Some(if self.left == 0 { Bound::Part } else { Bound::Event });
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.stream.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.event += bytes as u64;
        self.left = self.left.saturating_sub(bytes as u64);
        self.stream.consume(bytes);
    }
}

impl<'a> Part<'a> {
    /// The part of this name. It may have `limit` bytes.
    pub(super) fn open(archive: &Archive<'a>, name: &str, limit: u64) -> Result<Self, FormatError> {
        let (stream, compressed) = archive.stream(name)?;
        let stream = BufReader::with_capacity(32 << 10, stream);
        // Not zero at the end of a part with exactly this size.
        let bounded = Bounded { stream, event: 0, left: limit.saturating_add(1), exceeded: None };
        let mut reader = Reader::from_reader(bounded);
        reader.config_mut().check_end_names = false;
        Ok(Self { name: name.to_owned(), compressed, reader, buffer: Vec::new() })
    }

    /// The part of its compressed bytes that was read, from 0 to 1.
    pub(super) fn progress(&self) -> f32 {
        self.reader.get_ref().stream.get_ref().part(self.compressed)
    }

    /// Passes the next event to `handle`.
    pub(super) fn next<T>(
        &mut self,
        handle: impl FnOnce(&Event<'_>) -> Result<T, FormatError>,
    ) -> Result<T, FormatError> {
        self.buffer.clear();
        self.reader.get_mut().event = 0;
        match self.reader.read_event_into(&mut self.buffer) {
            Ok(event) => handle(&event),
            Err(error) => Err(match self.reader.get_ref().exceeded {
                Some(Bound::Event) => {
                    let what = format!("a longer XML element in {}", self.name);
                    too_large(&what, &format!("{MAX_EVENT} bytes"))
                }
                Some(Bound::Part) => {
                    let what = format!("too much XML in {}", self.name);
                    too_large(&what, "tables.max_unpack_ratio")
                }
                None => invalid(&format!("{}: {error}", self.name)),
            }),
        }
    }
}

/// The value of an attribute, by its local name.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut all = element.attributes();
    let all = all.with_checks(false).filter_map(Result::ok);
    let mut named = all.filter(|attribute| attribute.key.local_name().as_ref() == name.as_bytes());
    named.next().and_then(|found| Some(found.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned()))
}

/// Appends the text of an event, if it is one.
pub(super) fn text(event: &Event<'_>, out: &mut String) -> Result<(), FormatError> {
    match event {
        Event::Text(text) => out.push_str(&text.decode().map_err(|_| not_utf_8())?),
        Event::CData(text) => out.push_str(&text.decode().map_err(|_| not_utf_8())?),
        Event::GeneralRef(reference) => {
            if let Ok(Some(character)) = reference.resolve_char_ref() {
                out.push(character);
                return Ok(());
            }
            out.push(match &**reference {
                b"amp" => '&',
                b"lt" => '<',
                b"gt" => '>',
                b"quot" => '"',
                b"apos" => '\'',
                _ => return Err(invalid("an unknown XML entity")),
            });
        }
        _ => {}
    }
    Ok(())
}

fn not_utf_8() -> FormatError {
    invalid("its XML is not UTF-8")
}
