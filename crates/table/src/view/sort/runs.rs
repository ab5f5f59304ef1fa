//! Sorting of keys above the memory limit: sorted runs in a file, and their merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use super::SCAN;
use super::keys::{Keys, line_of, place_of, prefix_of};
use crate::disk::UnlinkedFile;
use crate::order::{OrderBuilder, RowOrder};
use crate::reading::Reading;
use crate::{Control, Error};

/// Collects any number of keys, and returns their lines sorted.
pub(super) struct Sorter<'a> {
    reading: &'a Reading,
    keys: Keys,
    most: usize,
    spilled: Option<Spilled>,
}

/// Sorted runs of keys in a file.
struct Spilled {
    file: BufWriter<UnlinkedFile>,
    length: u64,
    /// The end of each run.
    ends: Vec<u64>,
}

impl<'a> Sorter<'a> {
    pub(super) fn new(reading: &'a Reading) -> Self {
        // Positions of keys have 32 bits.
        let most = reading.limits().sort_bytes.min(2 << 30);
        Self { reading, keys: Keys::default(), most, spilled: None }
    }

    pub(super) fn take(&mut self, keys: &Keys, control: Control<'_>) -> Result<(), Error> {
        if !self.keys.entries.is_empty() && self.keys.bytes() + keys.bytes() > self.most {
            self.spill(control)?;
        }
        if self.keys.entries.capacity() == 0 {
            // Reserved at once, because growing by doubling would temporarily take up to three times as much.
            let rows = self.reading.state().tally.rows as usize;
            self.keys.entries.reserve_exact(rows.min(self.most / size_of::<u128>()));
        }
        self.keys.append(keys);
        Ok(())
    }

    pub(super) fn finish(mut self, control: Control<'_>) -> Result<RowOrder, Error> {
        control.check()?;
        let limits = self.reading.limits();
        let mut collector = OrderBuilder::new(self.reading.folder(), limits.order_bytes);
        if self.spilled.is_some() {
            self.spill(control)?;
        }
        match self.spilled {
            None => {
                self.keys.sort(control, (SCAN, 1.0))?;
                self.keys.entries.iter().try_for_each(|entry| collector.push(line_of(*entry)))?;
            }
            Some(spilled) => {
                // Releases the memory of keys for the windows on the runs.
                self.keys = Keys::default();
                spilled.merge(self.most, control, |line| collector.push(line))?;
            }
        }
        control.report(1, 1, (SCAN, 1.0));
        Ok(collector.finish()?)
    }

    /// Writes the sorted keys to the file.
    fn spill(&mut self, control: Control<'_>) -> Result<(), Error> {
        self.keys.sort(control.without_progress(), (0.0, 0.0))?;
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled {
                file: BufWriter::with_capacity(256 << 10, self.reading.folder().unlinked()?),
                length: 0,
                ends: Vec::new(),
            }),
        };
        let Keys { entries, .. } = &self.keys;
        for entry in entries {
            let short = prefix_of(*entry).to_be_bytes();
            let key = place_of(*entry).map_or(&short[..], |place| self.keys.long(place));
            spilled.file.write_all(&line_of(*entry).to_le_bytes())?;
            spilled.file.write_all(&(key.len() as u32).to_le_bytes())?;
            spilled.file.write_all(key)?;
            spilled.length += 8 + key.len() as u64;
        }
        spilled.ends.push(spilled.length);
        self.keys.entries.clear();
        self.keys.long.clear();
        Ok(())
    }
}

impl Spilled {
    /// Passes the lines of all runs in the order of their keys.
    fn merge(
        self,
        memory: usize,
        control: Control<'_>,
        mut sink: impl FnMut(u32) -> io::Result<()>,
    ) -> Result<(), Error> {
        let Self { file, length, ends } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let window = (memory / ends.len()).clamp(4 << 10, 1 << 20);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut runs: Vec<Run<'_>> = starts
            .zip(&ends)
            .map(|(at, end)| Run { file: file.file(), at, end: *end, window, buffered: Vec::new(), used: 0 })
            .collect();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (i, run) in runs.iter_mut().enumerate() {
            if let Some((key, line)) = run.next(Vec::new())? {
                heads.push(Reverse((key, line, i)));
            }
        }
        let mut merged: u64 = 0;
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((key, line, i)) = &mut *head;
            sink(*line)?;
            merged += 8 + key.len() as u64;
            match runs[*i].next(std::mem::take(key))? {
                Some((next, next_line)) => (*key, *line) = (next, next_line),
                None => drop(std::collections::binary_heap::PeekMut::pop(head)),
            }
            if merged & 0xFFF == 0 {
                control.check()?;
                control.report(merged, length, (SCAN, 1.0));
            }
        }
        Ok(())
    }
}

/// One sorted run of a file, read in windows.
struct Run<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    window: usize,
    buffered: Vec<u8>,
    used: usize,
}

impl Run<'_> {
    /// The next key, written to `key`, and its line.
    fn next(&mut self, mut key: Vec<u8>) -> io::Result<Option<(Vec<u8>, u32)>> {
        if self.used == self.buffered.len() && self.at == self.end {
            return Ok(None);
        }
        self.buffer(8)?;
        let (line, rest) = self.buffered[self.used..].split_first_chunk().expect("a record has a line");
        let length = rest.first_chunk().expect("a record has a length");
        let (line, length) = (u32::from_le_bytes(*line), u32::from_le_bytes(*length) as usize);
        self.buffer(8 + length)?;
        key.clear();
        key.extend_from_slice(&self.buffered[self.used + 8..self.used + 8 + length]);
        self.used += 8 + length;
        Ok(Some((key, line)))
    }

    /// Buffers at least `length` bytes of the run.
    fn buffer(&mut self, length: usize) -> io::Result<()> {
        if self.buffered.len() - self.used >= length {
            return Ok(());
        }
        self.buffered.drain(..self.used);
        self.used = 0;
        let have = self.buffered.len();
        let more = (self.window.max(length) - have).min((self.end - self.at) as usize);
        self.buffered.resize(have + more, 0);
        self.file.read_exact_at(&mut self.buffered[have..], self.at)?;
        self.at += more as u64;
        Ok(())
    }
}
