//! The newest publications of a channel, kept for a moment while many ask for them.
//!
//! When a node has lost its clients, they all come back at once and ask for what they have missed, each from a position
//! nearby. The first read is kept, and what is heard meanwhile is added to it, so that it answers the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidings_wire::Publication;

/// For how long one is kept.
const KEPT: Duration = Duration::from_secs(2);
/// How many bytes all of them may take together; the one that does not fit is dropped, and Redis asked instead.
const BUDGET: usize = 32 << 20;
/// What keeping a publication costs besides its bytes.
const ENTRY: usize = 192;

/// Bytes that all snapshots of a broker take together.
pub(super) type Total = Arc<AtomicUsize>;

/// Consecutive publications up to the channel's position.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The offset before the first of them.
    after: u64,
    entries: VecDeque<Arc<Publication>>,
    bytes: usize,
    until: Instant,
    total: Total,
}

impl Snapshot {
    /// An empty one that begins after this offset.
    pub(super) fn new(after: u64, now: Instant, total: Total) -> Self {
        Self { after, entries: VecDeque::new(), bytes: 0, until: now + KEPT, total }
    }

    /// The offset before the first.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// Until when it is kept.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// Those after an offset, which is not before the first.
    pub(super) fn since(&self, offset: u64) -> impl ExactSizeIterator<Item = &Arc<Publication>> {
        let skip = usize::try_from(offset - self.after).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }

    /// Adds the next one; gives whether there was room.
    pub(super) fn push(&mut self, publication: &Arc<Publication>) -> bool {
        self.entries.push_back(Arc::clone(publication));
        self.charge(publication)
    }

    /// Adds those before the first, in order; gives whether there was room.
    pub(super) fn prepend(&mut self, publications: &[Arc<Publication>]) -> bool {
        publications.iter().rev().all(|publication| {
            self.entries.push_front(Arc::clone(publication));
            self.after -= 1;
            self.charge(publication)
        })
    }

    fn charge(&mut self, publication: &Publication) -> bool {
        let cost = publication.size() + ENTRY;
        self.bytes += cost;
        self.total.fetch_add(cost, Ordering::Relaxed) + cost <= BUDGET
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
