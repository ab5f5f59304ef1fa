//! Protocol errors of a peer.

use thiserror::Error;

use super::{CloseCode, MAX_CONTROL};

/// How the peer broke the protocol. Nothing more can be read from it; [`ProtocolError::close_code`] goes into the
/// close frame, and the words too.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// Bits for extensions that were not agreed on.
    #[error("frame with reserved bits")]
    ReservedBits,
    /// No kind of frame.
    #[error("frame with the unknown opcode {0}")]
    UnknownOpcode(u8),
    /// A client must mask.
    #[error("frame without a mask")]
    Unmasked,
    /// A server must not.
    #[error("frame with a mask")]
    Masked,
    /// With more than [`MAX_CONTROL`] bytes.
    #[error("control frame longer than {MAX_CONTROL} bytes")]
    LongControl,
    /// With more to come.
    #[error("control frame in pieces")]
    SplitControl,
    /// Without anything begun.
    #[error("continuation of no message")]
    Continuation,
    /// Before the other one was finished.
    #[error("message inside another message")]
    Nested,
    /// A length in more bytes than it needs.
    #[error("length in more bytes than it needs")]
    PaddedLength,
    /// A length of 2⁶³ bytes or more.
    #[error("length with its highest bit set")]
    NegativeLength,
    /// Half a code.
    #[error("close frame with one byte")]
    HalfCode,
    /// A code that close frames cannot have.
    #[error("close frame with the code {0}")]
    CloseCode(u16),
    /// Text, or the reason of a close frame, is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A compressed message (RFC 7692) that nothing comes out of.
    #[error("compressed message that cannot be decompressed")]
    Deflate,
    /// Longer than [`super::Rules::max_message`].
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
