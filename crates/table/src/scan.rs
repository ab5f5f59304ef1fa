//! Passes over all lines of a reading, chunk by chunk, on the threads of the current rayon pool.
//!
//! Invariants:
//! - A thread holds one chunk and its layout: half a mebibyte, plus [`Limits::scan_row_bytes`] for a row of that
//!   length. Pending results are those of a few chunks per thread, or of one chunk if rows are that long.
//! - Results are collected in the order of the lines, independent of the threads.

use std::io;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::reading::{Reading, ReadingState};
use crate::syntax::Layout;
use crate::{Control, Error, Limits};

/// The least size of a chunk except the last one: well within a core's cache, and large enough to amortize its
/// handling.
const CHUNK_BYTES: u64 = 256 << 10;

/// The number of chunks per thread between two collections: small, so that memory stays small and cancellation is
/// noticed soon.
pub(crate) const CHUNKS_PER_THREAD: usize = 8;

/// The number of chunks in a batch: smaller if rows are long, because their results are large too, but at least one
/// chunk per thread.
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

/// A run of complete lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// The number of the first line.
    pub(crate) line: u64,
}

/// Memory of a thread that is reused for every chunk.
#[derive(Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    pub(crate) layout: Layout,
    /// Scratch space of a few operations.
    pub(crate) spare: Vec<u8>,
}

/// The chunks from the one with `line` to the last current line.
pub(crate) fn chunks(state: &ReadingState, line: u64) -> Vec<Chunk> {
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

/// Some chunks spread over all lines, about `blocks` blocks: enough to determine the types of columns.
pub(crate) fn sample(state: &ReadingState, blocks: usize) -> Vec<Chunk> {
    let step = state.blocks.len().div_ceil(blocks.max(1)).max(1);
    let chosen = state.blocks.iter().enumerate().step_by(step);
    let chunks = chosen.map(|(i, block)| {
        let end = state.blocks.get(i + 1).map_or(state.tally.end, |next| next.offset).min(state.tally.end);
        Chunk { offset: block.offset, length: end.saturating_sub(block.offset), line: block.row }
    });
    chunks.filter(|chunk| chunk.length > 0).collect()
}

impl Reading {
    /// Calls `work` for every chunk and `collect` with each result, in order.
    ///
    /// `work` receives the chunk, its bytes and the thread's scratch memory. The pass covers the fraction `span` of the
    /// operation's progress. Returns the number of lines that were not examined completely
    /// ([`Limits::scan_row_bytes`]).
    pub(crate) fn scan<T: Send>(
        &self,
        chunks: &[Chunk],
        control: Control<'_>,
        span: (f32, f32),
        work: impl Fn(&Chunk, &[u8], &mut Scratch) -> T + Sync,
        mut collect: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let work = |found: &mut Option<T>, chunk: &Chunk, bytes: &[u8], scratch: &mut Scratch| {
            *found = Some(work(chunk, bytes, scratch));
        };
        let collect = |found: Option<T>, _| found.map_or(Ok(()), &mut collect);
        self.scan_runs(chunks, 1, control, span, || None, work, collect)
    }

    /// As [`Self::scan`], with a result for each run of at most `run` successive chunks: `new` makes it, `work` adds a chunk, and
    /// `collect` receives it with the number of chunks up to the end of the run.
    #[expect(clippy::too_many_arguments, reason = "the steps of the pass")]
    pub(crate) fn scan_runs<T: Send>(
        &self,
        chunks: &[Chunk],
        run: usize,
        control: Control<'_>,
        span: (f32, f32),
        new: impl Fn() -> T + Sync,
        work: impl Fn(&mut T, &Chunk, &[u8], &mut Scratch) + Sync,
        mut collect: impl FnMut(T, usize) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let spares = Mutex::new(Vec::new());
        let spares = || spares.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut done, mut clipped) = (0, 0);
        let (mut rest, threads) = (chunks, rayon::current_num_threads());
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch(rest, threads));
            rest = after;
            let all_of = |run: &[Chunk]| -> Result<(T, u64, usize), Error> {
                let (mut result, mut clipped) = (new(), 0);
                let mut scratch: Scratch = spares().pop().unwrap_or_default();
                for chunk in run {
                    control.check()?;
                    let mut bytes = std::mem::take(&mut scratch.bytes);
                    clipped += u64::from(self.load(chunk, &mut bytes)?);
                    work(&mut result, chunk, &bytes, &mut scratch);
                    scratch.bytes = bytes;
                }
                spares().push(scratch);
                Ok((result, clipped, run.len()))
            };
            // All threads have a run.
            let run = run.min(batch.len().div_ceil(threads));
            let results: Vec<Result<_, Error>> = batch.par_chunks(run).map(all_of).collect();
            for result in results {
                let (result, clipped_rows, length) = result?;
                (clipped, done) = (clipped + clipped_rows, done + length);
                collect(result, done)?;
            }
            control.report(done as u64, chunks.len() as u64, span);
        }
        Ok(clipped)
    }

    /// Reads a chunk. Returns whether its last line was too long and is incomplete.
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
