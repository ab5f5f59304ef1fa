//! The names of levels as numbers, and the hash of such numbers.

use std::collections::HashMap;
use std::hash::Hasher;

/// The names of levels: each is stored once and has a number.
///
/// Clients choose the names, so their map has the standard library's keyed hash.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Box<str>, u32>,
    /// The name and the number of nodes of each level.
    entries: Vec<(Box<str>, u32)>,
    free: Vec<u32>,
}

impl Names {
    /// The most bytes of a name: its text twice, and its places in the map and the vectors.
    pub(super) fn cost(name: &str) -> usize {
        let allocated = name.len().next_multiple_of(16) + 16;
        2 * allocated
            + (size_of::<(Box<str>, u32)>() + 1) * 16 / 7
            + 2 * size_of::<(Box<str>, u32)>()
            + 2 * size_of::<u32>()
    }

    pub(super) fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Counts a node with this level; returns its number, and the bytes that a new name takes.
    pub(super) fn add(&mut self, name: &str) -> (u32, usize) {
        if let Some(number) = self.get(name) {
            self.entries[number as usize].1 += 1;
            return (number, 0);
        }
        let entry = (Box::from(name), 1);
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        self.numbers.insert(name.into(), number);
        (number, Self::cost(name))
    }

    /// No longer counts a node; returns the bytes that this frees.
    pub(super) fn remove(&mut self, number: u32) -> usize {
        let (name, nodes) = &mut self.entries[number as usize];
        *nodes -= 1;
        if *nodes > 0 {
            return 0;
        }
        let name = std::mem::take(name);
        self.numbers.remove(&name);
        self.free.push(number);
        Self::cost(&name)
    }

    /// The bytes in use, at least.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let entry = size_of::<(Box<str>, u32)>();
        let texts: usize = self.entries.iter().map(|(name, _)| 2 * (name.len() + 16)).sum();
        let map = (self.numbers.capacity() * 8 / 7).next_power_of_two() * (entry + 1);
        texts + map + self.entries.capacity() * entry + self.free.capacity() * size_of::<u32>()
    }
}

/// A hash of two numbers that the index assigned: clients do not choose them, so it needs no key.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        // A multiplication carries upwards only; the map uses the highest and the lowest bits.
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ product >> 32;
    }
}
