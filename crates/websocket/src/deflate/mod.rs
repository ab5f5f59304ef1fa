//! `permessage-deflate` (RFC 7692) without I/O: negotiation, compression of output, decompression of input.
//!
//! It is negotiated in one way alone: no message depends on an earlier one, in either direction
//! (`…_no_context_takeover`). So one compressed message serves any number of clients, and a connection has no window: a
//! [`Deflater`] and an [`Inflater`] serve all connections of a thread, one message after the other.
//!
//! ```
//! use tidings_websocket::deflate::{self, Deflater, Inflater};
//! use tidings_websocket::{Event, Kind, Opcode, Reader, Role, Rules};
//!
//! let offered = ["permessage-deflate; client_max_window_bits"];
//! let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
//! assert_eq!(deflate::negotiate(offered), Some(answer));
//!
//! // A server's side: the frame is for every client with which it was agreed on.
//! let text = "tidings of comfort and joy, ".repeat(20);
//! let (mut deflater, mut frame) = (Deflater::new(1, 0), Vec::new());
//! deflater.frame_with(Opcode::Text, &mut frame, |out| out.extend_from_slice(text.as_bytes()));
//! assert!(frame.len() < text.len() / 4);
//!
//! // The other side.
//! let rules = Rules { role: Role::Client, max_message: 1000 };
//! let (mut reader, mut inflater, mut message) = (Reader::default(), Inflater::default(), Vec::new());
//! let (_, event) = reader.read_deflated(&frame, &rules, &mut message, &mut inflater)?;
//! assert_eq!((event, &message[..]), (Event::Message(Kind::Text), text.as_bytes()));
//! # Ok::<(), tidings_websocket::ProtocolError>(())
//! ```
//!
//! Invariants:
//! - Nothing of one message reaches another, neither in output nor in input.
//! - Output refers back 4 KiB at most, so that it can be read with the smallest window that libraries commonly request.
//! - A message is decompressed when it is complete, up to the longest allowed message and no further.
//! - Neither side has memory before its first compressed message: about 310 KiB to compress, 10 KiB to decompress, and
//!   buffers of up to 64 KiB each.

mod compress;
mod decompress;
mod negotiation;

pub use compress::Deflater;
pub use decompress::Inflater;
pub(crate) use decompress::longest_compressed;
pub use negotiation::{EXTENSION, negotiate};

/// The base-2 logarithm of the window of output. Python's websockets requests no larger one; with 15, a message of
/// trades in JSON would be a tenth shorter from some 10 KB on, and equally long below.
const WINDOW_BITS: u8 = 12;

/// The omitted end of a compressed message (RFC 7692 §7.2.1): an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The bit of a frame's first byte that marks a compressed message, RSV1 (RFC 7692 §6).
pub(crate) const COMPRESSED: u8 = 0x40;

/// Bytes that a [`Deflater`] or an [`Inflater`] has processed since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of messages before compression.
    pub plain: u64,
    /// Of the same messages on the wire, without their frames' headers.
    pub packed: u64,
}

impl Counts {
    fn add(&mut self, plain: usize, packed: usize) {
        self.plain += plain as u64;
        self.packed += packed as u64;
    }
}
