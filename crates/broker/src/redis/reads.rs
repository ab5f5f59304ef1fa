//! Reads that are shared: identical questions that come while one is under way cost Redis one more read together.
//!
//! Invariants:
//! - At most one read of each key is under way.
//! - A question is never answered by a read that was made before it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::{BrokerError, lock};

/// Takes what a read gave.
pub(super) type Landed<V> = Box<dyn FnOnce(Result<V, BrokerError>) + Send>;

/// Reads by key; see the module.
pub(super) struct CoalescedReads<K, V> {
    /// The keys with a read under way, and the questions that have come since it began.
    waiting: Mutex<HashMap<K, Vec<Landed<V>>>>,
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
    /// Answers a question, by a read of its own or one that is shared. `start` begins a read.
    pub(super) fn ask<F>(self: &Arc<Self>, key: &K, done: Landed<V>, start: F)
    where
        F: Fn(&K, Landed<V>) + Clone + Send + 'static,
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
        self.read(key, vec![done], start);
    }

    /// Reads for these, and then for those that have come meanwhile.
    fn read<F>(self: &Arc<Self>, key: &K, questions: Vec<Landed<V>>, start: F)
    where
        F: Fn(&K, Landed<V>) + Clone + Send + 'static,
    {
        let (reads, again, next) = (Arc::clone(self), key.clone(), start.clone());
        let landed = move |outcome: Result<V, BrokerError>| {
            for done in questions {
                done(outcome.clone());
            }
            let mut waiting = lock(&reads.waiting);
            let questions = waiting.get_mut(&again).map(std::mem::take).unwrap_or_default();
            if questions.is_empty() {
                waiting.remove(&again);
                return;
            }
            drop(waiting);
            reads.read(&again, questions, next);
        };
        start(key, Box::new(landed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Started = Arc<Mutex<Vec<Landed<u32>>>>;

    fn ask(
        reads: &Arc<CoalescedReads<&'static str, u32>>,
        started: &Started,
        answers: &Arc<Mutex<Vec<u32>>>,
    ) {
        let (started, answers) = (Arc::clone(started), Arc::clone(answers));
        let done = Box::new(move |outcome: Result<u32, _>| lock(&answers).push(outcome.unwrap()));
        reads.ask(&"key", done, move |_, landed| lock(&started).push(landed));
    }

    #[test]
    fn questions_that_come_during_a_read_share_the_next_one() {
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
