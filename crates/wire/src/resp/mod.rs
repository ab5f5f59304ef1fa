//! RESP, the protocol of Redis, in its versions 2 and 3 (the Redis serialization protocol specification).
//!
//! [`Decoder`] reads commands of clients, the functions of this module write the answers of a server, and
//! [`decode_value`] with [`command`] is the client's side. Error texts are those of Redis, because clients match on
//! them.
//!
//! Invariants:
//! - A decoder never requires its caller to keep more bytes than its limits.
//! - An encoder appends exactly one reply; characters that would break its framing (a line break in an error) are
//!   replaced.

mod args;
mod decode;
mod encode;
mod inline;
mod number;
mod value;

use thiserror::Error;

pub use args::Args;
pub use decode::{Decoded, Decoder, Limits};
pub use encode::{
    array, bulk, command, error, integer, map, message, null, pmessage, push, simple, subscription, verbatim,
};
pub use value::{MAX_DEPTH, Value, decode_value};

/// The version of the protocol on a connection; version 2 until a `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// Pushes and maps are arrays, null is a null bulk string.
    #[default]
    V2,
    /// Pushes, maps, nulls and verbatim strings have types of their own.
    V3,
}

/// Bytes that are not RESP. The framing is lost: send the error (Redis sends `-ERR ` and this text) and close.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number of a command's arguments is no number, or above the limit.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// An argument does not start as a bulk string.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// An argument's length is no number, above the limit, or not the length it has.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// An inline command longer than the limit.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// An inline command with a quote that is not closed, or is closed in the middle of a word.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A command or a reply longer than this many bytes as a whole.
    #[error("Protocol error: longer than {0} bytes")]
    TooLong(usize),
    /// A server's reply that is not RESP; the text has the place.
    #[error("Protocol error: {0}")]
    BadReply(&'static str),
}
