//! Parquet files as rows.
//!
//! The library of Apache Arrow decodes values and assembles nested records. Its own reading and decompression of pages
//! trust the sizes in the file, so pages are read, decompressed and checked by [`pages`], with the crates that the
//! engine already uses.
//!
//! Invariants:
//! - [`thrift`] checks the footer before the library parses it, and [`pages`] each page before it is decoded.
//! - A panic of the library on damaged data is an error of the file.

mod codec;
mod levels;
mod pages;
mod show;
mod thrift;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy, RowGroupMetaData,
};
use parquet::file::reader::RowGroupReader;
use parquet::record::reader::{RowIter, TreeBuilder};
use parquet::schema::types::Type;

use crate::text::RowWriter;
use crate::{DeclaredType, FileFormat, FormatError, MAX_COLUMNS, MAX_NAME_BYTES, turn};
use pages::{PageMemory, Pages};

/// The most bytes of the footer. The library holds about 20 times as much of a footer that is built for this.
const MAX_FOOTER: u64 = 16 << 20;

/// The magic number at the start and at the end, and that of a file with an encrypted footer.
const MAGIC: &[u8] = b"PAR1";
const ENCRYPTED: &[u8] = b"PARE";

/// The most bytes of a row.
const MAX_ROW: usize = 64 << 20;

/// The values of all columns that the library holds at once, of up to 32 bytes each.
const BATCH_VALUES: usize = 1 << 20;

/// The rows between two calls of the sink.
const STEP: u64 = 256;

/// A Parquet file.
pub struct ParquetReader {
    file: Arc<File>,
    size: u64,
    metadata: ParquetMetaData,
}

impl ParquetReader {
    /// Reads the schema and the places of the columns.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn open(file: &Arc<File>) -> Result<Self, FormatError> {
        let size = file.metadata()?.len();
        let mut tail = [0; 8];
        let start = size.checked_sub(12).ok_or_else(|| invalid("it is too short"))? + 4;
        file.read_exact_at(&mut tail, start)?;
        if tail[4..] == *ENCRYPTED {
            return Err(unsupported("an encrypted footer"));
        }
        if tail[4..] != *MAGIC {
            return Err(invalid("its end is missing: the file is incomplete"));
        }
        let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if length > MAX_FOOTER {
            return Err(too_large("a longer footer", &format!("{MAX_FOOTER} bytes")));
        }
        let offset =
            start.checked_sub(length).ok_or_else(|| invalid("its footer is longer than the file"))?;
        let mut footer = vec![0; length as usize];
        file.read_exact_at(&mut footer, offset)?;
        thrift::check_footer(&footer, MAX_COLUMNS)?;
        let options = ParquetMetaDataOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let metadata =
            caught(|| ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options)))?;
        let reader = Self { file: Arc::clone(file), size, metadata };
        reader.columns().iter().try_for_each(|column| check_shape(column))?;
        let bytes: usize = reader.columns().iter().map(|column| column.name().len()).sum();
        if bytes > MAX_NAME_BYTES {
            return Err(too_large("longer names of columns together", &format!("{MAX_NAME_BYTES} bytes")));
        }
        Ok(reader)
    }

    fn columns(&self) -> &[Arc<Type>] {
        self.metadata.file_metadata().schema().get_fields()
    }

    /// The types of the columns; `None` for a column of nulls alone.
    pub fn types(&self) -> Vec<Option<DeclaredType>> {
        self.columns().iter().map(|column| show::declared(column)).collect()
    }

    /// Passes the names of the columns and all rows to `sink`, with the part that is complete (from 0 to 1). Waits
    /// while another file is converted, and calls `sink` with no text meanwhile.
    ///
    /// # Errors
    /// [`FormatError`], and the error of `sink`.
    pub fn write<E: From<FormatError>>(
        &self,
        mut sink: impl FnMut(&[u8], f32) -> Result<(), E>,
    ) -> Result<(), E> {
        let _turn = turn::wait(|| sink(b"", 0.0))?;
        let mut rows = RowWriter::default();
        let columns = self.columns();
        columns.iter().for_each(|column| rows.cell(column.name()));
        rows.end_row(columns.len());
        rows.flush(true, &mut |text: &[u8]| sink(text, 0.0))?;
        let all: i64 = self.metadata.row_groups().iter().map(|group| group.num_rows().max(0)).sum();
        let mut done = 0;
        for group in self.metadata.row_groups() {
            let mut records = Records::new(self, group)?;
            while let Some(count) = records.step(columns, &mut rows)? {
                done += count;
                let part = done as f32 / all.max(1) as f32;
                rows.flush(false, &mut |text: &[u8]| sink(text, part))?;
                sink(b"", part)?;
            }
        }
        rows.flush(true, &mut |text: &[u8]| sink(text, 1.0))
    }
}

/// The records of a row group.
struct Records {
    rows: Box<dyn Iterator<Item = Result<parquet::record::Row, ParquetError>>>,
    cell: String,
}

impl Records {
    fn new(file: &ParquetReader, metadata: &RowGroupMetaData) -> Result<Self, FormatError> {
        let group = RowGroup {
            file: Arc::clone(&file.file),
            size: file.size,
            metadata: metadata.clone(),
            memory: PageMemory::default(),
        };
        let schema = file.metadata.file_metadata().schema_descr_ptr();
        if schema.num_columns() == 0 {
            return Ok(Self { rows: Box::new(std::iter::empty()), cell: String::new() });
        }
        let batch = (BATCH_VALUES / schema.num_columns()).clamp(1, 1024);
        let rows = caught(|| TreeBuilder::new().with_batch_size(batch).as_iter(schema, &group))?;
        Ok(Self { rows: Box::new(rows), cell: String::new() })
    }

    /// Writes the next rows. Returns their number; `None` at the end.
    fn step(&mut self, columns: &[Arc<Type>], rows: &mut RowWriter) -> Result<Option<u64>, FormatError> {
        let Self { rows: records, cell } = self;
        caught(|| {
            for count in 0..STEP {
                let Some(record) = records.next() else { return Ok((count > 0).then_some(count)) };
                let record = record?;
                let start = rows.len();
                for ((_, field), column) in record.get_column_iter().zip(columns) {
                    cell.clear();
                    show::cell(field, column, cell);
                    rows.cell(cell);
                    if rows.len() - start > MAX_ROW {
                        return Err(external(too_large("a longer row", &format!("{MAX_ROW} bytes"))));
                    }
                }
                rows.end_row(columns.len());
                if rows.len() > MAX_ROW {
                    return Ok(Some(count + 1));
                }
            }
            Ok(Some(STEP))
        })
    }
}

/// The columns of a row group.
struct RowGroup {
    file: Arc<File>,
    size: u64,
    metadata: RowGroupMetaData,
    memory: PageMemory,
}

impl RowGroupReader for RowGroup {
    fn metadata(&self) -> &RowGroupMetaData {
        &self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>, ParquetError> {
        let column = self.metadata.column(column);
        let pages = Pages::new(&self.file, self.size, column, &self.memory).map_err(external)?;
        Ok(Box::new(pages))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>, ParquetError> {
        RowIter::from_row_group(projection, self)
    }
}

/// Checks the lists and maps of a type, because the library panics on other shapes (LogicalTypes.md, "Nested Types").
fn check_shape(of: &Type) -> Result<(), FormatError> {
    if of.is_primitive() {
        return Ok(());
    }
    let repeated = match of.get_fields() {
        [only] => Some(&**only).filter(|only| only.get_basic_info().repetition() == Repetition::REPEATED),
        _ => None,
    };
    let is_valid = match of.get_basic_info().converted_type() {
        ConvertedType::LIST => {
            repeated.is_some_and(|inner| inner.is_primitive() || !inner.get_fields().is_empty())
        }
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => {
            repeated.is_some_and(|inner| !inner.is_primitive() && matches!(inner.get_fields().len(), 1 | 2))
        }
        _ => true,
    };
    if !is_valid {
        return Err(invalid(&format!("the list or map {:?} has another structure than its type", of.name())));
    }
    of.get_fields().iter().try_for_each(|field| check_shape(field))
}

/// Runs a part of the library, which may panic on damaged data.
fn caught<T>(run: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, FormatError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::External(error))) => match error.downcast::<FormatError>() {
            Ok(error) => Err(*error),
            Err(error) => Err(invalid(&error.to_string())),
        },
        Ok(Err(error)) => Err(invalid(&error.to_string())),
        Err(_) => Err(invalid("its data is damaged, or of an unknown kind")),
    }
}

fn external(error: FormatError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

fn invalid(what: &str) -> FormatError {
    FormatError::Invalid { format: FileFormat::Parquet, what: what.to_owned() }
}

fn unsupported(what: &str) -> FormatError {
    FormatError::Unsupported { format: FileFormat::Parquet, what: what.to_owned() }
}

fn too_large(what: &str, limit: &str) -> FormatError {
    FormatError::TooLarge { format: FileFormat::Parquet, what: what.to_owned(), limit: limit.to_owned() }
}
