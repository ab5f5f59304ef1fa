//! Errors of the stores. They contain no HTTP status: the HTTP layer chooses it.

use std::io;

use thiserror::Error;

/// The error of an operation.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The bucket does not respond, or cannot be used. The operation may succeed later.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A limit in bytes is reached. The text names the option.
    #[error("{0}")]
    Full(String),
    /// The file or its table does not exist, or was removed.
    #[error("the file does not exist")]
    NotFound,
    /// Other nodes wrote first in every attempt.
    #[error("too many nodes {0} this table at once; try again")]
    Conflict(&'static str),
    /// The stored data is invalid. The log has the details.
    #[error("the stored record is damaged")]
    Corrupt,
    /// The disk has failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An error of the engine.
    #[error(transparent)]
    Table(tidings_table::Error),
}

impl From<tidings_table::Error> for StoreError {
    fn from(error: tidings_table::Error) -> Self {
        match error {
            tidings_table::Error::Io(error) => Self::Io(error),
            error => Self::Table(error),
        }
    }
}

/// The error of an append.
#[derive(Debug)]
pub struct AppendError {
    /// The cause.
    pub error: StoreError,
    /// Whether the writer may still be used: nothing was written, or the rows were removed again.
    pub is_writer_usable: bool,
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        Self { error, is_writer_usable: false }
    }
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        StoreError::from(error).into()
    }
}
