//! Encoding of messages as frames.

use crate::{CloseCode, MAX_CONTROL, Opcode, mask};

/// The header of a frame (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub is_final: bool,
    /// The kind of the frame.
    pub opcode: Opcode,
    /// The mask of the payload; a client always uses one.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the payload, below 2⁶³.
    pub length: u64,
}

impl Header {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; 14];
        let length = self.place(&mut bytes);
        out.extend_from_slice(&bytes[..length]);
    }

    /// Writes it to the front of `bytes`; returns its length.
    fn place(&self, bytes: &mut [u8; 14]) -> usize {
        bytes[0] = u8::from(self.is_final) << 7 | self.opcode as u8;
        let masked = u8::from(self.mask.is_some()) << 7;
        let end = match self.length {
            short @ ..=125 => {
                bytes[1] = masked | short as u8;
                2
            }
            medium @ ..=0xFFFF => {
                bytes[1] = masked | 126;
                bytes[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                4
            }
            long => {
                bytes[1] = masked | 127;
                bytes[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        let Some(mask) = self.mask else { return end };
        bytes[end..end + 4].copy_from_slice(&mask);
        end + 4
    }
}

/// Appends a server's frame: a whole message, or a control frame of at most [`MAX_CONTROL`] bytes.
pub fn frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let header = server_header(opcode, payload.len());
    out.reserve(header_len(payload.len()) + payload.len());
    header.write(out);
    out.extend_from_slice(payload);
}

/// Appends a server's frame; `write` appends its payload of about `expected` bytes. The payload is moved afterwards
/// only when the field of its length needs more or fewer bytes than that of the expected one (there are three sizes,
/// from 0, 126 and 65,536 on).
pub fn frame_with(opcode: Opcode, expected: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let mut payload = start + header_len(expected);
    out.reserve(header_len(expected) + expected);
    out.resize(payload, 0);
    write(out);
    let length = out.len() - payload;
    let moved = start + header_len(length);
    if moved > payload {
        out.resize(moved + length, 0);
    }
    if moved != payload {
        out.copy_within(payload..payload + length, moved);
        out.truncate(moved + length);
        payload = moved;
    }
    let mut header = [0; 14];
    let size = server_header(opcode, length).place(&mut header);
    out[start..payload].copy_from_slice(&header[..size]);
}

/// Appends a server's close frame. The reason is cut, between two characters, to 123 bytes. A code that close frames
/// cannot have is omitted together with the reason: it represents the absence of a code.
pub fn close(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(MAX_CONTROL);
    if code.is_allowed() {
        payload.extend_from_slice(&code.0.to_be_bytes());
        let end = (0..=reason.len().min(MAX_CONTROL - 2)).rev().find(|end| reason.is_char_boundary(*end));
        payload.extend_from_slice(&reason.as_bytes()[..end.unwrap_or(0)]);
    }
    frame(Opcode::Close, &payload, out);
}

/// Appends a client's frame: a whole message, or a control frame of at most [`MAX_CONTROL`] bytes. The key must be new
/// each time, and unpredictable (RFC 6455 §10.3).
pub fn masked_frame(opcode: Opcode, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    let header = Header { mask: Some(key), ..server_header(opcode, payload.len()) };
    out.reserve(header_len(payload.len()) + 4 + payload.len());
    header.write(out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], key, 0);
}

fn server_header(opcode: Opcode, length: usize) -> Header {
    debug_assert!(!opcode.is_control() || length <= MAX_CONTROL, "a control frame of {length} bytes");
    Header { is_final: true, opcode, mask: None, length: length as u64 }
}

/// Bytes of the header of a server's frame with that much payload.
const fn header_len(payload: usize) -> usize {
    match payload {
        ..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_independent_of_the_expected_length() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let mut plain = b"before".to_vec();
            frame(Opcode::Text, &payload, &mut plain);
            for expected in [0, 125, 126, 65_535, 65_536, 1 << 20] {
                let mut out = b"before".to_vec();
                frame_with(Opcode::Text, expected, &mut out, |out| out.extend_from_slice(&payload));
                assert!(out == plain, "{length} bytes where {expected} were expected");
            }
        }
    }

    proptest! {
        #[test]
        fn a_masked_frame_is_the_plain_one_with_a_mask(payload in any::<Vec<u8>>(), key: [u8; 4]) {
            let (mut plain, mut masked) = (Vec::new(), Vec::new());
            frame(Opcode::Binary, &payload, &mut plain);
            masked_frame(Opcode::Binary, &payload, key, &mut masked);
            let start = plain.len() - payload.len();
            prop_assert_eq!(masked[1], plain[1] | 0x80);
            prop_assert_eq!(&masked[start..start + 4], &key);
            mask(&mut masked[start + 4..], key, 0);
            prop_assert_eq!(&masked[start + 4..], &payload[..]);
        }
    }
}
