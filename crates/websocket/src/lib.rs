//! WebSocket (RFC 6455) without I/O: handshakes, frames, and messages.
//!
//! A [`Reader`] takes a connection's bytes, split in any way, and returns messages and control frames; it checks all
//! rules of the RFC as early as the bytes permit. A server writes with [`frame`] and [`close()`]: these frames have no
//! mask, so that one frame serves any number of clients; a client writes with [`masked_frame`].
//!
//! One extension is supported where it was negotiated, see [`deflate`]; elsewhere all reserved bits are 0.
//!
//! ```
//! use tidings_websocket::{self as ws, Event, Opcode, Reader, Role, Rules};
//!
//! let rules = Rules { role: Role::Server, max_message: 65_536 };
//! // What a session keeps; both are as new again whenever a message has ended.
//! let (mut reader, mut message) = (Reader::default(), Vec::new());
//! let mut answers = Vec::new();
//!
//! let mut sent = Vec::new();
//! ws::masked_frame(Opcode::Ping, b"there?", [1, 2, 3, 4], &mut sent);
//! ws::masked_frame(Opcode::Text, b"{}", [5, 6, 7, 8], &mut sent);
//! // As it comes from the socket: in pieces.
//! for mut piece in sent.chunks(5) {
//!     while !piece.is_empty() {
//!         let (used, event) = reader.read(piece, &rules, &mut message)?;
//!         piece = &piece[used..];
//!         match event {
//!             Event::Partial => {}
//!             Event::Ping(payload) => ws::frame(Opcode::Pong, &payload, &mut answers),
//!             Event::Pong(_) => {}
//!             Event::Message(_) => assert_eq!(std::mem::take(&mut message), b"{}"),
//!             Event::Close(_) => break,
//!         }
//!     }
//! }
//! assert_eq!(answers, b"\x8A\x06there?");
//! assert!(reader == Reader::default() && message.is_empty());
//! # Ok::<(), ws::ProtocolError>(())
//! ```
//!
//! Invariants:
//! - A reader owns no heap memory, and between two messages it is equal to a new one: an idle connection needs
//!   none. The bytes of a message that has not ended yet are the caller's.
//! - The caller stores at most the longest allowed message and the payload of one control frame; a quarter more while a
//!   compressed message arrives.
//! - Text is valid UTF-8. Invalid text is refused at its first wrong byte (when the message is complete, if it is
//!   compressed).

mod close;
pub mod deflate;
mod error;
pub mod handshake;
mod header;
mod mask;
mod reader;
mod utf8;
mod write;

pub use close::{Close, CloseCode};
pub use error::ProtocolError;
pub use mask::mask;
pub use reader::{Control, Event, Reader, Rules};
pub use write::{Header, close, frame, frame_with, masked_frame};

/// The kind of a frame (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The continuation of a message.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Any bytes.
    Binary = 2,
    /// A Close frame.
    Close = 8,
    /// A ping, to be answered with a pong of the same payload.
    Ping = 9,
    /// The answer to a ping, or an unsolicited heartbeat.
    Pong = 10,
}

impl Opcode {
    /// The opcode with this number, if the RFC has one.
    pub const fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether frames of this kind may be sent between those of a message. Their payload has at most [`MAX_CONTROL`]
    /// bytes.
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// The side of a connection. A client's frames are masked, a server's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads messages of clients.
    Server,
    /// Reads messages of servers.
    Client,
}

/// Longest payload of a control frame, in bytes.
pub const MAX_CONTROL: usize = 125;
