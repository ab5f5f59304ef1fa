//! An index of topic filters: which of them match a topic name.
//!
//! A tree with one node per level of a filter, in one vector. The levels are stored once and numbered, and one map has the
//! edges, so that a node costs a fixed number of bytes. A lookup compares each level of the topic name once, and then visits
//! the nodes whose path matches: at most two per node of the level above, and never more than the tree has.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use thiserror::Error;

use super::Filter;
use super::levels::{MULTI, SINGLE, is_hidden, levels};
use super::names::{Names, NumberHasher};

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// A map from topic filters to values, one per pattern. The values are found by the topic names that their pattern matches.
///
/// Shared subscriptions have the entry of their [pattern](Filter::pattern); the value tells them apart.
#[derive(Debug)]
pub struct FilterIndex<T> {
    nodes: Vec<Node<T>>,
    /// The first node without a place in the tree.
    free: u32,
    /// From a node and the number of a level to the node below.
    edges: HashMap<(u32, u32), u32, BuildHasherDefault<NumberHasher>>,
    names: Names,
    len: usize,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Node<T> {
    /// The node above; of an unused node, the next unused one.
    parent: u32,
    /// The number of its level; `NONE` for a wildcard.
    level: u32,
    /// Its child for `+`.
    single: u32,
    /// How many nodes are below it.
    children: u32,
    /// The value of the filter that ends here.
    value: Option<T>,
    /// The value of the filter that continues with `#`.
    multi: Option<T>,
}

/// The index would exceed its bound; it is unchanged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the index of topic filters would take more than {0} bytes")]
pub struct IndexFull(pub usize);

/// Memory that lookups reuse.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    current: Vec<u32>,
    next: Vec<u32>,
}

impl<T> FilterIndex<T> {
    /// The most bytes that a node takes, with its edge: vectors and maps grow to at most twice their contents, and a map keeps
    /// an eighth of its places free.
    const NODE_BYTES: usize = 2 * size_of::<Node<T>>() + EDGE_BYTES;

    /// An empty index that takes at most `max_bytes` of memory. Memory that values own is not counted.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            nodes: vec![Node::new(NONE, NONE)],
            free: NONE,
            edges: HashMap::default(),
            names: Names::default(),
            len: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// How many filters it has.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no filters.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An upper bound of the memory in use, in bytes; it decreases when filters are removed.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the value of a filter, and returns its earlier value.
    ///
    /// # Errors
    /// [`IndexFull`] when the index has no room for the filter.
    pub fn insert(&mut self, filter: &Filter<'_>, value: T) -> Result<Option<T>, IndexFull> {
        let pattern = filter.pattern();
        if self.bytes.saturating_add(self.missing_bytes(pattern)) > self.max_bytes {
            return Err(IndexFull(self.max_bytes));
        }
        let mut at = ROOT;
        let mut is_multi = false;
        for level in levels(pattern) {
            if level == MULTI {
                is_multi = true;
            } else {
                at = self.child_or_new(at, level);
            }
        }
        let node = &mut self.nodes[at as usize];
        let place = if is_multi { &mut node.multi } else { &mut node.value };
        let earlier = place.replace(value);
        self.len += usize::from(earlier.is_none());
        Ok(earlier)
    }

    /// The value of a filter.
    pub fn get_mut(&mut self, filter: &Filter<'_>) -> Option<&mut T> {
        let (at, is_multi) = self.find(filter.pattern())?;
        let node = &mut self.nodes[at as usize];
        if is_multi { node.multi.as_mut() } else { node.value.as_mut() }
    }

    /// Removes a filter, and returns its value.
    pub fn remove(&mut self, filter: &Filter<'_>) -> Option<T> {
        let (mut at, is_multi) = self.find(filter.pattern())?;
        let node = &mut self.nodes[at as usize];
        let value = if is_multi { node.multi.take() } else { node.value.take() }?;
        self.len -= 1;
        while at != ROOT && self.nodes[at as usize].is_unused() {
            at = self.remove_node(at);
        }
        if self.is_empty() {
            // Returns the memory of a large number of filters that are gone.
            *self = Self::new(self.max_bytes);
        }
        Some(value)
    }

    /// Calls `found` with the value of each filter that matches a topic name, once for each, in no particular order.
    pub fn for_each_match<'a>(&'a self, topic: &str, scratch: &mut Scratch, mut found: impl FnMut(&'a T)) {
        let Scratch { current, next } = scratch;
        current.clear();
        current.push(ROOT);
        let mut is_hidden = is_hidden(topic);
        for level in levels(topic) {
            let number = self.names.get(level);
            next.clear();
            for at in current.iter() {
                let node = &self.nodes[*at as usize];
                if !is_hidden {
                    node.multi.iter().for_each(&mut found);
                    if node.single != NONE {
                        next.push(node.single);
                    }
                }
                if let Some(number) = number
                    && let Some(child) = self.edges.get(&(*at, number))
                {
                    next.push(*child);
                }
            }
            is_hidden = false;
            std::mem::swap(current, next);
            if current.is_empty() {
                return;
            }
        }
        for at in current.iter() {
            let node = &self.nodes[*at as usize];
            node.value.iter().chain(&node.multi).for_each(&mut found);
        }
    }

    /// The node of a pattern, and whether the value is that of `#` behind it.
    fn find(&self, pattern: &str) -> Option<(u32, bool)> {
        let mut at = ROOT;
        for level in levels(pattern) {
            if level == MULTI {
                return Some((at, true));
            }
            at = self.child(at, level)?;
        }
        Some((at, false))
    }

    fn child(&self, at: u32, level: &str) -> Option<u32> {
        if level == SINGLE {
            let single = self.nodes[at as usize].single;
            return (single != NONE).then_some(single);
        }
        self.edges.get(&(at, self.names.get(level)?)).copied()
    }

    /// The bytes that a pattern adds at most: a new name counts at each of its levels.
    fn missing_bytes(&self, pattern: &str) -> usize {
        let mut at = Some(ROOT);
        let mut bytes = 0_usize;
        for level in levels(pattern).filter(|level| *level != MULTI) {
            at = at.and_then(|at| self.child(at, level));
            if at.is_none() {
                let name =
                    if level == SINGLE || self.names.get(level).is_some() { 0 } else { Names::cost(level) };
                bytes = bytes.saturating_add(Self::NODE_BYTES + name);
            }
        }
        bytes
    }

    fn child_or_new(&mut self, at: u32, level: &str) -> u32 {
        if let Some(child) = self.child(at, level) {
            return child;
        }
        let (number, bytes) = if level == SINGLE { (NONE, 0) } else { self.names.add(level) };
        self.bytes += Self::NODE_BYTES + bytes;
        let node = Node::new(at, number);
        let child = if self.free == NONE {
            self.nodes.push(node);
            // The bound of memory is far below 2³² nodes.
            (self.nodes.len() - 1) as u32
        } else {
            let child = self.free;
            self.free = self.nodes[child as usize].parent;
            self.nodes[child as usize] = node;
            child
        };
        if number == NONE {
            self.nodes[at as usize].single = child;
        } else {
            self.edges.insert((at, number), child);
        }
        self.nodes[at as usize].children += 1;
        child
    }

    /// Removes a node without contents from its parent, which is returned.
    fn remove_node(&mut self, at: u32) -> u32 {
        let Node { parent, level, .. } = self.nodes[at as usize];
        if level == NONE {
            self.nodes[parent as usize].single = NONE;
        } else {
            self.edges.remove(&(parent, level));
            self.bytes -= self.names.remove(level);
        }
        self.bytes -= Self::NODE_BYTES;
        self.nodes[parent as usize].children -= 1;
        self.nodes[at as usize].parent = self.free;
        self.free = at;
        parent
    }
}

impl<T> Node<T> {
    const fn new(parent: u32, level: u32) -> Self {
        Self { parent, level, single: NONE, children: 0, value: None, multi: None }
    }

    const fn is_unused(&self) -> bool {
        self.children == 0 && self.value.is_none() && self.multi.is_none()
    }
}

/// The most bytes of an entry in the map of edges: the entry and a control byte, at 7/16 of its places at least.
const EDGE_BYTES: usize = (size_of::<((u32, u32), u32)>() + 1) * 16 / 7 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(index: &FilterIndex<&'static str>, topic: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        index.for_each_match(topic, &mut Scratch::default(), |value| found.push(*value));
        found.sort_unstable();
        found
    }

    fn index(filters: &[&'static str]) -> FilterIndex<&'static str> {
        let mut index = FilterIndex::new(1 << 20);
        for filter in filters.iter().copied() {
            index.insert(&Filter::new(filter).unwrap(), filter).unwrap();
        }
        index
    }

    #[test]
    fn a_topic_finds_each_filter_that_matches_once() {
        let index = index(&["#", "+/#", "a/#", "a/b/#", "a/+", "a/b", "+/b", "b/+", "a", "$SYS/#", "$SYS/+"]);
        assert_eq!(matches(&index, "a/b"), ["#", "+/#", "+/b", "a/#", "a/+", "a/b", "a/b/#"]);
        assert_eq!(matches(&index, "a"), ["#", "+/#", "a", "a/#"]);
        assert_eq!(matches(&index, "$SYS/x"), ["$SYS/#", "$SYS/+"]);
        assert_eq!(matches(&index, "x/y/z"), ["#", "+/#"]);
    }

    #[test]
    fn a_removed_filter_matches_nothing_and_returns_its_bytes() {
        let mut index = index(&["a/b", "a/b/#", "a/+/c"]);
        let before = index.bytes();
        let extra = Filter::new("a/+/c/longer/than/others").unwrap();
        assert_eq!(index.insert(&extra, "extra"), Ok(None));
        assert_eq!(index.insert(&extra, "other"), Ok(Some("extra")));
        assert!(index.bytes() > before);
        assert_eq!(index.remove(&extra), Some("other"));
        assert_eq!(index.remove(&extra), None);
        assert_eq!((index.bytes(), index.len()), (before, 3));
        for filter in ["a/b", "a/b/#", "a/+/c"] {
            assert_eq!(index.remove(&Filter::new(filter).unwrap()), Some(filter));
        }
        assert_eq!((index.bytes(), index.len(), index.edges.len()), (0, 0, 0));
        assert!(matches(&index, "a/b").is_empty());
    }

    #[test]
    fn the_index_takes_no_more_memory_than_its_bound() {
        let mut index = FilterIndex::new(100_000);
        let mut inserted = 0;
        let full = loop {
            let text = format!("home/room-{inserted}/+/sensor-{}", inserted % 7);
            match index.insert(&Filter::new(&text).unwrap(), inserted) {
                Ok(_) => inserted += 1,
                Err(full) => break full,
            }
        };
        assert_eq!(full, IndexFull(100_000));
        assert_eq!(index.len(), inserted);
        assert!(inserted > 100, "{inserted}");
        let map = |capacity: usize, entry: usize| (capacity * 8 / 7).next_power_of_two() * (entry + 1);
        let allocated = index.nodes.capacity() * size_of::<Node<usize>>()
            + map(index.edges.capacity(), size_of::<((u32, u32), u32)>())
            + index.names.allocated();
        assert!(allocated <= index.bytes(), "{allocated} of {}", index.bytes());
        assert!(index.bytes() <= 100_000);
        // A filter that needs no new node still fits.
        assert_eq!(index.insert(&Filter::new("home/room-0/+/sensor-0").unwrap(), 7), Ok(Some(0)));
    }

    #[test]
    fn an_absurdly_deep_filter_is_refused_by_the_bound_and_costs_no_recursion() {
        let mut index = FilterIndex::new(1 << 24);
        let deep = "/".repeat(60_000);
        assert_eq!(index.insert(&Filter::new(&deep).unwrap(), ()), Ok(None));
        let mut found = 0;
        index.for_each_match(&deep, &mut Scratch::default(), |()| found += 1);
        assert_eq!(found, 1);
        let mut small = FilterIndex::new(1 << 16);
        assert_eq!(small.insert(&Filter::new(&deep).unwrap(), ()), Err(IndexFull(1 << 16)));
        assert_eq!(small.bytes(), 0);
    }
}
