//! Compression of output (RFC 7692 §7.2.1).

use std::fmt;

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output,
};

use super::{COMPRESSED, Counts, TAIL, WINDOW_BITS};
use crate::{Opcode, frame};

/// The longest distance of a back reference, in bytes.
const WINDOW: usize = 1 << WINDOW_BITS;
/// Capacity of a buffer that is retained between two messages, in bytes.
const SPARE: usize = 1 << 16;

/// Compresses messages, each on its own.
pub struct Deflater {
    level: u8,
    min_size: usize,
    state: Option<Box<CompressorOxide>>,
    plain: Vec<u8>,
    packed: Vec<u8>,
    counts: Counts,
}

impl Deflater {
    /// A deflater with `level`, from 1 (fast) to 9 (small), for messages of `min_size` bytes or more.
    pub fn new(level: u8, min_size: usize) -> Self {
        let (plain, packed) = (Vec::new(), Vec::new());
        Self { level: level.clamp(1, 9), min_size, state: None, plain, packed, counts: Counts::default() }
    }

    /// Appends a server's frame with a whole message; `write` appends its payload to an empty buffer. A message that is
    /// short, or would not become shorter, is not compressed.
    pub fn frame_with(&mut self, opcode: Opcode, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        self.plain.clear();
        write(&mut self.plain);
        if self.plain.len() >= self.min_size.max(1) && self.compress() {
            let start = out.len();
            frame(opcode, &self.packed, out);
            out[start] |= COMPRESSED;
            self.counts.add(self.plain.len(), self.packed.len());
        } else {
            frame(opcode, &self.plain, out);
            self.counts.add(self.plain.len(), self.plain.len());
        }
        for buffer in [&mut self.plain, &mut self.packed] {
            buffer.clear();
            buffer.shrink_to(SPARE);
        }
    }

    /// The bytes processed so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Compresses the message; returns whether the result is shorter.
    fn compress(&mut self) -> bool {
        let Self { state, plain, packed, .. } = self;
        packed.clear();
        let level = self.level;
        let state = match state {
            Some(state) => {
                state.reset();
                state
            }
            None => state.insert(Box::new(CompressorOxide::with_params(
                DataFormat::Raw,
                level,
                CompressionStrategy::Default,
                // The library supports smaller windows at the fastest level only; the flushes limit the distance here.
                15,
            ))),
        };
        // A result that is not shorter than the message is discarded.
        let bound = plain.len() + TAIL.len();
        let mut parts = plain.chunks(WINDOW).peekable();
        while let Some(part) = parts.next() {
            // No back reference crosses a full flush.
            let flush = if parts.peek().is_some() { TDEFLFlush::Full } else { TDEFLFlush::Sync };
            let (status, used) = compress_to_output(state, part, flush, |bytes| {
                packed.extend_from_slice(bytes);
                packed.len() < bound
            });
            if status != TDEFLStatus::Okay || used != part.len() {
                return false;
            }
        }
        let whole = packed.ends_with(&TAIL);
        packed.truncate(packed.len().saturating_sub(TAIL.len()));
        whole && packed.len() < plain.len()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("level", &self.level).field("counts", &self.counts).finish()
    }
}
