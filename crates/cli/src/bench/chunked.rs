//! The body of an answer of HTTP/1.1 without its chunks' lengths (RFC 9112 §7.1), in place.

/// The longest line with a chunk's length, in bytes.
const MAX_LENGTH_LINE: usize = 64;

/// Where one is between the chunks of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// The body has no chunks: it goes on until the connection ends.
    None,
    /// In the line with the next chunk's length: the length so far, the number of bytes of the line, and whether the
    /// next byte may belong to the number.
    Length { value: u64, seen: usize, number: bool },
    /// So many bytes of the chunk are to come.
    Data(u64),
    /// In the line break behind a chunk.
    Break,
    /// Behind the last chunk.
    End,
}

impl Chunks {
    /// At the beginning of a body that has chunks.
    pub(super) fn new() -> Self {
        Self::Length { value: 0, seen: 0, number: true }
    }

    /// Moves the body's bytes to the front of `bytes`, which follow those of the call before, and gives how many they
    /// are.
    ///
    /// # Errors
    /// Bytes that are no chunks, in words.
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

fn length(byte: u8, value: u64, seen: usize, number: bool) -> Result<Chunks, String> {
    if seen >= MAX_LENGTH_LINE {
        return Err("a chunk's length that does not end".to_owned());
    }
    let digit = char::from(byte).to_digit(16).filter(|_| number);
    Ok(match (byte, digit) {
        (_, Some(digit)) => {
            let value = value.checked_mul(16).ok_or("a chunk that is far too long")? + u64::from(digit);
            Chunks::Length { value, seen: seen + 1, number: true }
        }
        (b'\n', _) if seen > 0 => match value {
            0 => Chunks::End,
            value => Chunks::Data(value),
        },
        // Chunk extensions after the number are ignored.
        (b'\r' | b';' | b' ' | b'\t', _) if seen > 0 => {
            Chunks::Length { value, seen: seen + 1, number: false }
        }
        _ if !number => Chunks::Length { value, seen: seen + 1, number },
        _ => return Err("an answer that is not in chunks".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_same_however_the_stream_is_cut() {
        let stream = b"5\r\nhello\r\n1;x=y\r\n,\r\n0A\r\n 0123\r\n678\r\n0\r\n\r\n";
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut chunks = Chunks::new();
                let mut body = Vec::new();
                for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                    let mut part = part.to_vec();
                    let kept = chunks.strip(&mut part).unwrap();
                    body.extend_from_slice(&part[..kept]);
                }
                assert_eq!(body, b"hello, 0123\r\n678", "cut at {first} and {second}");
                assert_eq!(chunks, Chunks::End);
            }
        }
    }

    #[test]
    fn a_body_without_chunks_is_left_as_it_is_and_nonsense_is_named() {
        assert_eq!(Chunks::None.strip(&mut b"data".to_vec()), Ok(4));
        assert!(Chunks::new().strip(&mut b"data: x\n\n".to_vec()).is_err());
        assert!(Chunks::new().strip(&mut b"\r\n".to_vec()).is_err());
        assert!(Chunks::new().strip(&mut [b'1'; 100]).is_err());
    }
}
