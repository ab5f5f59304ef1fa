//! What the brokers count.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_broker::memory::Memory;
use tidings_broker::redis::Redis;
use tidings_broker::redis::failures::CODES;

use tidings_metrics::{BYTES, Collect, MetricWriter};

/// The memory broker in the registry of metrics.
pub(crate) struct MemoryMetrics(pub(crate) Arc<Memory>);

/// The Redis broker in the registry of metrics.
pub(crate) struct RedisMetrics(pub(crate) Arc<Redis>);

impl Collect for MemoryMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let evicted = self.0.evictions();
        out.gauge(
            "tidings_memory_used",
            BYTES,
            "Bytes that histories, members and remembered results take in the memory broker",
            self.0.bytes(),
        )?;
        out.counters(
            "tidings_memory_evicted",
            "What went from the memory broker because there was no room: histories without publications and with some, and publications of histories that stay",
            "kind",
            [
                ("empty", of(&evicted.empty)),
                ("history", of(&evicted.kept)),
                ("publication", of(&evicted.publications)),
            ],
        )
    }
}

impl Collect for RedisMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let counters = self.0.counters();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.counter(
            "tidings_redis_messages_heard",
            None,
            "Messages heard from Redis, canaries included",
            of(&counters.heard),
        )?;
        out.counter(
            "tidings_redis_invalid_names",
            None,
            "Messages from Redis that were dropped because their channel's name is not one a client could subscribe to",
            of(&counters.invalid_names),
        )?;
        out.counter(
            "tidings_redis_publications",
            None,
            "Publications that Redis took, canaries included",
            of(&counters.published),
        )?;
        out.counter(
            "tidings_redis_publication_failures",
            None,
            "Publications for Redis that were answered with an error, canaries included",
            of(&counters.publish_failures),
        )?;
        out.counter(
            "tidings_redis_reconnects",
            None,
            "Connections for hearing from Redis that were made after the first one",
            of(&counters.reconnects),
        )?;
        out.gauge(
            "tidings_redis_waiting",
            BYTES,
            "Bytes of publications that wait for Redis or for its answer",
            of(&counters.bytes_waiting),
        )?;
        out.counters(
            "tidings_redis_errors",
            "Error replies of Redis by their code; its words are in the log",
            "code",
            CODES.into_iter().zip(counters.failures.totals()),
        )
    }
}
