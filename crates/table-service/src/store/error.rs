//! Why a store could not do what a room needs. No number of HTTP: the edge translates ([`crate::Failure`]).

use std::io;

use thiserror::Error;

/// The failure of one operation.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// The bucket does not respond or must not be used. The operation may succeed later.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A bound of bytes is reached. The text names the option.
    #[error("{0}")]
    Full(String),
    /// The file or its table does not exist (any more).
    #[error("the file does not exist")]
    NotFound,
    /// Other nodes wrote first, as often as the operation was tried.
    #[error("too many nodes {0} this table at once; try again")]
    Conflict(&'static str),
    /// What is stored is not what this program writes. The log says what.
    #[error("the stored record is damaged")]
    Corrupt,
    /// The disk has failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The engine cannot read or write the file.
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

/// The failure of an append.
#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) error: StoreError,
    /// Whether the writer may be used again: nothing was written, or what was written is taken back.
    pub(crate) is_writer_usable: bool,
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
