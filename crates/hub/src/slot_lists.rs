//! Lists of subscribers by a property that they share.

use crate::index::Slot;

/// The slots of subscribers in one list for each key. A subscriber stores its index in its list, so that its removal is one
/// swap removal. There are few keys, which are searched one after the other.
///
/// Invariant: no list is empty.
#[derive(Debug)]
pub(crate) struct SlotLists<K>(Vec<(K, Vec<Slot>)>);

impl<K> Default for SlotLists<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + PartialEq> SlotLists<K> {
    /// The list of a key; empty without subscribers.
    pub(crate) fn get(&self, key: K) -> &[Slot] {
        self.0.iter().find(|(k, _)| *k == key).map_or(&[], |(_, list)| list)
    }

    /// The lists with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &[Slot])> {
        self.0.iter().map(|(key, list)| (*key, &list[..]))
    }

    /// The keys of the lists.
    pub(crate) fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.0.iter().map(|(key, _)| *key)
    }

    /// The slots in all lists.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(|(_, list)| list.iter().copied())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of slots in all lists.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(_, list)| list.len()).sum()
    }

    /// Adds a subscriber; returns its index in its list.
    pub(crate) fn add(&mut self, key: K, slot: Slot) -> usize {
        let at = self.0.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
            self.0.push((key, Vec::new()));
            self.0.len() - 1
        });
        let list = &mut self.0[at].1;
        list.push(slot);
        list.len() - 1
    }

    /// Removes the subscriber at `index` of a list; returns the one that was moved there, if any.
    pub(crate) fn remove(&mut self, key: K, index: usize) -> Option<Slot> {
        let at = self.0.iter().position(|(k, _)| *k == key).expect("it was added");
        let list = &mut self.0[at].1;
        list.swap_remove(index);
        let moved = list.get(index).copied();
        if list.is_empty() {
            self.0.swap_remove(at);
        }
        moved
    }
}
