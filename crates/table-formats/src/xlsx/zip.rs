//! The ZIP archive of a workbook (PKWARE APPNOTE 6.3.10): its directory, and its files as streams.
//!
//! Invariant: sizes that the archive declares only position reads within the file; memory is bounded by
//! [`MAX_DIRECTORY`] and the buffers of the streams.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::DeflateDecoder;

use super::{invalid, too_large, unsupported};
use crate::FormatError;

/// The most bytes of the directory.
const MAX_DIRECTORY: u64 = 8 << 20;

/// The length of the end record without its comment, and of the longest comment.
const END: usize = 22;
const MAX_COMMENT: usize = u16::MAX as usize;

/// A ZIP archive.
pub(super) struct Archive<'a> {
    file: &'a File,
    size: u64,
    entries: Vec<Entry>,
}

/// A file of the archive.
struct Entry {
    name: String,
    method: u16,
    is_encrypted: bool,
    compressed: u64,
    /// The offset of its local header.
    header: u64,
}

/// Reads a range of a file.
pub(super) struct Slice<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (self.end.saturating_sub(self.at)).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The decompressed bytes of a file of the archive.
pub(super) enum Stream<'a> {
    Stored(BufReader<Slice<'a>>),
    Deflated(Box<DeflateDecoder<BufReader<Slice<'a>>>>),
}

impl Stream<'_> {
    /// The part of its compressed bytes that was read, from 0 to 1. `of`: their number.
    pub(super) fn part(&self, of: u64) -> f32 {
        let slice = match self {
            Self::Stored(reader) => reader.get_ref(),
            Self::Deflated(decoder) => decoder.get_ref().get_ref(),
        };
        1.0 - (slice.end.saturating_sub(slice.at)) as f32 / of.max(1) as f32
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(reader) => reader.read(buffer),
            Self::Deflated(decoder) => decoder.read(buffer),
        }
    }
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub(super) fn open(file: &'a File) -> Result<Self, FormatError> {
        let size = file.metadata()?.len();
        let mut archive = Self { file, size, entries: Vec::new() };
        let tail_length = size.min((END + MAX_COMMENT) as u64);
        let tail = archive.bytes(size - tail_length, tail_length)?;
        let end = memchr::memmem::rfind(&tail, b"PK\x05\x06")
            .filter(|at| tail.len() - at >= END)
            .ok_or_else(|| invalid("the end of the ZIP archive is missing: the file is incomplete"))?;
        let mut count = u64::from(u16_at(&tail, end + 10));
        let mut directory_size = u64::from(u32_at(&tail, end + 12));
        let mut offset = u64::from(u32_at(&tail, end + 16));
        // A field with its largest value is in the record of ZIP64 (APPNOTE 4.3.14, 4.3.15).
        if (count == u64::from(u16::MAX) || offset == u64::from(u32::MAX))
            && let Some(locator) = end.checked_sub(20).filter(|at| tail[*at..].starts_with(b"PK\x06\x07"))
        {
            let record = archive.bytes(u64_at(&tail, locator + 8), 56)?;
            if !record.starts_with(b"PK\x06\x06") {
                return Err(invalid("the ZIP64 record is damaged"));
            }
            (count, directory_size, offset) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
        }
        if directory_size > MAX_DIRECTORY {
            return Err(too_large(
                "a longer directory of its ZIP archive",
                &format!("{MAX_DIRECTORY} bytes"),
            ));
        }
        let directory = archive.bytes(offset, directory_size)?;
        archive.entries = entries(&directory, count)?;
        Ok(archive)
    }

    /// Whether the archive has a file of this name, in any case.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The decompressed bytes of a file, and its compressed size.
    pub(super) fn stream(&self, name: &str) -> Result<(Stream<'a>, u64), FormatError> {
        let entry = self.find(name).ok_or_else(|| invalid(&format!("{name} is missing")))?;
        if entry.is_encrypted {
            return Err(unsupported("encrypted parts"));
        }
        // The lengths of name and extra field may differ from those in the directory.
        let header = self.bytes(entry.header, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(invalid(&format!("the header of {name} is damaged")));
        }
        let start = entry.header + 30 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let end = start.saturating_add(entry.compressed);
        if end > self.size {
            return Err(invalid(&format!("{name} is incomplete")));
        }
        let slice = BufReader::with_capacity(32 << 10, Slice { file: self.file, at: start, end });
        let stream = match entry.method {
            0 => Stream::Stored(slice),
            8 => Stream::Deflated(Box::new(DeflateDecoder::new(slice))),
            method => return Err(unsupported(&format!("the ZIP compression method {method}"))),
        };
        Ok((stream, entry.compressed))
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        let name = name.trim_start_matches('/');
        self.entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, FormatError> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(invalid("the ZIP archive is incomplete"));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Parses the directory (APPNOTE 4.3.12).
fn entries(directory: &[u8], count: u64) -> Result<Vec<Entry>, FormatError> {
    const FIXED: usize = 46;
    let mut entries = Vec::new();
    let mut rest = directory;
    for _ in 0..count {
        let damaged = || invalid("the directory of the ZIP archive is damaged");
        if rest.len() < FIXED || !rest.starts_with(b"PK\x01\x02") {
            return Err(damaged());
        }
        let (name, extra, comment) =
            (usize::from(u16_at(rest, 28)), usize::from(u16_at(rest, 30)), usize::from(u16_at(rest, 32)));
        let length = FIXED + name + extra + comment;
        if rest.len() < length {
            return Err(damaged());
        }
        let mut entry = Entry {
            name: String::from_utf8_lossy(&rest[FIXED..FIXED + name]).replace('\\', "/"),
            method: u16_at(rest, 10),
            is_encrypted: u16_at(rest, 8) & 1 == 1,
            compressed: u64::from(u32_at(rest, 20)),
            header: u64::from(u32_at(rest, 42)),
        };
        let uncompressed = u32_at(rest, 24);
        zip64(&mut entry, uncompressed, &rest[FIXED + name..FIXED + name + extra]);
        entries.push(entry);
        rest = &rest[length..];
    }
    Ok(entries)
}

/// Replaces the fields that are in the ZIP64 extra field (APPNOTE 4.5.3).
fn zip64(entry: &mut Entry, uncompressed: u32, mut extra: &[u8]) {
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(content) = extra.get(4..4 + length) else { return };
        if kind == 1 {
            let mut values = content.chunks_exact(8).map(|value| u64_at(value, 0));
            if uncompressed == u32::MAX {
                values.next();
            }
            if entry.compressed == u64::from(u32::MAX) {
                entry.compressed = values.next().unwrap_or(entry.compressed);
            }
            if entry.header == u64::from(u32::MAX) {
                entry.header = values.next().unwrap_or(entry.header);
            }
            return;
        }
        extra = &extra[4 + length..];
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
