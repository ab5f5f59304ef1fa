//! Protocol errors of a peer.

use thiserror::Error;

use crate::{CloseCode, MAX_CONTROL};

/// A violation of the protocol by the peer. Nothing more can be read from it; the close frame contains
/// [`ProtocolError::close_code`] and the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// Bits for extensions that were not agreed on.
    #[error("frame with reserved bits")]
    ReservedBits,
    /// An unknown opcode.
    #[error("frame with the unknown opcode {0}")]
    UnknownOpcode(u8),
    /// A client must mask.
    #[error("frame without a mask")]
    Unmasked,
    /// A server must not.
    #[error("frame with a mask")]
    Masked,
    /// A control frame with more than [`MAX_CONTROL`] bytes.
    #[error("control frame longer than {MAX_CONTROL} bytes")]
    LongControl,
    /// A control frame that is not final.
    #[error("control frame in pieces")]
    SplitControl,
    /// A continuation without a message.
    #[error("continuation of no message")]
    Continuation,
    /// A message inside another one.
    #[error("message inside another message")]
    Nested,
    /// A length in more bytes than it needs.
    #[error("length in more bytes than it needs")]
    PaddedLength,
    /// A length of 2⁶³ bytes or more.
    #[error("length with its highest bit set")]
    NegativeLength,
    /// A close frame with half a code.
    #[error("close frame with one byte")]
    HalfCode,
    /// A code that close frames cannot have.
    #[error("close frame with the code {0}")]
    CloseCode(u16),
    /// Text, or the reason of a close frame, is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A compressed message (RFC 7692) that cannot be decompressed.
    #[error("compressed message that cannot be decompressed")]
    Deflate,
    /// Longer than [`crate::Rules::max_message`].
    #[error("message longer than {0} bytes")]
    TooBig(u64),
}

impl ProtocolError {
    /// The close code for this error.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::NotUtf8 | Self::Deflate => CloseCode::INVALID,
            Self::TooBig(_) => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL,
        }
    }
}
