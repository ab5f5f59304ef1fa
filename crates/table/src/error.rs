//! Errors, with messages for the owner of the file.

use std::io;

use thiserror::Error;

use crate::ColumnType;

/// An error of an operation on a table.
///
/// Every message is one line without a file or folder name: the service adds the name that the user gave.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk failed or is full. Rows that were readable before stay readable.
    #[error("disk: {0}")]
    Io(#[from] io::Error),
    /// More bytes than [`Limits`](crate::Limits) allows, as received or after decompression and decoding.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The object: `the file` or `the decoded text`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A compressed file decompresses to more than [`Limits::unpack_ratio`](crate::Limits::unpack_ratio) allows.
    #[error("the file unpacks to more than {ratio} times its size")]
    UnpackRatio {
        /// The limit of the ratio.
        ratio: u64,
    },
    /// Something would exceed a limit that it shares with others.
    #[error("{what} would take more than {limit} bytes; try again later")]
    Full {
        /// The objects that share the limit.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// More rows than row numbers ([`Limits::ROWS`](crate::Limits::ROWS)), or more conditions than a query may have.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The objects: `rows`, `filters`…
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The first bytes are those of a file format that is not delimited text.
    #[error("this is {0}, not delimited text")]
    NotText(&'static str),
    /// A JSON, XLSX or Parquet file is invalid, or uses something that is not supported.
    #[error("{0}")]
    Format(String),
    /// A part of a JSON, XLSX or Parquet file is larger than a limit of its reader.
    #[error("{0}")]
    FormatLimit(String),
    /// The workbook has no sheet of the chosen name.
    #[error("the file has no sheet {0:?}")]
    NoSheet(String),
    /// The gzip or zstd stream is invalid or incomplete.
    #[error("{0}")]
    Compression(String),
    /// An invalid dialect: a delimiter that is also the quote, a line break as delimiter…
    #[error("{0}")]
    Dialect(&'static str),
    /// A cell that cannot be written in the encoding or dialect of the file.
    #[error("{0}")]
    Unwritable(&'static str),
    /// A sort, filter or window with a column that does not exist.
    #[error("no column {column}: the table has {columns}")]
    NoColumn {
        /// The requested column, counted from 0.
        column: usize,
        /// The number of columns.
        columns: usize,
    },
    /// A filter value that is not of the type of its column.
    #[error("{value:?} is not of the type {column_type}, which column {column} (counted from 0) has")]
    Value {
        /// The column, counted from 0.
        column: usize,
        /// Its type.
        column_type: ColumnType,
        /// The value, truncated if it is long.
        value: String,
    },
    /// A measure that needs a column of another type.
    #[error(
        "{function} needs a column of numbers, and column {column} (counted from 0) has the type {column_type}"
    )]
    Measure {
        /// The name of the measure.
        function: &'static str,
        /// The column, counted from 0.
        column: usize,
        /// Its type.
        column_type: ColumnType,
    },
    /// A regular expression that is invalid or too large.
    #[error("regular expression: {0}")]
    Pattern(String),
    /// The operation was cancelled ([`Cancel`](crate::Cancel)).
    #[error("cancelled")]
    Cancelled,
    /// An earlier error left this writer in an undefined state. Open the table again to continue.
    #[error("an earlier error ended writing")]
    Broken,
}
