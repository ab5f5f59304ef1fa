//! The metrics of a shard, written by its thread and read by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_hub::{Disconnects, NamespaceTable, Overflow};
use tidings_metrics::{Distribution, Durations};
use tidings_mqtt::{PacketType, Qos};
use tidings_session::{Hub, Link};
use tidings_wire::ws::deflate::Counts;

use crate::counters::{CounterKey as _, Counters, TransportKind};
use crate::read_scheduler::ReadScheduler;

/// Durations of fan-outs.
#[derive(Debug)]
pub struct FanOuts(Durations);

impl Default for FanOuts {
    fn default() -> Self {
        const BOUNDS: [f64; 10] = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 2.5e-1];
        Self(Durations::new(&BOUNDS))
    }
}

impl FanOuts {
    /// The durations until now.
    pub fn snapshot(&self) -> Distribution {
        self.0.snapshot()
    }
}

/// Compressed data: the number of bytes without and with compression.
#[derive(Debug, Default)]
pub struct CompressionBytes {
    /// Bytes without compression.
    pub plain: AtomicU64,
    /// Bytes with compression.
    pub compressed: AtomicU64,
}

impl CompressionBytes {
    fn store(&self, counts: Counts) {
        self.plain.store(counts.plain, Ordering::Relaxed);
        self.compressed.store(counts.packed, Ordering::Relaxed);
    }
}

/// The counters of one shard since its start, and its gauges.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections by transport.
    pub connections: Counters<TransportKind>,
    /// Accepted connections.
    pub accepted: AtomicU64,
    /// Refused connections.
    pub refused: AtomicU64,
    /// Sessions by link.
    pub sessions: Counters<Link>,
    /// Packets of MQTT that were received.
    pub mqtt_received: Counters<PacketType>,
    /// Packets of MQTT that were sent, without messages that all subscribers share.
    pub mqtt_sent: Counters<PacketType>,
    /// Messages of MQTT that were made for one session each.
    pub mqtt_messages: Counters<Qos>,
    /// Users with sessions on this shard.
    pub users: AtomicU64,
    /// Topics with subscribers on this shard.
    pub topics: AtomicU64,
    /// Subscriptions on this shard.
    pub subscriptions: AtomicU64,
    /// Publications by clients.
    pub published: AtomicU64,
    /// Commands answered with an error.
    pub errors: AtomicU64,
    /// Subscribers that recovered all missed publications.
    pub recovered: AtomicU64,
    /// Subscribers that requested recovery and did not get all missed publications.
    pub unrecovered: AtomicU64,
    /// Subscriptions ended because publications were lost.
    pub lost: AtomicU64,
    /// Expired connections and subscriptions.
    pub expired: AtomicU64,
    /// Commands of the application, executed on a session.
    pub session_commands: AtomicU64,
    /// Sessions ended by the server, in the order of [`Disconnects::label`].
    pub disconnects: [AtomicU64; Disconnects::LABELS],
    /// Bytes of partial commands and of commands that are held back.
    pub input_bytes: AtomicU64,
    /// Publications passed to subscribers' sockets or queues.
    pub deliveries: AtomicU64,
    /// Publications that the filters of subscribers held back, once for each subscriber.
    pub filtered: AtomicU64,
    /// Received bytes.
    pub bytes_in: AtomicU64,
    /// Sent bytes.
    pub bytes_out: AtomicU64,
    /// Publications compressed for WebSockets, each once.
    pub deflated: CompressionBytes,
    /// Contents for subscribers with deltas, once for each subscriber.
    pub deltas: CompressionBytes,
    /// Compressed messages of clients.
    pub inflated: CompressionBytes,
    /// Bytes in the queues of this shard's connections.
    pub queued: AtomicU64,
    /// Connections with a queue.
    pub stalled: AtomicU64,
    /// Publications dropped because of a full queue or mailbox, by the action for the subscriber.
    pub dropped: Counters<Overflow>,
    /// Counters by namespace.
    pub namespaces: Arc<NamespaceTable>,
    /// Publications that did not fit into the mailbox of the shard.
    pub overrun: AtomicU64,
    /// Bytes reserved for responses to reads in progress.
    pub reads_reserved: AtomicU64,
    /// Waiting reads.
    pub reads_waiting: AtomicU64,
    /// Refused reads.
    pub reads_refused: AtomicU64,
    /// Reads dropped because their session had ended.
    pub reads_dropped: AtomicU64,
    /// Connections ended because the broker was unavailable, so that they reconnect to other nodes.
    pub moved: AtomicU64,
    /// Connections ended so that their clients connect to nodes with fewer connections.
    pub rebalanced: AtomicU64,
    /// Connections closed because they were slow.
    pub cut: AtomicU64,
    /// Fan-outs by duration.
    pub fan_outs: FanOuts,
}

/// The state of the counters by key at their last [`Metrics::record_stats`].
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    session_changes: u64,
    disconnects: u64,
    mqtt_changes: u64,
}

/// Adds to a counter that only one thread writes.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Subtracts from a gauge that only one thread writes.
pub(crate) fn sub(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
}

impl Metrics {
    /// Stores the counters of the hub and of its protocols. Called after every poll, so counters by key are stored only
    /// if one of them has changed.
    pub(crate) fn record_stats(&self, hub: &Hub, deflated: Counts, recorded: &mut Recorded) {
        let (stats, protocols) = (hub.stats(), hub.protocols.stats());
        let session_changes = hub.protocols.session_changes();
        if recorded.session_changes != session_changes {
            recorded.session_changes = session_changes;
            for (link, count) in Link::all().zip(hub.protocols.sessions()) {
                self.sessions[link].store(*count, Ordering::Relaxed);
            }
        }
        let disconnects = hub.disconnects().total();
        if recorded.disconnects != disconnects {
            recorded.disconnects = disconnects;
            for (counter, count) in self.disconnects.iter().zip(hub.disconnects().counts()) {
                counter.store(*count, Ordering::Relaxed);
            }
        }
        let mqtt = hub.protocols.mqtt_stats();
        if recorded.mqtt_changes != mqtt.changes {
            recorded.mqtt_changes = mqtt.changes;
            for packet in PacketType::all() {
                self.mqtt_received[packet].store(mqtt.received[packet.index()], Ordering::Relaxed);
                self.mqtt_sent[packet].store(mqtt.sent[packet.index()], Ordering::Relaxed);
            }
            for qos in Qos::all() {
                self.mqtt_messages[qos].store(mqtt.messages[qos.index()], Ordering::Relaxed);
            }
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
        self.session_commands.store(clients.session_commands, Ordering::Relaxed);
        self.input_bytes.store(protocols.input_bytes, Ordering::Relaxed);
        self.deflated.store(deflated);
        self.inflated.store(protocols.inflated);
    }

    /// Stores the counters of the reads.
    pub(crate) fn record_reads(&self, reads: &ReadScheduler) {
        self.reads_reserved.store(reads.reserved() as u64, Ordering::Relaxed);
        self.reads_waiting.store(reads.waiting() as u64, Ordering::Relaxed);
        self.reads_refused.store(reads.refused, Ordering::Relaxed);
        self.reads_dropped.store(reads.dropped, Ordering::Relaxed);
    }

    /// Counts a fan-out with this duration.
    pub(crate) fn record_fan_out(&self, took: Duration) {
        self.fan_outs.0.add(took);
    }
}
