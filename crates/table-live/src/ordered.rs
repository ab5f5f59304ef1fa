//! Lines in the order of their keys, by position and by key.
//!
//! Sorted parts of at most [`MOST`] lines each: a search is two binary searches, an insertion moves the keys of one part
//! (some kilobytes), and the lines of a part are copied only while a view shares them. Positions are found from the
//! lengths of all parts, which are a thousandth of the lines.

use std::sync::Arc;

use tidings_table::LineOrder;

/// The most lines of a part.
const MOST: usize = 512;

/// Lines with unique keys, ascending.
#[derive(Debug)]
pub(crate) struct OrderedLines<K> {
    /// Never empty parts.
    parts: Vec<Part<K>>,
}

#[derive(Debug)]
struct Part<K> {
    keys: Vec<K>,
    /// Shared with the views that have this part.
    lines: Arc<Vec<u32>>,
}

impl<K> Default for OrderedLines<K> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<K: Ord> OrderedLines<K> {
    /// These keys, which ascend, and their lines.
    pub(crate) fn from_sorted(sorted: impl IntoIterator<Item = (K, u32)>) -> Self {
        let mut ordered = Self::default();
        for (key, line) in sorted {
            ordered.push(key, line, MOST * 3 / 4);
        }
        ordered
    }

    /// Adds a key above all others.
    pub(crate) fn push_last(&mut self, key: K, line: u32) {
        self.push(key, line, MOST);
    }

    fn push(&mut self, key: K, line: u32, most: usize) {
        match self.parts.last_mut().filter(|last| last.keys.len() < most) {
            Some(last) => {
                last.keys.push(key);
                Arc::make_mut(&mut last.lines).push(line);
            }
            None => self.parts.push(Part { keys: vec![key], lines: Arc::new(vec![line]) }),
        }
    }

    /// Sets the line of a key.
    pub(crate) fn insert(&mut self, key: K, line: u32) {
        let at = self.part_of(&key);
        let Some(part) = self.parts.get_mut(at) else { return self.push(key, line, MOST) };
        let lines = Arc::make_mut(&mut part.lines);
        match part.keys.binary_search(&key) {
            Ok(position) => lines[position] = line,
            Err(position) => {
                part.keys.insert(position, key);
                lines.insert(position, line);
                if part.keys.len() > MOST {
                    let keys = part.keys.split_off(MOST / 2);
                    let lines = Arc::new(lines.split_off(MOST / 2));
                    self.parts.insert(at + 1, Part { keys, lines });
                }
            }
        }
    }

    /// Removes a key. Returns the removed one.
    pub(crate) fn remove(&mut self, key: &K) -> Option<K> {
        let at = self.part_of(key);
        let part = self.parts.get_mut(at)?;
        let position = part.keys.binary_search(key).ok()?;
        let removed = part.keys.remove(position);
        Arc::make_mut(&mut part.lines).remove(position);
        if part.keys.len() < MOST / 4 {
            self.join(at);
        }
        Some(removed)
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
    fn join(&mut self, at: usize) {
        if self.parts[at].keys.is_empty() {
            self.parts.remove(at);
            return;
        }
        let both = |first: usize| {
            let pair = self.parts.get(first..first + 2)?;
            Some(pair[0].keys.len() + pair[1].keys.len())
        };
        let firsts = [Some(at), at.checked_sub(1)].into_iter().flatten();
        let first = firsts.min_by_key(|first| both(*first).unwrap_or(usize::MAX));
        if let Some(first) = first.filter(|first| both(*first).is_some_and(|both| both <= MOST / 2)) {
            let mut next = self.parts.remove(first + 1);
            let part = &mut self.parts[first];
            part.keys.append(&mut next.keys);
            Arc::make_mut(&mut part.lines).extend_from_slice(&next.lines);
        }
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
        fn ordered_lines_equal_a_sorted_map(operations in prop::collection::vec((any::<bool>(), 0..3_000_u32, any::<u32>()), 0..6_000)) {
            let mut naive: BTreeMap<u32, u32> = (0..1_500).map(|key| (2 * key, key)).collect();
            let mut ordered = OrderedLines::from_sorted(naive.clone());
            for (is_removal, key, line) in operations {
                if is_removal {
                    prop_assert_eq!(ordered.remove(&key).is_some(), naive.remove(&key).is_some());
                } else {
                    ordered.insert(key, line);
                    naive.insert(key, line);
                }
            }
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
