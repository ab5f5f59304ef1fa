//! The numbers of the sessions, as last read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidings_metrics::{BYTES, Collect, MetricWriter};

use super::{SharedSessions, calls};

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) sessions: AtomicU64,
    connected: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    expired: AtomicU64,
    /// Groups of shared subscriptions.
    pub(super) groups: AtomicU64,
    /// Clients that have left their sessions here since the numbers were read.
    left: AtomicU64,
    /// Copies of publications that this node has added.
    pub(super) added: AtomicU64,
}

impl Totals {
    /// Sets the numbers; returns that of the sessions.
    pub(super) fn set(&self, answer: &[Bytes]) -> u64 {
        let numbers = [&self.sessions, &self.connected, &self.bytes, &self.dropped, &self.expired];
        for (at, number) in numbers.into_iter().enumerate() {
            number.store(calls::read(answer, at).unwrap_or(0), Ordering::Relaxed);
        }
        self.left.store(0, Ordering::Relaxed);
        self.sessions.load(Ordering::Relaxed)
    }

    /// A client has left its session.
    pub(super) fn left(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions whose clients are not connected.
    pub(super) fn away(&self) -> u64 {
        let connected = self.connected.load(Ordering::Relaxed);
        let away = self.sessions.load(Ordering::Relaxed).saturating_sub(connected);
        away + self.left.load(Ordering::Relaxed)
    }
}

impl Collect for SharedSessions {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let Totals { connected, bytes, dropped, expired, groups, added, .. } = &self.totals;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        out.gauges(
            "tidings_mqtt_shared_sessions",
            "Sessions of MQTT in Redis, of all nodes, by whether their client is connected, as last read",
            "client",
            [("connected", read(connected)), ("away", self.totals.away())],
        )?;
        out.gauge(
            "tidings_mqtt_shared_session_groups",
            None,
            "Groups of shared subscriptions of MQTT in Redis, of all nodes, as last read",
            read(groups),
        )?;
        out.gauge(
            "tidings_mqtt_shared_session_messages",
            BYTES,
            "Bytes of messages of the sessions of MQTT in Redis, with an allowance for each, as last read",
            read(bytes),
        )?;
        out.gauge(
            "tidings_mqtt_shared_session_messages_dropped",
            None,
            "Messages that the sessions of MQTT in Redis have dropped at a bound, by all nodes, as last read",
            read(dropped),
        )?;
        out.gauge(
            "tidings_mqtt_shared_sessions_expired",
            None,
            "Sessions of MQTT in Redis that have expired, of all nodes, as last read",
            read(expired),
        )?;
        out.counter(
            "tidings_mqtt_shared_session_messages_added",
            None,
            "Copies of messages that this node has added to sessions of MQTT in Redis",
            read(added),
        )
    }
}
