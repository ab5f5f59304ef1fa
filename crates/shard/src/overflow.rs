//! Subscribers that read slowly: publications that a socket did not accept are queued, and a policy is applied to a full queue.

use bytes::Bytes;
use tidings_hub::{CloseReason, Overflow, SessionId, Slot, SlowConsumerPolicy, TopicEntry, TopicKey};
use tidings_wire::Topic;

use crate::counters::CounterKey as _;
use crate::metrics::add;
use crate::queue::{OVERHEAD, PublicationBatch, Queue};
use crate::shard::Shard;

/// Least number of entries in a full queue, so that dropping the oldest entry keeps most of the queue.
const PIECES: usize = 16;

/// The bytes of one write, with the boundaries of its publications.
struct EncodedBatch<'a> {
    /// The end of each publication in `shared`.
    ends: &'a [usize],
    shared: &'a Bytes,
    /// The newest publication as it is kept without the others, if that differs.
    newest: Option<&'a Bytes>,
    topic: u64,
    droppable: bool,
    /// The newest publication is kept for a subscriber that missed earlier ones, also if its subscription ends.
    keep_newest: bool,
}

impl EncodedBatch<'_> {
    /// The start of publication `i`.
    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] }
    }

    /// The publications `from..to`; at least one.
    fn data(&self, from: usize, to: usize) -> PublicationBatch {
        let bytes = self.shared.slice(self.start(from)..self.ends[to - 1]);
        // Copied when smaller than half of the buffer, so that a small part does not keep the whole buffer.
        let small = bytes.len() < self.shared.len() / 2;
        let bytes = if small { Bytes::copy_from_slice(&bytes) } else { bytes };
        PublicationBatch { topic: self.topic, count: (to - from) as u64, bytes, droppable: self.droppable }
    }

    /// The newest publication, for a subscriber that misses earlier ones.
    fn newest(&self) -> PublicationBatch {
        let count = self.ends.len();
        match self.newest {
            Some(newest) => PublicationBatch { bytes: newest.clone(), ..self.data(count - 1, count) },
            None => self.data(count - 1, count),
        }
    }
}

/// Applies the policy to a queue without room for the publications from `next` on; returns the number of dropped
/// publications, queued and new ones.
fn apply_overflow(
    queue: &mut Queue,
    policy: Overflow,
    batch: &EncodedBatch<'_>,
    next: usize,
    bound: usize,
) -> u64 {
    let count = batch.ends.len();
    let new = (count - next) as u64;
    match policy {
        Overflow::Cut => queue.drop_all() + new,
        Overflow::Unsubscribe => {
            let dropped = queue.drop_topic(batch.topic) + new;
            let newest = batch.keep_newest && queue.push_data(&batch.newest(), bound);
            dropped - u64::from(newest)
        }
        Overflow::Latest => queue.replace_topic(&batch.newest(), new - 1, bound),
        Overflow::DropOldest => {
            // In entries that are small relative to the bound, so that the newest publications remain.
            let piece = bound / PIECES;
            let mut dropped = 0;
            let mut from = next;
            while from < count {
                let start = batch.start(from);
                let to = batch.ends.partition_point(|end| *end <= start + piece).max(from + 1);
                dropped += queue.push_dropping_oldest(&batch.data(from, to), bound);
                from = to;
            }
            dropped
        }
    }
}

impl Shard {
    /// Queues the bytes that a socket did not accept: the rest of a partially sent publication always, the publications
    /// after it if the queue has room. Without a policy, none of them may be dropped. `newest` is the newest one as it is kept
    /// if the ones before it are dropped, where that differs.
    pub(crate) fn enqueue_remainder(
        &mut self,
        slot: Slot,
        begun: usize,
        topic: TopicKey,
        policy: Option<SlowConsumerPolicy>,
        (shared, newest): (&Bytes, Option<&Bytes>),
    ) {
        let Some(serial) = self.hub.entry(topic).map(TopicEntry::serial) else { return };
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        let batch = EncodedBatch {
            ends: &self.batches.ends,
            shared,
            newest,
            topic: serial,
            droppable: policy.is_some_and(|policy| policy != SlowConsumerPolicy::Cut),
            keep_newest: policy == Some(SlowConsumerPolicy::Latest),
        };
        if conn.queue.is_none() {
            add(&self.metrics.stalled, 1);
        }
        let queue = conn.queue.get_or_insert_default();
        let before = queue.cost();
        let mut next = batch.ends.partition_point(|end| *end <= begun);
        let start = batch.start(next);
        if begun > start {
            queue.push_begun(batch.data(next, next + 1), begun - start);
            next += 1;
        }
        // The rest of the publications, in at most two entries.
        let most = shared.len() - start + 2 * OVERHEAD;
        let (bound, reserved) = self.limits.reserve(&self.process.queued, before, most);
        let count = batch.ends.len();
        let fits = next == count || queue.push_data(&batch.data(next, count), bound);
        let missed = if fits {
            None
        } else {
            let policy = policy.map_or(Overflow::Cut, |_| self.hub.overflow_action(slot, topic));
            Some((policy, apply_overflow(queue, policy, &batch, next, bound)))
        };
        let after = queue.cost();
        self.reserved_queue_changed(before, after, reserved);
        if let Some((policy, dropped)) = missed {
            self.report_overflow(slot, topic, policy, dropped);
        }
    }

    /// Reports missed publications to a session. Its queue is adjusted already.
    pub(crate) fn report_overflow(&mut self, slot: Slot, topic: TopicKey, policy: Overflow, dropped: u64) {
        add(&self.metrics.dropped[policy], dropped);
        if let Some(entry) = self.hub.entry(topic) {
            add(&entry.stats().dropped[policy.index()], dropped);
        }
        match policy {
            Overflow::Cut => {
                add(&self.metrics.cut, 1);
                self.hub.end(slot, &CloseReason::Slow(dropped), &mut self.fx);
            }
            Overflow::Unsubscribe => self.hub.lose_subscription(slot, topic, dropped, &mut self.fx),
            Overflow::Latest | Overflow::DropOldest => {}
        }
        self.apply_effects();
    }

    /// Ends a session that has missed a publication.
    pub(crate) fn end_slow(&mut self, id: SessionId) {
        if self.hub.is_current(id) {
            add(&self.metrics.dropped[Overflow::Cut], 1);
            add(&self.metrics.cut, 1);
            self.hub.end(id.slot, &CloseReason::Slow(1), &mut self.fx);
            self.apply_effects();
        }
    }

    /// Reports to all subscribers of a topic on this shard that `missed` publications did not fit into the mailbox.
    pub(crate) fn announce_gap(&mut self, topic: &Topic, missed: u64) {
        let Some(key) = self.hub.topic(topic) else { return };
        let slots: Vec<Slot> = match self.hub.entry(key) {
            Some(entry) => entry.all_subscribers().collect(),
            None => return,
        };
        for slot in slots {
            let policy = self.hub.overflow_action(slot, key);
            if matches!(policy, Overflow::Latest | Overflow::DropOldest)
                && let Some(Some(conn)) = self.conns.get_mut(slot.index())
            {
                if conn.queue.is_none() {
                    add(&self.metrics.stalled, 1);
                }
                let queue = conn.queue.get_or_insert_default();
                let before = queue.cost();
                queue.push_gap(missed);
                let after = queue.cost();
                self.queue_changed(before, after);
                self.writable(slot);
            }
            self.report_overflow(slot, key, policy, missed);
        }
    }
}
