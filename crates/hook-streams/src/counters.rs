//! Metrics of streams, and the permit of an open one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// The direction of a publication.
    pub(crate) enum Direction {
        ToClient => "to_client",
        ToApplication => "to_application",
    }
}

labels! {
    /// Why a stream has ended.
    pub(crate) enum EndReason {
        Unsubscribed => "unsubscribed",
        Ended => "ended",
        Failed => "failed",
    }
}

/// Counters of the streams of a node.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    open: AtomicUsize,
    pub(crate) publications: KeyedCounters<Direction>,
    ends: KeyedCounters<EndReason>,
}

impl Collect for Counters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_hook_streams",
            None,
            "Streams of subscriptions to the application that are open, or being opened",
            self.open.load(Ordering::Relaxed) as u64,
        )?;
        out.counters(
            "tidings_hook_stream_publications",
            "Publications in streams of subscriptions",
            "direction",
            self.publications.iter(),
        )?;
        out.counters(
            "tidings_hook_stream_ends",
            "Streams of subscriptions that have ended: with the subscription, by the application, or by a failure",
            "reason",
            self.ends.iter(),
        )
    }
}

/// Counts as an open stream until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Counters>);

impl OpenStream {
    /// Counts a stream, if fewer than `limit` are open.
    pub(crate) fn begin(counters: &Arc<Counters>, limit: usize) -> Option<Self> {
        let add = |open: usize| (open < limit).then_some(open + 1);
        counters.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Self(Arc::clone(counters)))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }

    /// Counts the end of a stream.
    pub(crate) fn end(self, reason: EndReason) {
        self.0.ends.add(reason);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
