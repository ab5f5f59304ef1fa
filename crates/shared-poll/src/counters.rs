//! Metrics of shared polls.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tidings_metrics::{BYTES, Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// The effect of a value in a response of the application.
    pub(crate) enum ItemOutcome {
        Changed => "changed",
        Unchanged => "unchanged",
        Removed => "removed",
        Unknown => "unknown",
        Refused => "refused",
    }
}

labels! {
    /// The outcome of a request of a client to track keys.
    pub(crate) enum TrackOutcome {
        Tracked => "tracked",
        Invalid => "invalid",
        Expired => "expired",
        Limit => "limit",
        Unanswered => "unanswered",
    }
}

/// Counters of the shared polls of a node.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    requested: AtomicU64,
    flips: AtomicU64,
    pub(crate) items: KeyedCounters<ItemOutcome>,
    pub(crate) tracks: KeyedCounters<TrackOutcome>,
    channels: AtomicUsize,
    bytes: AtomicUsize,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
}

impl Counters {
    pub(crate) fn add_request(&self, keys: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.requested.fetch_add(keys as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_flip(&self) {
        self.flips.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_gauges(&self, channels: usize, bytes: usize, in_flight: usize, waiting: usize) {
        self.channels.store(channels, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}

impl Collect for Counters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauge = |value: &AtomicUsize| value.load(Ordering::Relaxed) as u64;
        out.gauge(
            "tidings_shared_poll_channels",
            None,
            "Shared polls with subscribers, or with some within their shutdown delay",
            gauge(&self.channels),
        )?;
        out.gauge(
            "tidings_shared_poll_used",
            BYTES,
            "Bytes of the values of shared polls",
            gauge(&self.bytes),
        )?;
        out.gauges(
            "tidings_shared_poll_requests_pending",
            "Requests for values of shared polls that are under way, and that wait because of the limit",
            "state",
            [("sent", gauge(&self.in_flight)), ("waiting", gauge(&self.waiting))],
        )?;
        out.counter(
            "tidings_shared_poll_requests",
            None,
            "Requests to the application for values of shared polls",
            load(&self.requests),
        )?;
        out.counter(
            "tidings_shared_poll_keys_requested",
            None,
            "Keys in requests to the application for values of shared polls",
            load(&self.requested),
        )?;
        out.counters(
            "tidings_shared_poll_values",
            "Values in responses of the application by their effect: unknown keys are not tracked any more, refused values exceed a bound",
            "effect",
            self.items.iter(),
        )?;
        out.counters(
            "tidings_shared_poll_tracks",
            "Requests of clients to track keys, by outcome",
            "outcome",
            self.tracks.iter(),
        )?;
        out.counter(
            "tidings_shared_poll_epochs",
            None,
            "Changes of the epoch of a shared poll, so that its clients subscribe again",
            load(&self.flips),
        )
    }
}
