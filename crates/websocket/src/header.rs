//! The header of a frame (RFC 6455 §5.2).

use crate::Opcode;

/// Longest header of a frame: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// The received part of a frame's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    bytes: [u8; MAX_HEADER],
    have: u8,
}

impl FrameHeader {
    /// Whether no byte has been received.
    pub(crate) fn is_empty(&self) -> bool {
        self.have == 0
    }

    /// Number of received bytes.
    pub(crate) fn have(&self) -> usize {
        self.have.into()
    }

    /// Length of the header in bytes, as far as the received bytes determine it.
    pub(crate) fn len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        self.mask_at() + if self.is_masked() { 4 } else { 0 }
    }

    /// Takes bytes from `rest` up to the length as determined before.
    pub(crate) fn fill(&mut self, rest: &mut &[u8]) {
        let have = self.have();
        let (taken, after) = rest.split_at((self.len() - have).min(rest.len()));
        self.bytes[have..have + taken.len()].copy_from_slice(taken);
        self.have += taken.len() as u8;
        *rest = after;
    }

    /// The first byte: the bits for the final frame and for extensions, and the opcode.
    pub(crate) fn first(&self) -> u8 {
        self.bytes[0]
    }

    /// Whether this is the last frame of its message.
    pub(crate) fn is_final(&self) -> bool {
        self.bytes[0] & 0x80 != 0
    }

    /// The frame's opcode; its number is already checked.
    pub(crate) fn opcode(&self) -> Opcode {
        Opcode::new(self.bytes[0] & 0x0F).unwrap_or(Opcode::Continuation)
    }

    /// Whether this is a control frame.
    pub(crate) fn is_control(&self) -> bool {
        self.bytes[0] & 0x08 != 0
    }

    /// Whether the payload is masked.
    pub(crate) fn is_masked(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The length in the second byte; 126 and 127 announce a field of two or eight bytes.
    pub(crate) fn short_length(&self) -> u8 {
        self.bytes[1] & 0x7F
    }

    /// The position of the mask in the header.
    fn mask_at(&self) -> usize {
        match self.short_length() {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    /// The mask, if the payload is masked.
    pub(crate) fn mask(&self) -> Option<[u8; 4]> {
        self.bytes[self.mask_at()..].first_chunk().copied().filter(|_| self.is_masked())
    }

    /// Bytes of the payload.
    pub(crate) fn length(&self) -> u64 {
        let [_, _, rest @ ..] = &self.bytes;
        match (self.short_length(), rest) {
            (126, [a, b, ..]) => u16::from_be_bytes([*a, *b]).into(),
            (127, [a, b, c, d, e, f, g, h, ..]) => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            (short, _) => short.into(),
        }
    }
}
