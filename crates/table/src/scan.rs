//! Goes over all lines of a reading, chunk by chunk, on as many threads as the current rayon pool has.
//!
//! Invariants:
//! - A thread holds one chunk and its layout: half a mebibyte, and [`Limits::scan_row_bytes`] more where a row
//!   is as long as that. Results that wait for others are of a few chunks for each thread, of one where rows are
//!   that long.
//! - Results are collected in the order of the lines, whatever thread came first.

use std::io;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::reading::{Reading, State};
use crate::syntax::Layout;
use crate::{Control, Error, Limits};

/// How much text a chunk has at least, except the last one: well within a core's cache, and enough to make
/// its handling cheap.
const CHUNK_BYTES: u64 = 256 << 10;

/// How many chunks a thread gets before results are collected: few, so that memory stays small and a
/// cancellation is seen soon.
const CHUNKS_PER_THREAD: usize = 8;

/// The size of a batch of `chunks` for this number of threads: smaller where rows are long, because their results are
/// large too, but at least one chunk for each thread.
fn batch(chunks: &[Chunk], threads: usize) -> usize {
    let most = CHUNKS_PER_THREAD * threads;
    let mut room = most as u64 * 2 * CHUNK_BYTES;
    let fitting = chunks.iter().take(most).take_while(|chunk| {
        let fits = room > 0;
        room = room.saturating_sub(chunk.length);
        fits
    });
    fitting.count().max(threads.min(chunks.len()))
}

/// A run of whole lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// The number of the first line.
    pub(crate) line: u64,
}

/// What a thread uses again for every chunk.
#[derive(Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    pub(crate) layout: Layout,
    /// Scratch space of a few operations.
    pub(crate) spare: Vec<u8>,
}

/// The chunks from the one with `line` to the last line that is there now.
pub(crate) fn chunks(state: &State, line: u64) -> Vec<Chunk> {
    let first = state.blocks.partition_point(|block| block.row <= line).saturating_sub(1);
    let mut chunks: Vec<Chunk> = Vec::new();
    for (i, block) in state.blocks.iter().enumerate().skip(first) {
        let end = state.blocks.get(i + 1).map_or(state.tally.end, |next| next.offset).min(state.tally.end);
        let length = end.saturating_sub(block.offset);
        match chunks.last_mut() {
            Some(last) if last.length < CHUNK_BYTES => last.length += length,
            _ if length == 0 => {}
            _ => chunks.push(Chunk { offset: block.offset, length, line: block.row }),
        }
    }
    chunks
}

/// Some chunks spread over all lines, about `blocks` blocks: enough to find the types of columns.
pub(crate) fn sample(state: &State, blocks: usize) -> Vec<Chunk> {
    let step = state.blocks.len().div_ceil(blocks.max(1)).max(1);
    let chosen = state.blocks.iter().enumerate().step_by(step);
    let chunks = chosen.map(|(i, block)| {
        let end = state.blocks.get(i + 1).map_or(state.tally.end, |next| next.offset).min(state.tally.end);
        Chunk { offset: block.offset, length: end.saturating_sub(block.offset), line: block.row }
    });
    chunks.filter(|chunk| chunk.length > 0).collect()
}

impl Reading {
    /// Has `work` done on every chunk and `collect` called with each result, in order.
    ///
    /// `work` gets the chunk, its bytes and a scratch; it counts as the part of the operation that `span` is.
    /// Gives the number of lines of which not all was looked at ([`Limits::scan_row_bytes`]).
    pub(crate) fn scan<T: Send>(
        &self,
        chunks: &[Chunk],
        control: Control<'_>,
        span: (f32, f32),
        work: impl Fn(&Chunk, &[u8], &mut Scratch) -> T + Sync,
        mut collect: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let spares = Mutex::new(Vec::new());
        let spares = || spares.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut done, mut clipped) = (0, 0);
        let mut rest = chunks;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch(rest, rayon::current_num_threads()));
            rest = after;
            let one = |chunk: &Chunk| -> Result<(T, bool), Error> {
                control.check()?;
                let mut scratch: Scratch = spares().pop().unwrap_or_default();
                let mut bytes = std::mem::take(&mut scratch.bytes);
                let is_clipped = self.load(chunk, &mut bytes)?;
                let result = work(chunk, &bytes, &mut scratch);
                scratch.bytes = bytes;
                spares().push(scratch);
                Ok((result, is_clipped))
            };
            let results: Vec<Result<_, Error>> = batch.par_iter().map(one).collect();
            for result in results {
                let (result, is_clipped) = result?;
                clipped += u64::from(is_clipped);
                collect(result)?;
            }
            done += batch.len() as u64;
            control.report(done, chunks.len() as u64, span);
        }
        Ok(clipped)
    }

    /// Reads a chunk; gives whether its last line was too long and is not all there.
    fn load(&self, chunk: &Chunk, bytes: &mut Vec<u8>) -> io::Result<bool> {
        // The last line of a chunk starts within it or one block later, however long it is.
        let most = 2 * CHUNK_BYTES + self.limits().scan_row_bytes as u64;
        bytes.resize(chunk.length.min(most) as usize, 0);
        let read = self.text().read(chunk.offset, bytes)?;
        bytes.truncate(read);
        Ok(chunk.length > most)
    }
}

const _: () = assert!(Limits::ROWS <= u32::MAX as u64, "orders hold lines in 32 bits");
