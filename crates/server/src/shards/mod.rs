//! The interface of the control plane to the shards: mailboxes and metrics.
//!
//! Invariant: no call blocks; work for a shard is posted to its mailbox.

mod metrics;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_hub::SessionCommand;
use tidings_shard::{
    CounterKey as _, Listener, Mailbox, Metrics, PreparedShards, Process, ShardMessage, TransportKind,
};
use tidings_shared_poll::Mailboxes;

use tidings_topic_table::{MAX_SHARDS, ShardSet};

/// The mailboxes and metrics of all shards.
#[derive(Debug)]
pub(crate) struct Shards {
    mailboxes: Vec<Arc<Mailbox>>,
    metrics: Vec<Arc<Metrics>>,
    process: Arc<Process>,
    /// Held while a command is posted, so that all shards get commands in the same order.
    commands: Mutex<()>,
}

impl Shards {
    /// The interface to the prepared shards, at most [`MAX_SHARDS`]. `process` is their shared state.
    pub(crate) fn new(prepared: &PreparedShards, process: Arc<Process>) -> Self {
        let mailboxes = prepared.mailboxes().to_vec();
        assert!(mailboxes.len() <= MAX_SHARDS, "a route has {MAX_SHARDS} bits");
        Self { mailboxes, metrics: prepared.metrics().to_vec(), process, commands: Mutex::default() }
    }

    /// The mailbox of the shard with this index.
    pub(crate) fn mailbox(&self, index: usize) -> Option<&Mailbox> {
        self.mailboxes.get(index).map(|mailbox| &**mailbox)
    }

    /// Calls `act` with the mailbox of each shard in the set.
    pub(crate) fn for_each(&self, shards: ShardSet, mut act: impl FnMut(&Mailbox)) {
        shards.indices().for_each(|index| act(&self.mailboxes[index]));
    }

    /// Posts a message to every shard.
    pub(crate) fn post_to_all(&self, message: impl Fn() -> ShardMessage) {
        for mailbox in &self.mailboxes {
            mailbox.post(message());
        }
    }

    /// Posts a command to the sessions of this node. All shards get commands in the same order.
    pub(crate) fn post_session_command(&self, command: impl Into<Arc<SessionCommand>>) {
        let command = command.into();
        let _order = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        self.post_to_all(|| ShardMessage::SessionCommand(Arc::clone(&command)));
    }

    /// Lets a shard accept the connections of a listener.
    pub(crate) fn listen(&self, listener: Listener) {
        self.mailboxes[0].post(ShardMessage::Listen(listener));
    }

    /// Hands a connection over to the next shard in turn.
    pub(crate) fn hand_over(&self, connection: ShardMessage) {
        let next = self.process.next_shard(self.mailboxes.len());
        self.mailboxes[next].post(connection);
    }

    /// Requests `clients` clients to reconnect, evenly over this time, from each shard in proportion to its connections.
    /// Replaces the present order; zero clients end it.
    pub(crate) fn rebalance(&self, clients: usize, over: Duration) {
        let connections = |shard: &Metrics| {
            TransportKind::all().map(|kind| shard.connections[kind].load(Ordering::Relaxed)).sum::<u64>()
        };
        let counts: Vec<u64> = self.metrics.iter().map(|shard| connections(shard)).collect();
        for (mailbox, clients) in self.mailboxes.iter().zip(portions(clients as u64, &counts)) {
            mailbox.post(ShardMessage::Rebalance(usize::try_from(clients).unwrap_or(usize::MAX), over));
        }
    }

    /// Stops all shards; their threads end after the current write.
    pub(crate) fn stop(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.stop());
    }

    /// Whether publishers should be slowed down because a mailbox is filling up.
    pub(crate) fn is_congested(&self) -> bool {
        self.mailboxes.iter().any(|mailbox| mailbox.is_congested())
    }

    /// Bytes of publications that wait in the mailboxes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.waiting()).sum()
    }

    /// The metrics of each shard.
    pub(crate) fn metrics(&self) -> &[Arc<Metrics>] {
        &self.metrics
    }

    /// The sum of one metric over all shards.
    pub(crate) fn sum(&self, which: impl Fn(&Metrics) -> &AtomicU64) -> u64 {
        self.metrics.iter().map(|shard| which(shard).load(Ordering::Relaxed)).sum()
    }

    /// The shared state of all shards: the number of connections, limits by address.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Present connections of clients, over all transports.
    pub(crate) fn connections(&self) -> usize {
        self.process.connections.load(Ordering::Relaxed)
    }
}

impl Mailboxes for Shards {
    fn mailbox(&self, shard: usize) -> Option<&Mailbox> {
        self.mailbox(shard)
    }
}

/// Divides a number in proportion to the weights; the sum of the portions is the number, if any weight is not zero.
fn portions(number: u64, weights: &[u64]) -> Vec<u64> {
    let total: u64 = weights.iter().sum();
    let (mut before, mut given) = (0, 0);
    weights
        .iter()
        .map(|weight| {
            before += weight;
            let until = (u128::from(number) * u128::from(before)).checked_div(total.into()).unwrap_or(0);
            let portion = u64::try_from(until).unwrap_or(u64::MAX) - given;
            given += portion;
            portion
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_proportional_and_their_sum_is_the_number() {
        assert_eq!(portions(10, &[1, 1]), [5, 5]);
        assert_eq!(portions(10, &[0, 3, 0, 1]), [0, 7, 0, 3]);
        assert_eq!(portions(1, &[1, 1, 1]), [0, 0, 1]);
        assert_eq!(portions(7, &[0, 0]), [0, 0]);
        for number in 0..200 {
            assert_eq!(portions(number, &[7, 0, 13, 1, 1]).iter().sum::<u64>(), number);
        }
    }
}
