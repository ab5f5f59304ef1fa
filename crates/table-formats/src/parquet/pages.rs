//! The pages of a column, decompressed and checked before the library decodes them.
//!
//! Invariants, for any bytes:
//! - A page has at most [`MAX_PAGE`] bytes. The pages and dictionaries that the columns of a row group hold have at most
//!   [`MAX_PAGES`] together, where a value of a dictionary counts as [`DICTIONARY_VALUE`] bytes more.
//! - Numbers of values that the library allocates memory for are at most those that the bytes of the page can hold.
//! - A record of a nested column has at most [`MAX_RECORD_VALUES`] values and [`MAX_RECORD_BYTES`].

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::levels::{RecordLengths, record_lengths};
use super::thrift::PageHeader;
use super::{codec, external, invalid, too_large, unsupported};
use crate::FormatError;

/// The most bytes of a page, compressed or not.
const MAX_PAGE: u64 = 64 << 20;

/// The most bytes of the pages that are held at once.
const MAX_PAGES: u64 = 256 << 20;

/// The memory of a dictionary's value besides its bytes.
const DICTIONARY_VALUE: u64 = 40;

/// The bytes in which the header of a page is expected, and its most bytes.
const HEADER: u64 = 4 << 10;
const MAX_HEADER: u64 = 1 << 20;

/// The most values of a nested column in one record.
const MAX_RECORD_VALUES: u64 = 1 << 20;

/// The most bytes of a nested column in one record.
const MAX_RECORD_BYTES: u64 = 128 << 20;

/// The memory of all pages of a row group.
pub(super) type PageMemory = Arc<AtomicU64>;

/// Reads the pages of a column in a row group.
pub(super) struct Pages {
    file: Arc<File>,
    at: u64,
    end: u64,
    /// The values of the column that were not read yet.
    values: u64,
    codec: Compression,
    kind: Type,
    /// The length of values of a fixed length.
    length: u64,
    max_definition: i16,
    max_repetition: i16,
    /// The length of the longest value of the dictionary.
    longest: u64,
    /// The values and bytes of the record that the last page ends in.
    record: (u64, u64),
    memory: PageMemory,
    dictionary_bytes: u64,
    page_bytes: u64,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.dictionary_bytes + self.page_bytes, Ordering::Relaxed);
    }
}

impl Pages {
    pub(super) fn new(
        file: &Arc<File>,
        size: u64,
        column: &ColumnChunkMetaData,
        memory: &PageMemory,
    ) -> Result<Self, FormatError> {
        let descriptor = column.column_descr();
        let outside = || invalid(&format!("column {:?} is outside of the file", descriptor.name()));
        let data = u64::try_from(column.data_page_offset()).map_err(|_| outside())?;
        // Some writers write 0 for no dictionary.
        let dictionary = column.dictionary_page_offset().filter(|offset| *offset > 0);
        let at = dictionary.map_or(data, |offset| data.min(offset as u64));
        let length = u64::try_from(column.compressed_size()).map_err(|_| outside())?;
        let end = at.checked_add(length).filter(|end| *end <= size).ok_or_else(outside)?;
        let (kind, length) = (descriptor.physical_type(), descriptor.type_length());
        if kind == Type::FIXED_LEN_BYTE_ARRAY && length <= 0 {
            return Err(invalid(&format!("column {:?} has values without a length", descriptor.name())));
        }
        Ok(Self {
            file: Arc::clone(file),
            at,
            end,
            values: u64::try_from(column.num_values()).map_err(|_| outside())?,
            codec: column.compression(),
            kind,
            length: length.max(0) as u64,
            max_definition: descriptor.max_def_level(),
            max_repetition: descriptor.max_rep_level(),
            longest: 0,
            record: (0, 0),
            memory: Arc::clone(memory),
            dictionary_bytes: 0,
            page_bytes: 0,
        })
    }

    fn next_page(&mut self) -> Result<Option<Page>, FormatError> {
        loop {
            if self.values == 0 || self.at >= self.end {
                return Ok(None);
            }
            let header = self.header()?;
            let compressed = self.size(header.compressed)?;
            if compressed > self.end - self.at {
                return Err(invalid("a page is longer than its column"));
            }
            let start = self.at;
            self.at += compressed;
            match header.kind {
                0 | 3 => {
                    self.reserve_page(0)?;
                    let uncompressed = self.size(header.uncompressed)?;
                    self.reserve_page(uncompressed.max(compressed))?;
                    let bytes = self.bytes(start, compressed)?;
                    return self.data(&header, &bytes, uncompressed).map(Some);
                }
                2 => {
                    let uncompressed = self.size(header.uncompressed)?;
                    return self.dictionary(&header, start, compressed, uncompressed).map(Some);
                }
                // Pages with an index.
                _ => {}
            }
        }
    }

    /// Reads the header at the current position.
    fn header(&mut self) -> Result<PageHeader, FormatError> {
        for most in [HEADER, MAX_HEADER] {
            let length = most.min(self.end - self.at);
            let bytes = self.bytes(self.at, length)?;
            if let Ok((header, used)) = PageHeader::parse(&bytes) {
                self.at += used as u64;
                return Ok(header);
            }
            if length < most {
                break;
            }
        }
        Err(invalid(&format!("the header of the page at byte {} is damaged", self.at)))
    }

    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>, FormatError> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// A size from a header.
    fn size(&self, size: i64) -> Result<u64, FormatError> {
        match u64::try_from(size) {
            Ok(size) if size <= MAX_PAGE => Ok(size),
            Ok(_) => Err(too_large("a longer page", &format!("{MAX_PAGE} bytes"))),
            Err(_) => Err(invalid("a page with a negative size")),
        }
    }

    /// Replaces the reserved memory of the current page.
    fn reserve_page(&mut self, bytes: u64) -> Result<(), FormatError> {
        self.memory.fetch_sub(std::mem::take(&mut self.page_bytes), Ordering::Relaxed);
        self.reserve(bytes)?;
        self.page_bytes = bytes;
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> Result<(), FormatError> {
        if self.memory.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_PAGES {
            self.memory.fetch_sub(bytes, Ordering::Relaxed);
            let what = "a row group whose columns have longer pages together";
            return Err(too_large(what, &format!("{MAX_PAGES} bytes")));
        }
        Ok(())
    }

    fn dictionary(
        &mut self,
        header: &PageHeader,
        start: u64,
        compressed: u64,
        uncompressed: u64,
    ) -> Result<Page, FormatError> {
        if self.dictionary_bytes > 0 {
            return Err(invalid("a column with two dictionaries"));
        }
        let values = u64::try_from(header.values)
            .map_err(|_| invalid("a dictionary with a negative number of values"))?;
        let least = match self.kind {
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => self.length,
            Type::BOOLEAN => return Err(invalid("a dictionary of booleans")),
            _ => 4,
        };
        if values.saturating_mul(least) > uncompressed {
            return Err(invalid("a dictionary with more values than its bytes have"));
        }
        let bytes = uncompressed.max(compressed) + values * DICTIONARY_VALUE;
        self.reserve(bytes)?;
        self.dictionary_bytes = bytes;
        let page = codec::decompress(self.codec, &self.bytes(start, compressed)?, uncompressed as usize)?;
        self.longest = if self.kind == Type::BYTE_ARRAY { longest(&page, values)? } else { least };
        Ok(Page::DictionaryPage {
            buf: page.into(),
            num_values: values as u32,
            encoding: encoding(header.encoding)?,
            is_sorted: false,
        })
    }

    fn data(&mut self, header: &PageHeader, bytes: &[u8], size: u64) -> Result<Page, FormatError> {
        let count = |number: i64| u32::try_from(number).map_err(|_| invalid("a page with a negative number"));
        let values = count(header.values)?;
        if u64::from(values) > self.values {
            return Err(invalid("a page with more values than its column"));
        }
        self.values -= u64::from(values);
        let encoding = encoding(header.encoding)?;
        if header.kind == 0 {
            let page: Bytes = codec::decompress(self.codec, bytes, size as usize)?.into();
            let [definition, repetition] =
                [header.definition_encoding, header.repetition_encoding].map(self::encoding);
            let (definition, repetition) = (definition?, repetition?);
            let levels = self.levels(&page, definition, repetition)?;
            self.check(&page, levels, encoding, values)?;
            return Ok(Page::DataPage {
                buf: page,
                num_values: values,
                encoding,
                def_level_encoding: definition,
                rep_level_encoding: repetition,
                statistics: None,
            });
        }
        let (definition, repetition) = (count(header.definition_bytes)?, count(header.repetition_bytes)?);
        let levels = u64::from(definition) + u64::from(repetition);
        if levels > size || levels > bytes.len() as u64 {
            return Err(invalid("the levels of a page are longer than the page"));
        }
        let levels = levels as usize;
        let mut page = bytes[..levels].to_vec();
        let content = &bytes[levels..];
        let rest = size as usize - levels;
        match () {
            () if header.is_uncompressed => page.extend_from_slice(content),
            // A page without values other than null.
            () if rest == 0 => {}
            () => page.extend_from_slice(&codec::decompress(self.codec, content, rest)?),
        }
        let page: Bytes = page.into();
        let ranges = Levels { repetition: 0..repetition as usize, values: levels };
        self.check(&page, ranges, encoding, values)?;
        Ok(Page::DataPageV2 {
            buf: page,
            num_values: values,
            encoding,
            num_nulls: count(header.nulls)?,
            num_rows: count(header.rows)?,
            def_levels_byte_len: definition,
            rep_levels_byte_len: repetition,
            is_compressed: false,
            statistics: None,
        })
    }

    /// The places of levels and values in a page of version 1, where each kind of levels follows its length.
    fn levels(&self, page: &[u8], definition: Encoding, repetition: Encoding) -> Result<Levels, FormatError> {
        let mut at = 0;
        let mut range = |most: i16, encoding: Encoding| {
            if most == 0 {
                return Ok(at..at);
            }
            if encoding != Encoding::RLE {
                return Err(unsupported("levels in the deprecated encoding BIT_PACKED"));
            }
            let length = page.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
            let length = length.map(|bytes| u32::from_le_bytes(*bytes) as usize);
            let end = length.and_then(|length| (at + 4).checked_add(length)).filter(|end| *end <= page.len());
            let end = end.ok_or_else(|| invalid("the levels of a page are longer than the page"))?;
            let found = at + 4..end;
            at = end;
            Ok(found)
        };
        let repetition = range(self.max_repetition, repetition)?;
        range(self.max_definition, definition)?;
        Ok(Levels { repetition, values: at })
    }

    /// Checks the numbers in a page that memory is allocated for.
    fn check(
        &mut self,
        page: &[u8],
        levels: Levels,
        encoding: Encoding,
        values: u32,
    ) -> Result<(), FormatError> {
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                let count = delta_count(page.get(levels.values..).unwrap_or_default());
                if count.is_none_or(|count| count > u64::from(values)) {
                    return Err(invalid("a page with more lengths than values"));
                }
            }
            Encoding::DELTA_BYTE_ARRAY => {
                return Err(unsupported("a column in the encoding DELTA_BYTE_ARRAY"));
            }
            Encoding::ALP => return Err(unsupported("a column in the encoding ALP")),
            _ => {}
        }
        if self.max_repetition == 0 {
            return Ok(());
        }
        let levels = page.get(levels.repetition).unwrap_or_default();
        let lengths = record_lengths(levels, self.max_repetition, u64::from(values));
        let RecordLengths { first, longest, last } =
            lengths.ok_or_else(|| invalid("the repetition levels of a page are damaged"))?;
        let (carried, bytes) = self.record;
        let most = (carried + first).max(longest);
        if most > MAX_RECORD_VALUES {
            return Err(too_large("a longer list", &format!("{MAX_RECORD_VALUES} values")));
        }
        let is_dictionary = matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
        let of_dictionary = if is_dictionary { most.saturating_mul(self.longest) } else { 0 };
        let bytes = bytes + page.len() as u64 + of_dictionary;
        if bytes > MAX_RECORD_BYTES {
            return Err(too_large("a list with longer values", &format!("{MAX_RECORD_BYTES} bytes")));
        }
        self.record = match last {
            Some(last) => (last, page.len() as u64),
            None => (carried + first, bytes),
        };
        Ok(())
    }
}

/// The places in a page.
struct Levels {
    repetition: std::ops::Range<usize>,
    /// The offset of the values.
    values: usize,
}

/// The length of the longest value of a plain dictionary, whose values follow their lengths.
fn longest(page: &[u8], values: u64) -> Result<u64, FormatError> {
    let (mut rest, mut longest) = (page, 0);
    for _ in 0..values {
        let length = rest.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let next = length.and_then(|length| rest.get(4_usize.checked_add(length)?..));
        let (Some(length), Some(next)) = (length, next) else {
            return Err(invalid("a dictionary that is shorter than its values"));
        };
        (longest, rest) = (longest.max(length), next);
    }
    Ok(longest as u64)
}

/// The number of values in the header of delta-encoded integers: the third of its numbers.
fn delta_count(bytes: &[u8]) -> Option<u64> {
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        value = 0;
        for shift in (0..63).step_by(7) {
            let byte = *bytes.get(at)?;
            at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    Some(value)
}

fn encoding(number: i64) -> Result<Encoding, FormatError> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        10 => Encoding::ALP,
        number => return Err(unsupported(&format!("the encoding with the number {number}"))),
    })
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        self.next_page().map_err(external)
    }

    // Pages are read in order, and records may continue on the next page. The library asks for the kind of the next page
    // only to find the ends of records.
    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let (at, result) = (self.at, self.peek());
        self.at = at;
        result.map_err(external)
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.get_next_page().map(|_| ())
    }
}

impl Pages {
    fn peek(&mut self) -> Result<Option<PageMetadata>, FormatError> {
        while self.values > 0 && self.at < self.end {
            let header = self.header()?;
            let is_data_of_2 = header.kind == 3;
            if header.kind != 1 {
                return Ok(Some(PageMetadata {
                    num_rows: is_data_of_2.then_some(header.rows.max(0) as usize),
                    num_levels: None,
                    is_dict: header.kind == 2,
                }));
            }
            self.at += self.size(header.compressed)?;
        }
        Ok(None)
    }
}
