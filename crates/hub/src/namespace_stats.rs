//! Counters by namespace.
//!
//! A topic has the counters of its namespace, so counting needs no lookup. Counters are identified by the name of the
//! namespace: they continue when its options change.
//!
//! Cardinality: the configured namespaces, [`WITHOUT_NAMESPACE`], and [`PATTERNS`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::overflow::Overflow;

/// The label of channels without a namespace. No namespace has this name.
pub const WITHOUT_NAMESPACE: &str = "_";
/// The label of subscriptions to patterns, whose channels may belong to any namespace.
pub const PATTERNS: &str = "*";

/// The counters of one namespace. Those of a shard are written by its thread alone.
#[derive(Debug, Default)]
pub struct NamespaceStats {
    /// Publications that the broker delivered. Not counted by a shard.
    pub publications: AtomicU64,
    /// Subscriptions.
    pub subscriptions: AtomicU64,
    /// Subscriptions that were made.
    pub subscribes: AtomicU64,
    /// Publications passed to subscribers' sockets or queues.
    pub deliveries: AtomicU64,
    /// Subscribers that recovered all missed publications.
    pub recovered: AtomicU64,
    /// Subscribers that requested recovery and did not get all missed publications.
    pub unrecovered: AtomicU64,
    /// Publications dropped because of a full queue or mailbox, by action, in the order of [`Overflow`].
    pub dropped: [AtomicU64; Overflow::COUNT],
}

/// Adds to a counter that only one thread writes.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// The counters of all namespaces, of a shard or of a node.
#[derive(Debug, Default)]
pub struct NamespaceTable(RwLock<BTreeMap<String, Arc<NamespaceStats>>>);

impl NamespaceTable {
    /// The counters of a namespace; new ones if it has none.
    pub fn get(&self, name: &str) -> Arc<NamespaceStats> {
        let existing = self.with(name, Arc::clone);
        existing.unwrap_or_else(|| {
            let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(table.entry(name.to_owned()).or_default())
        })
    }

    /// Calls `use_stats` with the counters of a namespace that has some.
    fn with<T>(&self, name: &str, use_stats: impl FnOnce(&Arc<NamespaceStats>) -> T) -> Option<T> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(name).map(use_stats)
    }

    /// Adds `n` publications of a namespace. Any thread may call it.
    pub fn count_publications(&self, name: &str, n: u64) {
        let count = |stats: &Arc<NamespaceStats>| stats.publications.fetch_add(n, Ordering::Relaxed);
        if self.with(name, count).is_none() {
            count(&self.get(name));
        }
    }

    /// The counters of all namespaces, by name.
    pub fn all(&self) -> BTreeMap<String, Arc<NamespaceStats>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_name_are_shared_and_continue() {
        let table = NamespaceTable::default();
        add(&table.get("chat").deliveries, 2);
        add(&table.get("chat").deliveries, 3);
        table.count_publications("scores", 4);
        table.count_publications("scores", 1);
        let all = table.all();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["chat", "scores"]);
        assert_eq!(all["chat"].deliveries.load(Ordering::Relaxed), 5);
        assert_eq!(all["scores"].publications.load(Ordering::Relaxed), 5);
    }
}
