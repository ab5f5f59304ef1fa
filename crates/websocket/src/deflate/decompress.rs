//! Decompression of input (RFC 7692 §7.2.2).

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF as IN_ONE_PIECE;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{Counts, TAIL};
use crate::ProtocolError;

/// An empty stored block that is the last one: when it has been read, the message has ended between two blocks.
const LAST: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];
/// Bytes appended to a message before decompression (RFC 7692 §7.2.2).
const BEHIND: usize = TAIL.len() + LAST.len();

/// Capacity of a buffer that is retained between two messages, in bytes.
const SPARE: usize = 1 << 16;
/// The initial capacity for a message, in bytes.
const ROOM: usize = 1 << 10;
/// Growth factor of the capacity.
const GROWTH: usize = 4;

/// Decompresses messages, each on its own.
#[derive(Default)]
pub struct Inflater {
    state: Option<Box<DecompressorOxide>>,
    plain: Vec<u8>,
    counts: Counts,
}

/// Longest compressed form of a message of at most `max` bytes. Incompressible data grows a little; zlib's own bound
/// for its worst settings (`deflateBound`) is a seventh, and a few bytes.
pub(crate) fn longest_compressed(max: u64) -> u64 {
    max.saturating_add(max / 4).saturating_add(64)
}

impl Inflater {
    /// Replaces the compressed message by the decompressed one.
    ///
    /// # Errors
    /// [`ProtocolError::TooBig`] when it has more than `max` bytes; no more than those are ever held.
    /// [`ProtocolError::Deflate`] when it is no compressed message.
    pub(crate) fn decompress(&mut self, message: &mut Vec<u8>, max: u64) -> Result<(), ProtocolError> {
        let length = message.len();
        if length == 0 {
            // Not even an empty block, which §7.2.3.6 requires; libraries read it as an empty message.
            return Ok(());
        }
        message.extend_from_slice(&TAIL);
        message.extend_from_slice(&LAST);
        let done = self.read(message, max);
        message.truncate(length);
        if done.is_ok() {
            self.counts.add(self.plain.len(), length);
            std::mem::swap(message, &mut self.plain);
        }
        self.plain.clear();
        self.plain.shrink_to(SPARE);
        done
    }

    /// The bytes processed so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Reads all of `packed`, which has [`BEHIND`] at its end.
    fn read(&mut self, packed: &[u8], max: u64) -> Result<(), ProtocolError> {
        let state = self.state.get_or_insert_default();
        // One byte more shows that it is too long.
        let most = usize::try_from(max.saturating_add(1)).unwrap_or(usize::MAX);
        let (mut input, mut begin, mut end) = (packed, 0, 0);
        grow(&mut self.plain, packed.len().saturating_mul(GROWTH).max(ROOM).min(most));
        state.init();
        loop {
            // In a buffer that does not wrap, no back reference can reach before the beginning.
            let (status, used, written) =
                decompress(state, input, &mut self.plain[begin..], end - begin, IN_ONE_PIECE);
            input = &input[used..];
            end += written;
            match (status, input.len()) {
                (TINFLStatus::Done, 0) => break,
                // Its own last block ends it (§7.2.3.4 would have one byte behind it).
                (TINFLStatus::Done, BEHIND) => break,
                // More blocks follow the last one: a message in several streams.
                (TINFLStatus::Done, more) if more > BEHIND => {
                    state.init();
                    begin = end;
                }
                (TINFLStatus::HasMoreOutput, _) if end >= most => return Err(ProtocolError::TooBig(max)),
                (TINFLStatus::HasMoreOutput, _) => {
                    let room = self.plain.len().saturating_mul(GROWTH).max(ROOM).min(most);
                    grow(&mut self.plain, room);
                }
                _ => return Err(ProtocolError::Deflate),
            }
        }
        if end >= most {
            return Err(ProtocolError::TooBig(max));
        }
        self.plain.truncate(end);
        Ok(())
    }
}

/// Sets the length of a buffer, without spare capacity.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    buffer.reserve_exact(length.saturating_sub(buffer.len()));
    buffer.resize(length, 0);
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("counts", &self.counts).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decompression_bomb_takes_no_more_memory_than_the_limit() {
        use miniz_oxide::deflate::compress_to_vec;
        for max in [0_u64, 1, 1000, 100_000] {
            let mut bomb = compress_to_vec(&vec![0; 1 << 24], 9);
            bomb.truncate(longest_compressed(max).try_into().unwrap());
            bomb.extend_from_slice(&TAIL);
            bomb.extend_from_slice(&LAST);
            let mut inflater = Inflater::default();
            assert_eq!(inflater.read(&bomb, max), Err(ProtocolError::TooBig(max)));
            assert!(inflater.plain.capacity() as u64 <= max + 1, "{}", inflater.plain.capacity());
        }
    }

    #[test]
    fn little_memory_is_retained_between_messages() {
        let mut inflater = Inflater::default();
        assert!(inflater.state.is_none());
        let mut message = miniz_oxide::deflate::compress_to_vec(&vec![7; 1 << 22], 1);
        inflater.decompress(&mut message, 1 << 22).unwrap();
        assert_eq!(message, vec![7; 1 << 22]);
        assert!(inflater.plain.capacity() <= SPARE);
        assert!(size_of::<DecompressorOxide>() <= 12 << 10, "{}", size_of::<DecompressorOxide>());
    }
}
