//! Lines in the order of their keys, by position and by key.
//!
//! Sorted parts of at most [`MOST`] lines each: a search is two binary searches, an insertion moves the keys of one part
//! (some kilobytes), and the lines of a part are copied only while a view shares them. Positions are found from the
//! lengths of all parts, which are a thousandth of the lines.
//!
//! Each part has a number that it keeps. A caller that remembers the part of a key finds its line without the key itself:
//! changes report the keys that they place in a part, or move to another one.

use std::sync::Arc;

use tidings_table::{LineOrder, MovedLines};

/// The most lines of a part.
const MOST: usize = 512;

/// Lines with unique keys, ascending.
#[derive(Debug)]
pub(crate) struct OrderedLines<K> {
    /// Never empty parts.
    parts: Vec<Part<K>>,
    /// The position of each part, by its number.
    positions: Vec<u32>,
    /// The numbers of removed parts.
    unused: Vec<u32>,
}

#[derive(Debug)]
struct Part<K> {
    number: u32,
    keys: Vec<K>,
    /// Shared with the views that have this part.
    lines: Arc<Vec<u32>>,
}

impl<K> Default for OrderedLines<K> {
    fn default() -> Self {
        Self { parts: Vec::new(), positions: Vec::new(), unused: Vec::new() }
    }
}

impl<K: Ord> OrderedLines<K> {
    /// These keys, which ascend, and their lines.
    pub(crate) fn from_sorted(sorted: impl IntoIterator<Item = (K, u32)>) -> Self {
        let mut ordered = Self::default();
        for (key, line) in sorted {
            ordered.push(key, line, MOST * 3 / 4, |_, _| {});
        }
        ordered
    }

    /// Adds a key above all others.
    pub(crate) fn push_last(&mut self, key: K, line: u32) {
        self.push(key, line, MOST, |_, _| {});
    }

    fn push(&mut self, key: K, line: u32, most: usize, mut placed: impl FnMut(&K, u32)) {
        match self.parts.last_mut().filter(|last| last.keys.len() < most) {
            Some(last) => {
                placed(&key, last.number);
                last.keys.push(key);
                Arc::make_mut(&mut last.lines).push(line);
            }
            None => self.insert_part(self.parts.len(), vec![key], vec![line], placed),
        }
    }

    /// Adds a part at a position.
    fn insert_part(&mut self, at: usize, keys: Vec<K>, lines: Vec<u32>, mut placed: impl FnMut(&K, u32)) {
        let number = self.unused.pop().unwrap_or_else(|| {
            self.positions.push(0);
            self.positions.len() as u32 - 1
        });
        keys.iter().for_each(|key| placed(key, number));
        self.parts.insert(at, Part { number, keys, lines: Arc::new(lines) });
        self.renumber(at);
    }

    fn remove_part(&mut self, at: usize) -> Part<K> {
        let part = self.parts.remove(at);
        self.unused.push(part.number);
        self.renumber(at);
        part
    }

    /// Records the positions of the parts from this one on.
    fn renumber(&mut self, from: usize) {
        for (at, part) in self.parts.iter().enumerate().skip(from) {
            self.positions[part.number as usize] = at as u32;
        }
    }

    /// Calls `placed` with each key and the number of its part.
    pub(crate) fn for_each(&self, mut placed: impl FnMut(&K, u32)) {
        for part in &self.parts {
            part.keys.iter().for_each(|key| placed(key, part.number));
        }
    }

    /// Sets the line of a key. Calls `placed` with each key that is new or moves to another part, and the number of its part.
    pub(crate) fn insert(&mut self, key: K, line: u32, mut placed: impl FnMut(&K, u32)) {
        let at = self.part_of(&key);
        let Some(part) = self.parts.get_mut(at) else { return self.push(key, line, MOST, placed) };
        let lines = Arc::make_mut(&mut part.lines);
        match part.keys.binary_search(&key) {
            Ok(position) => lines[position] = line,
            Err(position) => {
                placed(&key, part.number);
                part.keys.insert(position, key);
                lines.insert(position, line);
                if part.keys.len() > MOST {
                    let keys = part.keys.split_off(MOST / 2);
                    let lines = lines.split_off(MOST / 2);
                    self.insert_part(at + 1, keys, lines, placed);
                }
            }
        }
    }

    /// Removes a key. Returns the removed one.
    pub(crate) fn remove(&mut self, key: &K) -> Option<K> {
        let at = self.part_of(key);
        let position = self.parts.get(at)?.keys.binary_search(key).ok()?;
        Some(self.remove_at(at, position, |_, _| {}))
    }

    /// Removes the key with this line in the part with this number. Returns the removed key. `placed`: as for
    /// [`Self::insert`].
    pub(crate) fn remove_line(&mut self, part: u32, line: u32, placed: impl FnMut(&K, u32)) -> Option<K> {
        let at = *self.positions.get(part as usize)? as usize;
        let position = self.parts.get(at)?.lines.iter().position(|known| *known == line)?;
        Some(self.remove_at(at, position, placed))
    }

    fn remove_at(&mut self, at: usize, position: usize, placed: impl FnMut(&K, u32)) -> K {
        let part = &mut self.parts[at];
        let removed = part.keys.remove(position);
        Arc::make_mut(&mut part.lines).remove(position);
        if part.keys.len() < MOST / 4 {
            self.join(at, placed);
        }
        removed
    }

    /// The number of lines.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.keys.len()).sum()
    }

    /// The number of parts.
    pub(crate) const fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The first and the last key.
    pub(crate) fn ends(&self) -> Option<(&K, &K)> {
        Some((self.parts.first()?.keys.first()?, self.parts.last()?.keys.last()?))
    }

    /// The number of lines of the first part, or of the last one.
    pub(crate) fn end_len(&self, is_first: bool) -> usize {
        let part = if is_first { self.parts.first() } else { self.parts.last() };
        part.map_or(0, |part| part.keys.len())
    }

    /// Removes the first part, or the last one, and returns its keys.
    pub(crate) fn remove_end(&mut self, is_first: bool) -> Vec<K> {
        let Some(last) = self.parts.len().checked_sub(1) else { return Vec::new() };
        self.remove_part(if is_first { 0 } else { last }).keys
    }

    /// Changes all keys and lines. The order of the keys must stay.
    pub(crate) fn update(&mut self, mut change: impl FnMut(&mut K, &mut u32)) {
        for part in &mut self.parts {
            for (key, line) in part.keys.iter_mut().zip(Arc::make_mut(&mut part.lines)) {
                change(key, line);
            }
        }
    }

    /// The lines in their order.
    pub(crate) fn order(&self) -> LineOrder {
        LineOrder::new(self.parts.iter().map(|part| Arc::clone(&part.lines)).collect())
    }

    /// The part that contains `key` or that it belongs to.
    fn part_of(&self, key: &K) -> usize {
        self.parts.partition_point(|part| part.keys[0] <= *key).saturating_sub(1)
    }

    /// Joins a small part with a neighbour that has room for it, or removes it when it is empty.
    fn join(&mut self, at: usize, mut placed: impl FnMut(&K, u32)) {
        if self.parts[at].keys.is_empty() {
            self.remove_part(at);
            return;
        }
        let both = |first: usize| {
            let pair = self.parts.get(first..first + 2)?;
            Some(pair[0].keys.len() + pair[1].keys.len())
        };
        let firsts = [Some(at), at.checked_sub(1)].into_iter().flatten();
        let first = firsts.min_by_key(|first| both(*first).unwrap_or(usize::MAX));
        if let Some(first) = first.filter(|first| both(*first).is_some_and(|both| both <= MOST / 2)) {
            let mut next = self.remove_part(first + 1);
            let part = &mut self.parts[first];
            next.keys.iter().for_each(|key| placed(key, part.number));
            part.keys.append(&mut next.keys);
            Arc::make_mut(&mut part.lines).extend_from_slice(&next.lines);
        }
    }
}

impl OrderedLines<Box<[u8]>> {
    /// Changes the lines to those of the file that has replaced that of the rows. A key ends with the place of its row.
    pub(crate) fn move_to(&mut self, moved: &MovedLines) {
        self.update(|key, line| {
            // The places ascend as before.
            if let Some((_, place)) = key.split_last_chunk_mut() {
                *place = moved.line(u32::from_be_bytes(*place)).to_be_bytes();
            }
            *line = moved.line(*line);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn contents(ordered: &OrderedLines<u32>) -> Vec<(u32, u32)> {
        let pairs =
            ordered.parts.iter().flat_map(|part| part.keys.iter().copied().zip(part.lines.iter().copied()));
        pairs.collect()
    }

    proptest! {
        #[test]
        fn ordered_lines_equal_a_sorted_map(operations in prop::collection::vec((0..3_u8, 0..3_000_u32, any::<u32>()), 0..6_000)) {
            let mut naive: BTreeMap<u32, u32> = (0..1_500).map(|key| (2 * key, key)).collect();
            let mut ordered = OrderedLines::from_sorted(naive.clone());
            let mut parts = BTreeMap::new();
            ordered.for_each(|key, part| { parts.insert(*key, part); });
            for (operation, key, line) in operations {
                match operation {
                    0 => {
                        // The parts of keys are known as they are reported.
                        let found = naive.remove(&key).and_then(|line| {
                            ordered.remove_line(parts[&key], line, |key, part| { parts.insert(*key, part); })
                        });
                        prop_assert_eq!(found.is_some(), parts.remove(&key).is_some());
                        prop_assert!(found.is_none_or(|found| found == key));
                    }
                    // Lines are unique.
                    _ if naive.values().any(|known| *known == line) => {}
                    _ => {
                        ordered.insert(key, line, |key, part| { parts.insert(*key, part); });
                        naive.insert(key, line);
                    }
                }
            }
            let mut known = BTreeMap::new();
            ordered.for_each(|key, part| { known.insert(*key, part); });
            prop_assert_eq!(known, parts);
            prop_assert_eq!(ordered.order().len(), naive.len() as u64);
            prop_assert!(ordered.parts.iter().all(|part| !part.keys.is_empty() && part.keys.len() <= MOST));
            prop_assert_eq!(contents(&ordered), naive.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn parts_do_not_stay_small_after_removals() {
        let mut ordered = OrderedLines::from_sorted((0..100_000).map(|key| (key, key)));
        for key in (0..100_000).filter(|key| key % 100 != 0) {
            ordered.remove(&key);
        }
        assert_eq!(ordered.order().len(), 1_000);
        assert!(ordered.parts.len() < 30, "{} parts", ordered.parts.len());
    }
}
