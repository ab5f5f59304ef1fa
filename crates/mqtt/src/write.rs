//! The data representations of MQTT (5.0 §1.5), appended to a buffer.

use crate::error::EncodeError;
use crate::types::MAX_REMAINING_LENGTH;

/// Bytes of a variable byte integer.
pub(crate) const fn varint_len(number: usize) -> usize {
    match number {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer, which is at most [`MAX_REMAINING_LENGTH`].
pub(crate) fn varint(mut number: usize, out: &mut Vec<u8>) {
    debug_assert!(number <= MAX_REMAINING_LENGTH, "{number}");
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends binary data.
pub(crate) fn binary(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong(bytes.len()))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a UTF-8 encoded string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if text.as_bytes().contains(&0) { Err(EncodeError::Nul) } else { binary(text.as_bytes(), out) }
}

/// Appends a packet with a body that `write` appends; after an error, nothing.
pub(crate) fn packet(
    first: u8,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    // The length of most bodies takes one byte; a longer length moves the body once.
    out.extend_from_slice(&[first, 0]);
    let body = start + 2;
    let written = write(out).and_then(|()| checked(out.len() - body));
    let Ok(length) = written else {
        out.truncate(start);
        return written.map(drop);
    };
    if length < 0x80 {
        out[start + 1] = length as u8;
    } else {
        let mut bytes = Vec::with_capacity(4);
        varint(length, &mut bytes);
        out.splice(start + 1..body, bytes);
    }
    Ok(())
}

/// The length of a body, if a packet can have it.
pub(crate) fn checked(length: usize) -> Result<usize, EncodeError> {
    if length > MAX_REMAINING_LENGTH { Err(EncodeError::PacketTooLarge(length)) } else { Ok(length) }
}
