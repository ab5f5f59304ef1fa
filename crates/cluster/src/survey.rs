//! Requests to all nodes, with the responses so far.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::{ChannelCounts, ListBudget};

/// One node's response: its uid, and its channels unless the list is too long.
pub(super) type NodeChannels = (String, Option<ChannelCounts>);

/// One node's response to a query of an operator: its uid, and its JSON.
pub(super) type NodeReport = (String, Value);

/// The requests that wait for responses of one kind.
#[derive(Debug)]
pub(super) struct Surveys<T> {
    next: AtomicU64,
    open: Mutex<HashMap<u64, mpsc::Sender<T>>>,
}

impl<T> Default for Surveys<T> {
    fn default() -> Self {
        Self { next: AtomicU64::default(), open: Mutex::default() }
    }
}

/// A request under way. Dropping it discards further responses.
#[derive(Debug)]
pub(super) struct Survey<'a, T> {
    surveys: &'a Surveys<T>,
    pub(super) id: u64,
    pub(super) responses: mpsc::Receiver<T>,
}

impl<T> Surveys<T> {
    /// Begins a request; at most `nodes` responses are buffered.
    pub(super) fn open(&self, nodes: usize) -> Survey<'_, T> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, responses) = mpsc::channel(nodes.max(1));
        self.lock().insert(id, sender);
        Survey { surveys: self, id, responses }
    }

    /// Passes on a response. Returns whether a request waits for it and has room.
    pub(super) fn on_response(&self, id: u64, response: T) -> bool {
        self.lock().get(&id).is_some_and(|waiting| waiting.try_send(response).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Survey<'_, T> {
    fn drop(&mut self) {
        self.surveys.lock().remove(&self.id);
    }
}

/// Adds the counts of one node to `all`. Returns whether the names fit into the budget.
pub(super) fn add(all: &mut ChannelCounts, node: ChannelCounts, budget: &mut ListBudget) -> bool {
    for (channel, clients) in node {
        if let Some(count) = all.get_mut(&channel) {
            *count += clients;
        } else if budget.take(&channel) {
            all.insert(channel, clients);
        } else {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_reaches_only_its_own_request() {
        let surveys = Surveys::<(&str, Option<u32>)>::default();
        let (mut first, second) = (surveys.open(1), surveys.open(1));
        assert!(surveys.on_response(first.id, ("a", None)));
        assert!(!surveys.on_response(first.id, ("a", None)), "more responses than nodes");
        assert_eq!(first.responses.try_recv().expect("a response"), ("a", None));
        let id = second.id;
        drop(second);
        assert!(!surveys.on_response(id, ("a", None)), "the request has ended");
    }

    #[test]
    fn subscribers_of_a_channel_are_summed_over_the_nodes() {
        let mut all = ChannelCounts::from([("a".into(), 1), ("b".into(), 2)]);
        let mut budget = ListBudget::new(10, 4);
        assert!(add(&mut all, ChannelCounts::from([("b".into(), 3), ("c".into(), 4)]), &mut budget));
        assert_eq!(all, ChannelCounts::from([("a".into(), 1), ("b".into(), 5), ("c".into(), 4)]));
        assert!(add(&mut all, ChannelCounts::from([("d".into(), 1)]), &mut budget));
        assert!(
            add(&mut all, ChannelCounts::from([("d".into(), 1)]), &mut budget),
            "a channel takes budget once"
        );
        assert!(!add(&mut all, ChannelCounts::from([("e".into(), 1)]), &mut budget));
        assert_eq!(all.len(), 4, "nothing is added beyond the budget");
    }
}
