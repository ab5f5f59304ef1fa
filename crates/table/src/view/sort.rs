//! Sorts rows by keys: bytes that compare as the rows do.
//!
//! A key holds the columns one after the other; no key is the beginning of a different one, so that keys
//! compare byte by byte whatever their lengths. The first 8 bytes of a key lie beside its row's number in 16
//! bytes that are sorted as one integer; only what is equal there looks further, 8 bytes at a time.
//!
//! Invariants:
//! - Keys take at most [`Limits::sort_bytes`](crate::Limits::sort_bytes) of memory (one key more than that if
//!   it alone is larger); past that they are sorted, written to a nameless file and merged at the end.
//! - Equal keys stay in the order of the file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use rayon::prelude::*;

use super::select::Selection;
use super::{SCAN, SortBy};
use crate::column::Nature;
use crate::order::{Collector, Order};
use crate::reading::Reading;
use crate::scan::Chunk;
use crate::syntax::{Line, Syntax};
use crate::value::{Number, Style};
use crate::{Control, Error};

/// The lines from `first` on that are selected, sorted; and how many of them were too long to see whole.
pub(super) fn sort(
    reading: &Reading,
    by: &[SortBy],
    natures: &[Nature],
    chunks: &[Chunk],
    selection: &Selection,
    first: u64,
    control: Control<'_>,
) -> Result<(Order, u64), Error> {
    let maker = KeyMaker::new(by, natures, reading.dialect().syntax);
    let mut sorter = Sorter::new(reading);
    let clipped = reading.scan(
        chunks,
        control,
        (0.0, SCAN),
        |chunk, bytes, scratch| {
            let (mut keys, mut key) = (Keys::default(), Vec::new());
            selection.select(bytes, maker.keep, scratch, |row, line, spare| {
                let number = chunk.line + row as u64;
                if number >= first {
                    maker.write(line, spare, &mut key);
                    keys.push(number as u32, &key);
                    key.clear();
                }
            });
            keys
        },
        |keys| sorter.take(&keys),
    )?;
    Ok((sorter.finish(control)?, clipped))
}

/// The first byte of a cell's key, as are those of numbers. Inverted, they sort the other way round; that of an
/// empty cell never is, and is above all of them.
const TEXT: u8 = 0x20;
const EMPTY: u8 = 0xFE;

/// Makes keys of rows.
struct KeyMaker {
    syntax: Syntax,
    columns: Vec<Column>,
    /// How many cells of a row it looks at.
    keep: usize,
}

struct Column {
    column: usize,
    desc: bool,
    /// How its numbers are written, if it sorts by number.
    numbers: Option<Style>,
}

impl KeyMaker {
    fn new(by: &[SortBy], natures: &[Nature], syntax: Syntax) -> Self {
        let column = |by: &SortBy| {
            let Nature { style, column_type } = natures[by.column];
            Column { column: by.column, desc: by.desc, numbers: column_type.is_numeric().then_some(style) }
        };
        let keep = by.iter().map(|by| by.column + 1).max().unwrap_or(0);
        Self { syntax, columns: by.iter().map(column).collect(), keep }
    }

    fn write(&self, line: Line<'_>, spare: &mut Vec<u8>, key: &mut Vec<u8>) {
        for Column { column, desc, numbers } in &self.columns {
            let cell = self.syntax.unquote(line.raw(*column), spare);
            let start = key.len();
            if cell.is_empty() {
                key.push(EMPTY);
                continue;
            }
            match numbers.and_then(|style| Number::parse(cell, style)) {
                Some(number) => number.write_key(key),
                None => write_text(cell, key),
            }
            if *desc {
                key[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
    }
}

/// Appends text so that it compares byte by byte: 0 stands for its end, so a 0 in it is 1 1, and a 1 is 1 2.
fn write_text(mut text: &[u8], key: &mut Vec<u8>) {
    key.push(TEXT);
    while let Some(low) = memchr::memchr2(0, 1, text) {
        key.extend_from_slice(&text[..low]);
        key.extend_from_slice(&[1, text[low] + 1]);
        text = &text[low + 1..];
    }
    key.extend_from_slice(text);
    key.push(0);
}

/// The bytes of a key that are compared first.
const PREFIX: usize = 8;

/// Keys and the lines that they are of.
#[derive(Default)]
struct Keys {
    /// For each line: 8 bytes of its key, its number, and where its whole key lies (see [`entry`]).
    entries: Vec<u128>,
    /// The whole keys of those that are longer than that, each after its length.
    long: Vec<u8>,
}

/// 64 bits of a key, 32 bits of a line's number, 32 bits of the place of the whole key plus 1; 0 without one.
fn entry(prefix: u64, line: u32, place: u32) -> u128 {
    u128::from(prefix) << 64 | u128::from(line) << 32 | u128::from(place)
}

fn prefix_of(entry: u128) -> u64 {
    (entry >> 64) as u64
}

fn line_of(entry: u128) -> u32 {
    (entry >> 32) as u32
}

fn place_of(entry: u128) -> Option<usize> {
    (entry as u32).checked_sub(1).map(|place| place as usize)
}

/// 8 bytes of `key` from `at` on, as a number that compares as they do; 0 stands in for what is missing.
fn eight(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0; PREFIX];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(eight)
        }
    }
}

impl Keys {
    fn push(&mut self, line: u32, key: &[u8]) {
        let mut place = 0;
        if key.len() > PREFIX {
            place = self.long.len() as u32 + 1;
            self.long.extend_from_slice(&(key.len() as u32).to_le_bytes());
            self.long.extend_from_slice(key);
        }
        self.entries.push(entry(eight(key, 0), line, place));
    }

    fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u128>() + self.long.len()
    }

    /// The whole key that lies at `place`.
    fn long(&self, place: usize) -> &[u8] {
        let (length, rest) = self.long[place..].split_first_chunk().expect("a length stands before a key");
        &rest[..u32::from_le_bytes(*length) as usize]
    }

    /// Appends `other`'s keys.
    fn append(&mut self, other: &Self) {
        let base = self.long.len() as u128;
        let moved = |entry: &u128| if place_of(*entry).is_some() { *entry + base } else { *entry };
        self.entries.extend(other.entries.iter().map(moved));
        self.long.extend_from_slice(&other.long);
    }

    fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        self.sort_from(&mut entries, 0);
        self.entries = entries;
    }

    /// Sorts entries whose keys are equal before `depth`, whose prefixes are the bytes from there on.
    fn sort_from(&self, entries: &mut [u128], depth: usize) {
        entries.par_sort_unstable();
        if self.long.is_empty() {
            return;
        }
        let equal: Vec<&mut [u128]> = entries
            .chunk_by_mut(|a, b| prefix_of(*a) == prefix_of(*b))
            .filter(|run| run.len() > 1 && place_of(run[0]).is_some())
            .collect();
        equal.into_par_iter().for_each(|run| self.sort_equal(run, depth + PREFIX));
    }

    /// Sorts entries whose keys are equal before `depth`, whatever their prefixes are now.
    fn sort_equal(&self, run: &mut [u128], depth: usize) {
        /// Few keys are compared whole.
        const FEW: usize = 32;
        let key = |entry: u128| place_of(entry).map_or(&[][..], |place| self.long(place));
        if key(run[0]).len() <= depth {
            // Their keys end here, as no key is the beginning of another one: they are equal.
            return;
        }
        if run.len() <= FEW {
            run.sort_unstable_by(|a, b| key(*a)[depth..].cmp(&key(*b)[depth..]).then(a.cmp(b)));
            return;
        }
        for entry in run.iter_mut() {
            *entry = u128::from(eight(key(*entry), depth)) << 64 | u128::from(*entry as u64);
        }
        self.sort_from(run, depth);
    }
}

/// Takes keys, as many as there are, and gives their lines sorted.
struct Sorter<'a> {
    reading: &'a Reading,
    keys: Keys,
    most: usize,
    spilled: Option<Spilled>,
}

/// Sorted runs of keys in a file.
struct Spilled {
    file: BufWriter<File>,
    length: u64,
    /// Where each run ends.
    ends: Vec<u64>,
}

impl<'a> Sorter<'a> {
    fn new(reading: &'a Reading) -> Self {
        // Places of keys are 32 bits wide.
        let most = reading.limits().sort_bytes.min(2 << 30);
        Self { reading, keys: Keys::default(), most, spilled: None }
    }

    fn take(&mut self, keys: &Keys) -> Result<(), Error> {
        if !self.keys.entries.is_empty() && self.keys.bytes() + keys.bytes() > self.most {
            self.spill()?;
        }
        if self.keys.entries.capacity() == 0 {
            // All at once, since growing by doubling would take up to three times as much for a moment.
            let rows = self.reading.state().tally.rows as usize;
            self.keys.entries.reserve_exact(rows.min(self.most / size_of::<u128>()));
        }
        self.keys.append(keys);
        Ok(())
    }

    fn finish(mut self, control: Control<'_>) -> Result<Order, Error> {
        control.check()?;
        let limits = self.reading.limits();
        let mut collector = Collector::new(self.reading.folder(), limits.order_bytes);
        if self.spilled.is_some() {
            self.spill()?;
        }
        match self.spilled {
            None => {
                self.keys.sort();
                control.check()?;
                self.keys.entries.iter().try_for_each(|entry| collector.push(line_of(*entry)))?;
            }
            Some(spilled) => {
                // What held the runs makes room for windows on them.
                self.keys = Keys::default();
                spilled.merge(self.most, control, |line| collector.push(line))?;
            }
        }
        control.tell(1, 1, (SCAN, 1.0));
        Ok(collector.finish()?)
    }

    /// Writes the keys to the file, sorted.
    fn spill(&mut self) -> Result<(), Error> {
        self.keys.sort();
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled {
                file: BufWriter::with_capacity(256 << 10, tempfile::tempfile_in(self.reading.folder())?),
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
    /// Hands out the lines of all runs in the order of their keys.
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
            .map(|(at, end)| Run { file: &file, at, end: *end, window, held: Vec::new(), used: 0 })
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
                control.tell(merged, length, (SCAN, 1.0));
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
    held: Vec<u8>,
    used: usize,
}

impl Run<'_> {
    /// The key that follows, put into `key`, and its line.
    fn next(&mut self, mut key: Vec<u8>) -> io::Result<Option<(Vec<u8>, u32)>> {
        if self.used == self.held.len() && self.at == self.end {
            return Ok(None);
        }
        self.hold(8)?;
        let (line, rest) = self.held[self.used..].split_first_chunk().expect("a record has a line");
        let length = rest.first_chunk().expect("a record has a length");
        let (line, length) = (u32::from_le_bytes(*line), u32::from_le_bytes(*length) as usize);
        self.hold(8 + length)?;
        key.clear();
        key.extend_from_slice(&self.held[self.used + 8..self.used + 8 + length]);
        self.used += 8 + length;
        Ok(Some((key, line)))
    }

    /// Has at least `length` bytes of the run at hand.
    fn hold(&mut self, length: usize) -> io::Result<()> {
        if self.held.len() - self.used >= length {
            return Ok(());
        }
        self.held.drain(..self.used);
        self.used = 0;
        let have = self.held.len();
        let more = (self.window.max(length) - have).min((self.end - self.at) as usize);
        self.held.resize(have + more, 0);
        self.file.read_exact_at(&mut self.held[have..], self.at)?;
        self.at += more as u64;
        Ok(())
    }
}
