//! The interface of the control plane to the shards: mailboxes and metrics.
//!
//! Invariant: no call blocks; work for a shard is posted to its mailbox.

mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_hub::SessionCommand;
use tidings_shard::{Listener, Mailbox, Metrics, PreparedShards, Process, ShardMessage};

use crate::topic_table::{MAX_SHARDS, ShardSet};

/// The mailboxes and metrics of all shards.
#[derive(Debug)]
pub(crate) struct Shards {
    mailboxes: Vec<Arc<Mailbox>>,
    metrics: Vec<Arc<Metrics>>,
    process: Arc<Process>,
}

impl Shards {
    /// The interface to the prepared shards, at most [`MAX_SHARDS`]. `process` is their shared state.
    pub(crate) fn new(prepared: &PreparedShards, process: Arc<Process>) -> Self {
        let mailboxes = prepared.mailboxes().to_vec();
        assert!(mailboxes.len() <= MAX_SHARDS, "a route has {MAX_SHARDS} bits");
        Self { mailboxes, metrics: prepared.metrics().to_vec(), process }
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

    /// Posts a command to the sessions of this node.
    pub(crate) fn post_session_command(&self, command: SessionCommand) {
        let command = Arc::new(command);
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
