//! A shard's numbers: written by its thread only, read by anybody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tidings_hub::{Disconnects, Stats};
use tidings_wire::ws::deflate::Counts;

use crate::reads::Reads;

/// Upper bounds of the fan-out histogram's buckets, in microseconds.
pub const FANOUT_BOUNDS: [u64; 10] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];

use crate::address::AddressLimits;
use crate::rate::{Clock, RateLimit};

/// What all shards share.
#[derive(Debug, Default)]
pub struct Process {
    /// Bytes in all connections' queues together.
    pub queued: AtomicUsize,
    /// Connections of all shards together.
    pub connections: AtomicUsize,
    /// The clock of the limits by address and user.
    pub clock: Clock,
    /// Connections that the operating system does not report events of, and that were closed.
    pub unwatched: AtomicUsize,
    /// Connections refused because there were as many as there may be.
    pub full: AtomicU64,
    /// How many connections may begin in a second.
    pub connection_rate: RateLimit,
    /// How many connections an address may have, and begin in a second.
    pub addresses: AddressLimits,
    /// How many connections have been distributed over the shards.
    distributed: AtomicUsize,
}

impl Process {
    /// Without connections, with these limits on new ones.
    pub fn new(connection_rate: RateLimit, addresses: AddressLimits) -> Self {
        Self { connection_rate, addresses, ..Self::default() }
    }

    /// The shard, of `shards`, that the next connection goes to: connections are distributed in turn, whatever their
    /// transport.
    pub fn next_shard(&self, shards: usize) -> usize {
        self.distributed.fetch_add(1, Ordering::Relaxed) % shards.max(1)
    }

    /// Counts a connection, unless `limit` connections exist already. The caller calls [`Self::release_connection`] when
    /// a counted connection ends.
    pub fn count_connection(&self, limit: usize) -> bool {
        let is_counted = self.connections.fetch_add(1, Ordering::Relaxed) < limit;
        if !is_counted {
            self.release_connection();
        }
        is_counted
    }

    /// A connection that was counted has ended.
    pub fn release_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One shard's counters since its start, and gauges.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections by transport: TCP, Unix, the body of an HTTP answer, TLS.
    pub connections: [AtomicU64; 4],
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub refused: AtomicU64,
    /// Sessions by link, in the order of [`tidings_session::Link::index`].
    pub sessions: [AtomicU64; tidings_session::Link::COUNT],
    /// Users with sessions on this shard.
    pub users: AtomicU64,
    /// Topics with subscribers on this shard.
    pub topics: AtomicU64,
    /// Subscriptions on this shard.
    pub subscriptions: AtomicU64,
    /// Publications that clients sent.
    pub published: AtomicU64,
    /// Commands answered with an error.
    pub errors: AtomicU64,
    /// Subscribers that returned and got everything.
    pub recovered: AtomicU64,
    /// Subscribers that returned and did not get everything that they missed.
    pub unrecovered: AtomicU64,
    /// Subscriptions that ended because publications were lost.
    pub lost: AtomicU64,
    /// Connections and subscriptions that ended because their time was over.
    pub expired: AtomicU64,
    /// Orders of the application carried out on sessions.
    pub orders: AtomicU64,
    /// Sessions that were ended by the server, by the labels of [`Disconnects`].
    pub disconnects: [AtomicU64; Disconnects::LABELS],
    /// Bytes of half-read commands, and of those that wait for their turn.
    pub input_bytes: AtomicU64,
    /// Publications handed to subscribers' sockets or queues.
    pub deliveries: AtomicU64,
    /// Bytes received.
    pub bytes_in: AtomicU64,
    /// Bytes sent.
    pub bytes_out: AtomicU64,
    /// Publications for WebSockets that have them compressed, each once: bytes before and after.
    pub deflated: [AtomicU64; 2],
    /// Compressed messages of clients: bytes as they came and as they are.
    pub inflated: [AtomicU64; 2],
    /// Bytes in the queues of this shard's connections.
    pub queued: AtomicU64,
    /// Connections that have a queue.
    pub stalled: AtomicU64,
    /// Publications dropped from a full queue, by policy: cut, latest, drop oldest, unsubscribe.
    pub dropped: [AtomicU64; 4],
    /// Publications that found the shard's mailbox full.
    pub overrun: AtomicU64,
    /// Bytes reserved for answers that are being read.
    pub reads_reserved: AtomicU64,
    /// Reads that wait for room.
    pub reads_waiting: AtomicU64,
    /// Reads refused because there was none.
    pub reads_refused: AtomicU64,
    /// Reads not carried out because their session had ended.
    pub reads_dropped: AtomicU64,
    /// Connections ended because the broker was unavailable, to reconnect elsewhere.
    pub moved: AtomicU64,
    /// Connections closed because they were slow.
    pub cut: AtomicU64,
    /// Fan-outs by duration; the last one counts those above every bound of [`FANOUT_BOUNDS`].
    pub fanout: [AtomicU64; FANOUT_BOUNDS.len() + 1],
    /// Time spent fanning out, in microseconds.
    pub fanout_micros: AtomicU64,
}

/// Adds to a counter that one thread writes.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

pub(crate) fn sub(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn take_in(&self, stats: &Stats, protocols: &tidings_session::Stats, deflated: Counts) {
        for (gauge, value) in self.sessions.iter().zip(protocols.sessions) {
            gauge.store(value, Ordering::Relaxed);
        }
        self.users.store(stats.users, Ordering::Relaxed);
        self.topics.store(stats.topics, Ordering::Relaxed);
        self.subscriptions.store(stats.subscriptions, Ordering::Relaxed);
        self.published.store(stats.published, Ordering::Relaxed);
        self.errors.store(stats.errors, Ordering::Relaxed);
        let clients = &stats.clients;
        self.recovered.store(clients.recovered, Ordering::Relaxed);
        self.unrecovered.store(clients.unrecovered, Ordering::Relaxed);
        self.lost.store(clients.lost, Ordering::Relaxed);
        self.expired.store(clients.expired, Ordering::Relaxed);
        self.orders.store(clients.orders, Ordering::Relaxed);
        for (counter, value) in self.disconnects.iter().zip(stats.disconnects.counts()) {
            counter.store(value, Ordering::Relaxed);
        }
        self.input_bytes.store(protocols.input_bytes, Ordering::Relaxed);
        let inflated = protocols.inflated;
        self.deflated[0].store(deflated.plain, Ordering::Relaxed);
        self.deflated[1].store(deflated.packed, Ordering::Relaxed);
        self.inflated[0].store(inflated.packed, Ordering::Relaxed);
        self.inflated[1].store(inflated.plain, Ordering::Relaxed);
    }

    pub(crate) fn take_in_reads(&self, reads: &Reads) {
        self.reads_reserved.store(reads.reserved() as u64, Ordering::Relaxed);
        self.reads_waiting.store(reads.waiting() as u64, Ordering::Relaxed);
        self.reads_refused.store(reads.refused, Ordering::Relaxed);
        self.reads_dropped.store(reads.dropped, Ordering::Relaxed);
    }

    pub(crate) fn fanned_out(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = FANOUT_BOUNDS.iter().position(|b| micros <= *b).unwrap_or(FANOUT_BOUNDS.len());
        add(&self.fanout[bucket], 1);
        add(&self.fanout_micros, micros);
    }
}
