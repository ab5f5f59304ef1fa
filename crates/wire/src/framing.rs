//! The delimiting of messages on a connection, independent of their contents.
//!
//! HTTP chunks are no framing of this kind: a body is one stream of bytes, which the writer of the socket cuts into
//! chunks.

use crate::sse;
use crate::ws::{self, Opcode};

/// The delimiting of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A message is a line.
    #[default]
    Line,
    /// A message is a frame of a WebSocket (RFC 6455 §5.2).
    WebSocket {
        /// Whether both sides agreed on compression (RFC 7692).
        deflate: bool,
    },
    /// A message is a server-sent event (WHATWG HTML §9.2).
    SseEvent,
    /// The messages delimit themselves.
    Raw,
}

impl Framing {
    /// Whether messages are frames of a WebSocket.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket { .. })
    }

    /// Whether those may be compressed.
    pub const fn is_deflated(self) -> bool {
        matches!(self, Self::WebSocket { deflate: true })
    }

    /// Appends one message without compression; `write` appends its bytes. `opcode` is that of a WebSocket's frame;
    /// `expected` is about how many bytes the message has.
    #[inline]
    pub fn frame_with(
        self,
        opcode: Opcode,
        expected: usize,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        match self {
            Self::Line => {
                write(out);
                out.push(b'\n');
            }
            Self::WebSocket { .. } => ws::frame_with(opcode, expected, out, write),
            Self::SseEvent => sse::data_line(out, write),
            Self::Raw => write(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_appended_with_its_delimiters() {
        let framed = |framing: Framing| {
            let mut out = b"before ".to_vec();
            framing.frame_with(Opcode::Text, 2, &mut out, |out| out.extend_from_slice(b"{}"));
            out.split_off(7)
        };
        assert_eq!(framed(Framing::Line), b"{}\n");
        assert_eq!(framed(Framing::Raw), b"{}");
        assert_eq!(framed(Framing::SseEvent), b"data: {}\n\n");
        for deflate in [false, true] {
            assert_eq!(framed(Framing::WebSocket { deflate }), b"\x81\x02{}");
        }
    }
}
