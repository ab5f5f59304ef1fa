//! The state that all shards of the process share: the number of connections and its limits, and the distribution of new
//! connections over the shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tidings_trace::Traces;

use crate::address::AddressLimits;
use crate::rate::{Clock, RateLimit};
use crate::returns::Returns;

/// State that all shards share.
#[derive(Debug, Default)]
pub struct Process {
    /// Bytes in the queues of all connections.
    pub queued: AtomicUsize,
    /// Connections of all shards.
    pub connections: AtomicUsize,
    /// The clock of the limits by address and user.
    pub clock: Clock,
    /// Connections that could not be registered for events, and were closed.
    pub unwatched: AtomicUsize,
    /// Connections refused because of the limit of connections.
    pub full: AtomicU64,
    /// The limit of new connections per second.
    pub connection_rate: RateLimit,
    /// The limits of connections by address.
    pub addresses: AddressLimits,
    /// Moved clients that connect to this node again.
    pub returns: Returns,
    /// The live traces.
    pub traces: Arc<Traces>,
    /// Number of connections distributed over the shards.
    distributed: AtomicUsize,
}

impl Process {
    /// The state without connections, with these limits.
    pub fn new(connection_rate: RateLimit, addresses: AddressLimits) -> Self {
        Self { connection_rate, addresses, ..Self::default() }
    }

    /// The index of the shard for the next connection, of `shards`. Connections of all transports are distributed in turn.
    pub fn next_shard(&self, shards: usize) -> usize {
        self.distributed.fetch_add(1, Ordering::Relaxed) % shards.max(1)
    }

    /// Counts a connection, unless there are `limit` connections already. The caller calls [`Self::release_connection`]
    /// when a counted connection ends.
    pub fn count_connection(&self, limit: usize) -> bool {
        let is_counted = self.connections.fetch_add(1, Ordering::Relaxed) < limit;
        if !is_counted {
            self.release_connection();
        }
        is_counted
    }

    /// Releases a connection that was counted.
    pub fn release_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
