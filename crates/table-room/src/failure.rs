//! Errors for users: an HTTP status and a sentence. The stores and the engine have their own errors, which are
//! converted here.

use std::io;

use tidings_log_throttle::LogThrottle;
use tidings_table::Error;
use tidings_table_commands::InvalidCommand;
use tidings_table_store::{InvalidDialect, StoreError};

/// Limits log lines about a full disk.
static FULL: LogThrottle = LogThrottle::new();
/// Limits log lines about other disk errors.
static FAILED: LogThrottle = LogThrottle::new();

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// An HTTP status code (RFC 9110 §15.5).
    pub code: u16,
    /// One line that names the limit, the option or the remedy.
    pub message: String,
}

impl Failure {
    /// An error with this code and message.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// 400: the request is malformed.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 404: the table does not exist.
    pub fn unknown() -> Self {
        Self::new(404, "there is no such table; it was deleted, or was not used for tables.keep")
    }

    /// 409: the table has no file yet.
    pub fn empty() -> Self {
        Self::new(409, "there is no file in this table yet; upload one first")
    }

    /// 409: the rows of the table have no key.
    pub fn no_key() -> Self {
        Self::new(
            409,
            "the rows of this table have no key; set one with {\"key\":[\"COLUMN\"]} over the WebSocket, or share the file with tidings share --row-key COLUMN",
        )
    }

    /// 400: the page does not exist.
    pub fn no_page(page: u64, pages: u64) -> Self {
        Self::bad(format!("there is no page {page}; the last one is {pages}"))
    }

    /// 500: the server has failed; the log has the reason.
    pub fn internal() -> Self {
        Self::new(500, "the server could not do this; its log says why")
    }

    /// 413: the file exceeds `tables.max_size`.
    pub fn too_large(limit: u64) -> Self {
        Self::new(413, format!("a file may have {limit} bytes (tables.max_size)"))
    }

    /// 503: the server is stopping.
    pub fn stopping() -> Self {
        Self::new(503, "the server is stopping; connect again")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error.into(),
            Error::TooLarge { what: "the file", limit } => Self::too_large(limit),
            Error::TooLarge { what: "the decoded text", limit } => Self::new(
                413,
                format!("the text of a file may have {limit} bytes, unpacked: four times tables.max_size"),
            ),
            Error::UnpackRatio { ratio } => Self::new(
                413,
                format!(
                    "the file unpacks to more than {ratio} times its size (tables.max_unpack_ratio); upload it unpacked"
                ),
            ),
            Error::TooLarge { what: "the grouped view", .. } | Error::TooMany { what: "groups", .. } => {
                Self::new(
                    413,
                    format!(
                        "{error}; group by columns with fewer different values, or filter the rows first"
                    ),
                )
            }
            Error::TooLarge { .. } | Error::TooMany { .. } => Self::new(413, error.to_string()),
            Error::Full { .. } => Self::new(503, error.to_string()),
            Error::Value { .. } | Error::Measure { .. } => Self::new(422, error.to_string()),
            Error::NotText(_) => Self::new(
                415,
                format!(
                    "{error}; to read it as text anyway, upload it with {{\"upload\":{{\"text\":true}}}}"
                ),
            ),
            Error::Format(_) => Self::new(
                415,
                format!("{error}; to read it as text, upload it with {{\"upload\":{{\"text\":true}}}}"),
            ),
            Error::FormatLimit(_) => Self::new(413, error.to_string()),
            Error::NoSheet(_) => Self::new(422, error.to_string()),
            Error::Compression(_) => Self::new(415, error.to_string()),
            Error::Cancelled => Self::new(409, "a newer request replaced this one"),
            Error::Broken => Self::internal(),
            _ => Self::bad(error.to_string()),
        }
    }
}

impl From<InvalidCommand> for Failure {
    fn from(error: InvalidCommand) -> Self {
        Self::bad(error.0)
    }
}

impl From<InvalidDialect> for Failure {
    fn from(error: InvalidDialect) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Conflict(_) => Self::new(503, error.to_string()),
            StoreError::Full(why) => Self::new(507, why),
            StoreError::NotFound => Self::unknown(),
            StoreError::Corrupt => Self::internal(),
            StoreError::Io(error) => error.into(),
            StoreError::Table(error) => error.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The store's own limit has its own text.
            io::ErrorKind::QuotaExceeded if error.get_ref().is_some() => Self::new(507, error.to_string()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                if let Some(times) = FULL.count() {
                    tracing::error!(%error, times, "the disk of the tables is full (data_dir): nothing can be uploaded or saved");
                }
                Self::new(507, "the server's disk is full")
            }
            io::ErrorKind::FileTooLarge => {
                if let Some(times) = FULL.count() {
                    tracing::error!(%error, times, "the disk of the tables does not support files of this size (data_dir)");
                }
                Self::new(507, "the server's disk does not support files of this size")
            }
            _ => {
                if let Some(times) = FAILED.count() {
                    tracing::error!(%error, times, "an operation on the disk of the tables failed");
                }
                Self::internal()
            }
        }
    }
}
