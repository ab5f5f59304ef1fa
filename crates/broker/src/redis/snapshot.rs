//! The newest publications of a channel, kept for a moment while many subscribers query them.
//!
//! When a node has lost its clients, they reconnect at the same time and query the publications that they have missed,
//! from nearby positions. The first read is kept, and messages that arrive later are added to it, so that it answers
//! the other queries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidings_wire::Publication;

/// Lifetime of a snapshot.
const TTL: Duration = Duration::from_secs(2);
/// Most bytes of all snapshots together; one that exceeds it is dropped, and Redis is queried instead.
const MAX_TOTAL_BYTES: usize = 32 << 20;
/// Memory of a publication besides its bytes.
const PUBLICATION_OVERHEAD: usize = 192;

/// Bytes of all snapshots of a broker.
pub(super) type Total = Arc<AtomicUsize>;

/// Consecutive publications up to the channel's position.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The offset before the first publication.
    after: u64,
    entries: VecDeque<Arc<Publication>>,
    bytes: usize,
    until: Instant,
    total: Total,
}

impl Snapshot {
    /// An empty snapshot that begins after this offset.
    pub(super) fn new(after: u64, now: Instant, total: Total) -> Self {
        Self { after, entries: VecDeque::new(), bytes: 0, until: now + TTL, total }
    }

    /// The offset before the first publication.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// The end of its lifetime.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// The publications after an offset, which must not be before the first one.
    pub(super) fn since(&self, offset: u64) -> impl ExactSizeIterator<Item = &Arc<Publication>> {
        let skip = usize::try_from(offset - self.after).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }

    /// Adds the next publication; `false` when the budget is exceeded.
    pub(super) fn push(&mut self, publication: &Arc<Publication>) -> bool {
        self.entries.push_back(Arc::clone(publication));
        self.charge(publication)
    }

    /// Adds publications before the first one, in order; `false` when the budget is exceeded.
    pub(super) fn prepend(&mut self, publications: &[Arc<Publication>]) -> bool {
        publications.iter().rev().all(|publication| {
            self.entries.push_front(Arc::clone(publication));
            self.after -= 1;
            self.charge(publication)
        })
    }

    fn charge(&mut self, publication: &Publication) -> bool {
        let cost = publication.size() + PUBLICATION_OVERHEAD;
        self.bytes += cost;
        self.total.fetch_add(cost, Ordering::Relaxed) + cost <= MAX_TOTAL_BYTES
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
