//! Metrics of the brokers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_broker::memory::{MapCounters, Memory};
use tidings_broker::redis::Redis;
use tidings_broker::redis::failures::CODES;

use tidings_metrics::{BYTES, Collect, MetricWriter};

/// The memory broker in the registry of metrics.
pub struct MemoryMetrics(pub Arc<Memory>);

/// The Redis broker in the registry of metrics.
pub struct RedisMetrics(pub Arc<Redis>);

impl Collect for MemoryMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let evicted = self.0.evictions();
        out.gauge(
            "tidings_memory_used",
            BYTES,
            "Bytes that histories, members and remembered results take in the memory broker",
            self.0.bytes(),
        )?;
        out.counters(
            "tidings_memory_evicted",
            "Evictions from the memory broker because its limit was reached: empty histories, whole histories, and single publications of histories that remain",
            "kind",
            [
                ("empty", load(&evicted.empty)),
                ("history", load(&evicted.nonempty)),
                ("publication", load(&evicted.publications)),
            ],
        )?;
        let (maps, keys) = self.0.map_counts();
        out.gauge("tidings_maps", None, "Channels that are maps and have a state or a position", maps)?;
        out.gauge("tidings_map_keys", None, "Keys of all maps", keys)?;
        out.gauge(
            "tidings_map_used",
            BYTES,
            "Bytes that all maps take (memory.map_max_total)",
            self.0.map_bytes(),
        )?;
        map_changes(self.0.map_counters(), out)
    }
}

impl Collect for RedisMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let counters = self.0.counters();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.counter(
            "tidings_redis_messages_received",
            None,
            "Messages received from Redis, including canaries",
            load(&counters.received),
        )?;
        out.counter(
            "tidings_redis_invalid_names",
            None,
            "Messages from Redis that were dropped because no client can subscribe to a channel of this name",
            load(&counters.invalid_names),
        )?;
        out.counter(
            "tidings_redis_publications",
            None,
            "Publications that Redis accepted, including canaries",
            load(&counters.published),
        )?;
        out.counter(
            "tidings_redis_publication_failures",
            None,
            "Publications for which Redis returned an error, including canaries",
            load(&counters.publish_failures),
        )?;
        out.counter(
            "tidings_redis_reconnects",
            None,
            "Subscribing connections to Redis that were opened after the first one",
            load(&counters.reconnects),
        )?;
        out.gauge(
            "tidings_redis_waiting",
            BYTES,
            "Bytes of publications that wait to be sent to Redis or for its response",
            load(&counters.bytes_waiting),
        )?;
        out.counters(
            "tidings_redis_errors",
            "Error replies of Redis by code; the log has their text",
            "code",
            CODES.into_iter().zip(counters.failures.totals()),
        )?;
        map_changes(&counters.maps, out)
    }
}

fn map_changes(counters: &MapCounters, out: &mut MetricWriter<'_>) -> fmt::Result {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    out.counters(
        "tidings_map_changes",
        "Keys of maps that clients and backends set or removed, keys that expired, and changes that were refused because of a limit",
        "kind",
        [
            ("changed", load(&counters.changes)),
            ("expired", load(&counters.expired)),
            ("refused", load(&counters.refused)),
        ],
    )
}
