//! Sort keys in memory.
//!
//! The first 8 bytes of a key are stored beside its row number, in 16 bytes that are sorted as one integer. Only keys
//! with equal prefixes are compared further, 8 bytes at a time.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::{Control, Error};

/// The bytes of a key that are compared first.
const PREFIX: usize = 8;

/// Keys and their lines.
#[derive(Default)]
pub(super) struct Keys {
    /// For each line: 8 bytes of its key, its number, and the position of its complete key (see [`entry`]).
    pub(super) entries: Vec<u128>,
    /// The complete keys that are longer than the prefix, each after its length.
    pub(super) long: Vec<u8>,
}

/// 64 bits of a key, 32 bits of a line number, 32 bits of the position of the complete key plus 1; 0 without one.
fn entry(prefix: u64, line: u32, place: u32) -> u128 {
    u128::from(prefix) << 64 | u128::from(line) << 32 | u128::from(place)
}

pub(super) fn prefix_of(entry: u128) -> u64 {
    (entry >> 64) as u64
}

pub(super) fn line_of(entry: u128) -> u32 {
    (entry >> 32) as u32
}

pub(super) fn place_of(entry: u128) -> Option<usize> {
    (entry as u32).checked_sub(1).map(|place| place as usize)
}

/// 8 bytes of `key` from `at` on, as a number with the same order; 0 for missing bytes.
fn prefix_at(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(prefix_at) => u64::from_be_bytes(*prefix_at),
        None => {
            let mut prefix_at = [0; PREFIX];
            prefix_at[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(prefix_at)
        }
    }
}

impl Keys {
    pub(super) fn push(&mut self, line: u32, key: &[u8]) {
        let mut place = 0;
        if key.len() > PREFIX {
            place = self.long.len() as u32 + 1;
            self.long.extend_from_slice(&(key.len() as u32).to_le_bytes());
            self.long.extend_from_slice(key);
        }
        self.entries.push(entry(prefix_at(key, 0), line, place));
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u128>() + self.long.len()
    }

    /// The complete key at this position.
    pub(super) fn long(&self, place: usize) -> &[u8] {
        let (length, rest) = self.long[place..].split_first_chunk().expect("a length stands before a key");
        &rest[..u32::from_le_bytes(*length) as usize]
    }

    /// Appends the keys of `other`.
    pub(super) fn append(&mut self, other: &Self) {
        let base = self.long.len() as u128;
        let moved = |entry: &u128| if place_of(*entry).is_some() { *entry + base } else { *entry };
        self.entries.extend(other.entries.iter().map(moved));
        self.long.extend_from_slice(&other.long);
    }

    /// Sorts the keys, with cancellation; reports progress within `span`.
    pub(super) fn sort(&mut self, control: Control<'_>, span: (f32, f32)) -> Result<(), Error> {
        let mut entries = std::mem::take(&mut self.entries);
        let (all, done) = (entries.len() as u64, Mutex::new(0));
        let tell = |count: usize| {
            // Held during the report, so that progress never decreases.
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done += count as u64;
            control.report(*done, all, span);
        };
        sort_in_parts(&mut entries, &tell, control);
        self.sort_equals(&mut entries, 0, LEVELS, control);
        self.entries = entries;
        control.check()
    }

    /// Sorts runs of entries with equal prefixes by the bytes of keys from `depth` on, before which all are equal.
    /// `levels`: the remaining levels of recursion.
    fn sort_equals(&self, entries: &mut [u128], depth: usize, levels: u32, control: Control<'_>) {
        if self.long.is_empty() {
            return;
        }
        let equal: Vec<&mut [u128]> = entries
            .chunk_by_mut(|a, b| prefix_of(*a) == prefix_of(*b))
            .filter(|run| run.len() > 1 && place_of(run[0]).is_some())
            .collect();
        equal.into_par_iter().for_each(|run| self.sort_equal(run, depth + PREFIX, levels, control));
    }

    /// Sorts entries with keys that are equal before `depth`, and that are in the order of their lines.
    fn sort_equal(&self, run: &mut [u128], depth: usize, levels: u32, control: Control<'_>) {
        /// At most this many keys are compared as a whole.
        const FEW: usize = 32;
        if control.check().is_err() {
            return;
        }
        let key = |entry: u128| place_of(entry).map_or(&[][..], |place| self.long(place));
        let first = key(run[0]);
        // No key is a prefix of another one: if the first one ends where all are equal, all are equal.
        if first.len() <= depth {
            return;
        }
        // A long common prefix is skipped at once.
        let same = |end, entry: &u128| depth + common_prefix(&first[depth..end], &key(*entry)[depth..]);
        let enough = |end: usize| (end >= depth + PREFIX).then_some(end);
        let end = run.iter().try_fold(first.len(), |end, entry| enough(same(end, entry)));
        let depth = end.unwrap_or(depth);
        if first.len() == depth {
            return;
        }
        if run.len() <= FEW || levels == 0 {
            run.par_sort_unstable_by(|a, b| key(*a)[depth..].cmp(&key(*b)[depth..]).then(a.cmp(b)));
            return;
        }
        for entry in run.iter_mut() {
            *entry = u128::from(prefix_at(key(*entry), depth)) << 64 | u128::from(*entry as u64);
        }
        sort_in_parts(run, &|_| {}, control);
        self.sort_equals(run, depth, levels - 1, control);
    }
}

/// The most levels of recursion. Each level distinguishes some keys, so this suffices for real data; keys that differ
/// later, which an attacker may construct, are compared as a whole without a deep stack.
const LEVELS: u32 = 24;

/// The length of the common prefix of `a` and `b`.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    if b.starts_with(a) {
        return a.len();
    }
    a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()))
}

/// Sorts entries in parts, and checks for cancellation between them. `report` receives the lengths of completed parts.
fn sort_in_parts(entries: &mut [u128], report: &(impl Fn(usize) + Sync), control: Control<'_>) {
    /// A part takes about 50 ms on one core.
    const PART: usize = 1 << 20;
    if control.check().is_err() {
        return;
    }
    if entries.len() <= PART {
        entries.par_sort_unstable();
        return report(entries.len());
    }
    let (below, _, above) = entries.select_nth_unstable(entries.len() / 2);
    rayon::join(|| sort_in_parts(below, report, control), || sort_in_parts(above, report, control));
    report(1);
}
