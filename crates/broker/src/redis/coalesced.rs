//! Shared reads: identical queries that arrive during a read share the next read.
//!
//! Invariants:
//! - At most one read of each key is in flight.
//! - A query is never answered by a read that was sent before it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::{BrokerError, lock};

/// Callback with the result of a read.
pub(super) type ReadCallback<V> = Box<dyn FnOnce(Result<V, BrokerError>) + Send>;

/// Reads in flight, by key.
pub(super) struct CoalescedReads<K, V> {
    /// The keys with a read in flight, and the queries that have arrived since it was sent.
    waiting: Mutex<HashMap<K, Vec<ReadCallback<V>>>>,
}

impl<K, V> Default for CoalescedReads<K, V> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K, V> CoalescedReads<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Answers a query by its own read or by a shared one. `start` sends a read.
    pub(super) fn read<F>(self: &Arc<Self>, key: &K, done: ReadCallback<V>, start: F)
    where
        F: Fn(&K, ReadCallback<V>) + Clone + Send + 'static,
    {
        match lock(&self.waiting).entry(key.clone()) {
            std::collections::hash_map::Entry::Occupied(mut others) => {
                others.get_mut().push(done);
                return;
            }
            std::collections::hash_map::Entry::Vacant(none) => {
                none.insert(Vec::new());
            }
        }
        self.send(key, vec![done], start);
    }

    /// Sends a read for these queries, and another one for the queries that arrive meanwhile.
    fn send<F>(self: &Arc<Self>, key: &K, queries: Vec<ReadCallback<V>>, start: F)
    where
        F: Fn(&K, ReadCallback<V>) + Clone + Send + 'static,
    {
        let (reads, again, next) = (Arc::clone(self), key.clone(), start.clone());
        let finish = move |outcome: Result<V, BrokerError>| {
            for done in queries {
                done(outcome.clone());
            }
            let mut waiting = lock(&reads.waiting);
            let queries = waiting.get_mut(&again).map(std::mem::take).unwrap_or_default();
            if queries.is_empty() {
                waiting.remove(&again);
                return;
            }
            drop(waiting);
            reads.send(&again, queries, next);
        };
        start(key, Box::new(finish));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Started = Arc<Mutex<Vec<ReadCallback<u32>>>>;

    fn ask(
        reads: &Arc<CoalescedReads<&'static str, u32>>,
        started: &Started,
        answers: &Arc<Mutex<Vec<u32>>>,
    ) {
        let (started, answers) = (Arc::clone(started), Arc::clone(answers));
        let done = Box::new(move |outcome: Result<u32, _>| lock(&answers).push(outcome.unwrap()));
        reads.read(&"key", done, move |_, finish| lock(&started).push(finish));
    }

    #[test]
    fn queries_that_arrive_during_a_read_share_the_next_one() {
        let (reads, started, answers) = (Arc::default(), Started::default(), Arc::default());
        for _ in 0..100 {
            ask(&reads, &started, &answers);
        }
        let first = lock(&started).pop().unwrap();
        assert!(lock(&started).is_empty(), "one read at a time");
        first(Ok(1));
        assert_eq!(*lock(&answers), [1], "the others came after it was made");
        let second = lock(&started).pop().unwrap();
        assert!(lock(&started).is_empty());
        second(Ok(2));
        assert_eq!(lock(&answers).len(), 100);
        assert!(lock(&answers)[1..].iter().all(|answer| *answer == 2));
        assert!(lock(&started).is_empty() && lock(&reads.waiting).is_empty(), "nothing is left");
    }
}
