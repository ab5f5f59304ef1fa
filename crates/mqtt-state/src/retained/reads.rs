//! Reads of retained messages in flight, and the topics that are delivered meanwhile.
//!
//! Invariants:
//! - A topic is noted before its message is posted to a shard, and the result of a read is posted before the read ends, under one
//!   lock. So a message that a subscriber gets before the result is omitted from it.
//! - The topics of a read are bounded; a read beyond the bound fails.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_mqtt::topic::Filter;
use tidings_wire::{Channel, Publication};

/// Most topics that are delivered during one read.
const MAX_TOPICS: usize = 10_000;

/// A read in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReadId(u64);

/// The reads in flight of a node.
#[derive(Default)]
pub struct RetainedReads {
    /// Number of reads, to be compared without the lock.
    count: AtomicUsize,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    next: u64,
    by_id: HashMap<u64, ReadInFlight>,
}

struct ReadInFlight {
    filter: Box<str>,
    /// The topics that were delivered; `None` beyond the bound.
    delivered: Option<HashSet<Channel>>,
}

impl fmt::Debug for RetainedReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetainedReads").field("count", &self.count).finish_non_exhaustive()
    }
}

impl RetainedReads {
    fn lock(&self) -> MutexGuard<'_, Reads> {
        // The reads are valid at every step.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a read. Called before its request is sent.
    pub(super) fn begin(&self, filter: &str) -> ReadId {
        let mut reads = self.lock();
        reads.next += 1;
        let id = reads.next;
        let read = ReadInFlight { filter: filter.into(), delivered: Some(HashSet::new()) };
        reads.by_id.insert(id, read);
        self.count.store(reads.by_id.len(), Ordering::SeqCst);
        ReadId(id)
    }

    /// Ends a read: passes the topics that were delivered since its begin to `post`, `None` if there are more than the bound.
    pub(super) fn end(&self, id: ReadId, post: impl FnOnce(Option<&HashSet<Channel>>)) {
        let mut reads = self.lock();
        let read = reads.by_id.remove(&id.0);
        self.count.store(reads.by_id.len(), Ordering::SeqCst);
        post(read.as_ref().and_then(|read| read.delivered.as_ref()));
    }

    /// A publication is about to be posted to shards.
    pub fn on_delivery(&self, publication: &Publication) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let message = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
        if !message.is_some_and(|message| message.retain) {
            return;
        }
        let channel = &publication.channel;
        for read in self.lock().by_id.values_mut() {
            let Some(delivered) = &mut read.delivered else { continue };
            if Filter::new(&read.filter).is_ok_and(|filter| filter.matches(channel.as_str())) {
                delivered.insert(channel.clone());
                if delivered.len() > MAX_TOPICS {
                    read.delivered = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_wire::{Extra, MessageProperties};

    use super::*;

    fn publication(topic: &str, retain: bool) -> Publication {
        let message = Some(Box::new(MessageProperties { retain, ..MessageProperties::default() }));
        let extra = Some(Box::new(Extra { message, ..Extra::default() }));
        Publication { extra, ..Publication::new(Channel::new(topic).unwrap(), "body") }
    }

    fn delivered(reads: &RetainedReads, id: ReadId) -> Option<Vec<String>> {
        let mut topics = None;
        reads.end(id, |found| {
            topics = found.map(|found| found.iter().map(|channel| channel.as_str().to_owned()).collect());
        });
        topics
    }

    #[test]
    fn a_read_has_the_retained_topics_of_its_filter_that_are_delivered_meanwhile() {
        let reads = RetainedReads::default();
        reads.on_delivery(&publication("a/before", true));
        let (a, b) = (reads.begin("a/#"), reads.begin("b"));
        reads.on_delivery(&publication("a/x", true));
        reads.on_delivery(&publication("a/live", false));
        reads.on_delivery(&Publication::new(Channel::new("a/plain").unwrap(), "body"));
        assert_eq!(delivered(&reads, a), Some(vec!["a/x".to_owned()]));
        assert_eq!(delivered(&reads, b), Some(Vec::new()));
        assert_eq!(reads.count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_read_fails_beyond_the_bound_of_topics() {
        let reads = RetainedReads::default();
        let id = reads.begin("#");
        for number in 0..=MAX_TOPICS {
            reads.on_delivery(&publication(&format!("a/{number}"), true));
        }
        assert_eq!(delivered(&reads, id), None);
    }
}
