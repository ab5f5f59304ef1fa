//! Readers of files that are not delimited text: JSON, XLSX and Parquet. They convert a file to delimited text, which
//! the table engine indexes like any other.
//!
//! ```text
//! detect.rs   the format of a file, from its first bytes
//! text.rs     rows as delimited text
//! value.rs    numbers, dates and times as text
//! json.rs     objects and arrays of objects, while they arrive
//! xlsx/       worksheets: the ZIP archive, its XML, and the cells
//! parquet/    pages, their compression, and the rows
//! ```
//!
//! The crate has no network, clock or thread.
//!
//! # Why text
//! The engine indexes one delimited text per table: pages, sort, filter, search, facts, downloads of views and private
//! views exist once, for text. A reader of a format therefore writes rows as text, into the same unlinked file that the
//! engine uses for decompressed files. The received file remains as it is: it is offered for download, and it is read
//! again after a restart or for another sheet. The cost is disk space for the text, which the limits of decompressed
//! files bound.
//!
//! # Invariants
//! - **Values are written as people see them**: dates and times in ISO 8601, decimals with all their digits, numbers
//!   without exponents as far as 64-bit floating point allows, nested values as JSON, nulls as empty cells.
//! - **Memory is bounded** by constants of this crate, whatever the file declares: an object of JSON, the names of
//!   columns, an element of XML, the strings of a workbook, a page of Parquet. Sizes in a file are checked before memory
//!   is allocated. Readers of XLSX and Parquet hold the most memory, so a process runs one at a time.
//! - **Text is passed to the caller in pieces of complete rows**. The caller bounds its size, and cancels by an error.
//! - **An error is one sentence** that names the position, or the limit and its value. Nothing is skipped silently.

mod detect;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod text;
mod turn;
mod value;
mod xlsx;

use std::fmt;
use std::io;

use thiserror::Error;

pub use detect::detect;
pub use json::JsonReader;
#[cfg(feature = "parquet")]
pub use parquet::ParquetReader;
pub use text::{DELIMITER, QUOTE};
pub use xlsx::Workbook;

/// The most columns of a converted file.
pub const MAX_COLUMNS: usize = 10_000;

/// The most bytes of the names of all columns.
pub const MAX_NAME_BYTES: usize = 1 << 20;

/// The format of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Delimited text.
    #[default]
    Text,
    /// JSON objects, one after another or in an array.
    Json,
    /// A workbook of Office Open XML (ISO/IEC 29500).
    Xlsx,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Text, Self::Json, Self::Xlsx, Self::Parquet];

    /// The name in messages and stored files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Xlsx => "xlsx",
            Self::Parquet => "parquet",
        }
    }

    /// Whether the end of the file must have arrived before its first row can be read.
    pub const fn needs_whole_file(self) -> bool {
        matches!(self, Self::Xlsx | Self::Parquet)
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "delimited text",
            Self::Json => "JSON",
            Self::Xlsx => "XLSX",
            Self::Parquet => "Parquet",
        })
    }
}

/// The type that a file declares for a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredType {
    /// Strings, and values that are shown as text.
    Text,
    /// Numbers.
    Number,
    /// Dates and timestamps.
    Date,
    /// Booleans.
    Boolean,
}

/// An error of a reader.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file does not follow its format.
    #[error("the {format} file is invalid: {what}")]
    Invalid {
        /// The format.
        format: FileFormat,
        /// The place and the problem.
        what: String,
    },
    /// The file uses a part of its format that is not implemented.
    #[error("the {format} file has {what}, which is not supported")]
    Unsupported {
        /// The format.
        format: FileFormat,
        /// The part.
        what: String,
    },
    /// A part of the file is larger than a limit.
    #[error("the {format} file has {what}; the limit is {limit}")]
    TooLarge {
        /// The format.
        format: FileFormat,
        /// The part.
        what: String,
        /// The limit with its unit.
        limit: String,
    },
    /// The workbook has no sheet of this name.
    #[error("the file has no sheet {0:?}")]
    NoSheet(String),
    /// The disk failed.
    #[error("disk: {0}")]
    Io(#[from] io::Error),
}
