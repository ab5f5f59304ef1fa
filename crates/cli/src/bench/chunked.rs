//! Removes the chunk lengths from a response body of HTTP/1.1 (RFC 9112 §7.1), in place.

/// The longest line with the length of a chunk, in bytes.
const MAX_LENGTH_LINE: usize = 64;

/// The position between the chunks of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// The body is not chunked and continues until the connection ends.
    None,
    /// In the line with the length of the next chunk: the length so far, the number of bytes of the line, and whether
    /// the next byte may belong to the number.
    Length { value: u64, seen: usize, number: bool },
    /// The remaining bytes of the chunk.
    Data(u64),
    /// In the line break after a chunk.
    Break,
    /// After the last chunk.
    End,
}

impl ChunkState {
    /// At the beginning of a chunked body.
    pub(super) fn new() -> Self {
        Self::Length { value: 0, seen: 0, number: true }
    }

    /// Moves the bytes of the body to the front of `bytes`, which continue those of the previous call. Returns their
    /// number.
    ///
    /// # Errors
    /// Invalid chunks, as text.
    pub(super) fn strip(&mut self, bytes: &mut [u8]) -> Result<usize, String> {
        if *self == Self::None {
            return Ok(bytes.len());
        }
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            match *self {
                Self::None | Self::End => break,
                Self::Data(left) => {
                    let count =
                        usize::try_from(left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                    bytes.copy_within(at..at + count, kept);
                    at += count;
                    kept += count;
                    let left = left - count as u64;
                    *self = if left == 0 { Self::Break } else { Self::Data(left) };
                }
                Self::Break => {
                    if bytes[at] == b'\n' {
                        *self = Self::new();
                    }
                    at += 1;
                }
                Self::Length { value, seen, number } => {
                    *self = length(bytes[at], value, seen, number)?;
                    at += 1;
                }
            }
        }
        Ok(kept)
    }
}

fn length(byte: u8, value: u64, seen: usize, number: bool) -> Result<ChunkState, String> {
    if seen >= MAX_LENGTH_LINE {
        return Err("a chunk's length that does not end".to_owned());
    }
    let digit = char::from(byte).to_digit(16).filter(|_| number);
    Ok(match (byte, digit) {
        (_, Some(digit)) => {
            let value = value.checked_mul(16).ok_or("a chunk that is far too long")? + u64::from(digit);
            ChunkState::Length { value, seen: seen + 1, number: true }
        }
        (b'\n', _) if seen > 0 => match value {
            0 => ChunkState::End,
            value => ChunkState::Data(value),
        },
        // Chunk extensions after the number are ignored.
        (b'\r' | b';' | b' ' | b'\t', _) if seen > 0 => {
            ChunkState::Length { value, seen: seen + 1, number: false }
        }
        _ if !number => ChunkState::Length { value, seen: seen + 1, number },
        _ => return Err("an answer that is not in chunks".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_same_at_every_split() {
        let stream = b"5\r\nhello\r\n1;x=y\r\n,\r\n0A\r\n 0123\r\n678\r\n0\r\n\r\n";
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut chunks = ChunkState::new();
                let mut body = Vec::new();
                for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                    let mut part = part.to_vec();
                    let kept = chunks.strip(&mut part).unwrap();
                    body.extend_from_slice(&part[..kept]);
                }
                assert_eq!(body, b"hello, 0123\r\n678", "cut at {first} and {second}");
                assert_eq!(chunks, ChunkState::End);
            }
        }
    }

    #[test]
    fn a_body_without_chunks_is_unchanged_and_an_invalid_one_is_an_error() {
        assert_eq!(ChunkState::None.strip(&mut b"data".to_vec()), Ok(4));
        assert!(ChunkState::new().strip(&mut b"data: x\n\n".to_vec()).is_err());
        assert!(ChunkState::new().strip(&mut b"\r\n".to_vec()).is_err());
        assert!(ChunkState::new().strip(&mut [b'1'; 100]).is_err());
    }
}
