//! Counters of the Redis broker.

use std::sync::atomic::AtomicU64;

use super::failures::Failures;
use crate::memory::MapCounters;

/// Counters since the start, for the metrics. Each is updated independently.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages received from Redis, those with invalid names included.
    pub received: AtomicU64,
    /// Messages dropped because their channel is not a valid [`Channel`](tidings_wire::Channel) name (only a pattern matches such a name).
    pub invalid_names: AtomicU64,
    /// Messages dropped because they are not valid envelopes for the channel they arrived on.
    pub invalid_envelopes: AtomicU64,
    /// Publications that were missed on the connection and fetched from their stream.
    pub fetched: AtomicU64,
    /// Gaps announced: publications were missed and could not be fetched.
    pub gaps: AtomicU64,
    /// Publications that Redis took.
    pub published: AtomicU64,
    /// Publications that Redis answered with any error.
    pub publish_failures: AtomicU64,
    /// Bytes of the publications that wait or are in flight, each with an allowance for its overhead.
    pub bytes_waiting: AtomicU64,
    /// Subscriber connections that were made after the first one.
    pub reconnects: AtomicU64,
    /// Error replies of Redis.
    pub failures: Failures,
    /// Changes of maps that this node has made.
    pub maps: MapCounters,
}
