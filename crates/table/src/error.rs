//! Errors, with messages for the owner of the file.

use std::io;

use thiserror::Error;

use crate::ColumnType;

/// Why an operation on a table failed.
///
/// Every message is one line without the name of a file or a folder: the service adds the name that the user has given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk failed or is full. What was readable before stays readable.
    #[error("disk: {0}")]
    Io(#[from] io::Error),
    /// More bytes than [`Limits`](crate::Limits) allows, as received or when decompressed and decoded.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What was too large: `the file` or `the decoded text`.
        what: &'static str,
        /// The bound that it would have passed, in bytes.
        limit: u64,
    },
    /// A packed file unpacks to more than [`Limits::unpack_ratio`](crate::Limits::unpack_ratio) allows.
    #[error("the file unpacks to more than {ratio} times its size")]
    UnpackRatio {
        /// How many times as large it may be.
        ratio: u64,
    },
    /// More rows than their numbers can count ([`Limits::ROWS`](crate::Limits::ROWS)), or more conditions than a
    /// query may have.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is too much of: `rows`, `filters`…
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// The first bytes are those of a file format that is not delimited text.
    #[error("this is {0}, not delimited text")]
    NotText(&'static str),
    /// The gzip or zstd stream is broken or ends early.
    #[error("{0}")]
    Compression(String),
    /// A dialect that cannot be: a delimiter that is its own quote, a line break as delimiter…
    #[error("{0}")]
    Dialect(&'static str),
    /// A cell that the encoding of the file cannot hold, or that the dialect cannot quote.
    #[error("{0}")]
    Unwritable(&'static str),
    /// A sort, filter or window that names a column that is not there.
    #[error("no column {column}: the table has {columns}")]
    NoColumn {
        /// The column asked for, counted from 0.
        column: usize,
        /// How many there are.
        columns: usize,
    },
    /// A filter's value that is none of its column's type.
    #[error("{value:?} is not of the type {column_type}, which column {column} (counted from 0) has")]
    Value {
        /// The column, counted from 0.
        column: usize,
        /// Its type.
        column_type: ColumnType,
        /// The value, its first characters if it is long.
        value: String,
    },
    /// A regular expression that cannot be compiled, or is too large.
    #[error("regular expression: {0}")]
    Pattern(String),
    /// The operation's [`Cancel`](crate::Cancel) was used.
    #[error("cancelled")]
    Cancelled,
    /// An earlier failure left this writer without a defined state; open the table again to write on.
    #[error("an earlier error ended writing")]
    Broken,
}
