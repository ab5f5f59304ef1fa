//! Fan-out: from publications in the mailbox to bytes in every subscriber's socket.
//!
//! What waits of one topic is joined and encoded once per wire form; then the same bytes are written to one
//! socket after the other. Only for sockets that do not take them all are they copied, once for all of those.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tidings_hub::{Ending, Hub, Overflow, SlowConsumer, TopicKey};
use tidings_wire::{Delivery, Form, Publication, Topic, form};

use crate::metrics::add;
use crate::queue::Data;
use crate::shard::Shard;

/// Joined bytes after which a write is begun; bounds what a slow subscriber's queue holds on to.
const JOIN: usize = 64 * 1024;

/// Publications that wait to be fanned out, by topic, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    topics: Vec<(TopicKey, Vec<Arc<Publication>>)>,
    last: Option<(Topic, usize)>,
    /// One write's worth of a topic in one form, and where each publication in it ends.
    joined: Vec<u8>,
    ends: Vec<usize>,
    /// Who did not take it all, and how many bytes of it they took.
    behind: Vec<(u32, usize)>,
}

impl Batches {
    /// Takes in a publication, if anybody here wants it.
    pub(crate) fn add(&mut self, hub: &Hub, delivery: Delivery) {
        if let Some((topic, index)) = &self.last
            && *topic == delivery.topic
        {
            self.topics[*index].1.push(delivery.publication);
            return;
        }
        let Some(key) = hub.topic(&delivery.topic) else { return };
        let index = self.topics.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
            self.topics.push((key, Vec::new()));
            self.topics.len() - 1
        });
        self.topics[index].1.push(delivery.publication);
        self.last = Some((delivery.topic, index));
    }
}

impl Shard {
    /// Sends everything in the batches.
    pub(crate) fn fan_out(&mut self) {
        if self.batches.topics.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut topics = std::mem::take(&mut self.batches.topics);
        self.batches.last = None;
        for (key, publications) in topics.drain(..) {
            for form in Form::ALL {
                let mut rest = &publications[..];
                while !rest.is_empty() && self.hub.entry(key).is_some_and(|e| !e.subscribers(form).is_empty())
                {
                    rest = self.fan_out_some(key, form, rest);
                }
            }
        }
        self.batches.topics = topics;
        self.metrics.fanned_out(began.elapsed());
    }

    /// Joins as many as make a good write, and writes them to everybody; gives the rest.
    fn fan_out_some<'a>(
        &mut self,
        key: TopicKey,
        form: Form,
        publications: &'a [Arc<Publication>],
    ) -> &'a [Arc<Publication>] {
        let Some(entry) = self.hub.entry(key) else { return &[] };
        let context = entry.context();
        let Batches { joined, ends, behind, .. } = &mut self.batches;
        joined.clear();
        ends.clear();
        for publication in publications {
            form::encode(form, &context, publication, joined);
            ends.push(joined.len());
            if joined.len() >= JOIN {
                break;
            }
        }
        let taken = ends.len();
        let subscribers = entry.subscribers(form);
        let mut sent = 0;
        for &slot in subscribers {
            let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { continue };
            let begun = if conn.queue.is_some() {
                0
            } else {
                match conn.socket.write_some(joined) {
                    Ok(n) => n,
                    // The event that says the connection is broken is on its way.
                    Err(_) => continue,
                }
            };
            sent += begun as u64;
            if begun < joined.len() {
                behind.push((slot, begun));
            }
        }
        add(&self.metrics.deliveries, subscribers.len() as u64 * taken as u64);
        add(&self.metrics.bytes_out, sent);
        if !behind.is_empty() {
            let droppable = entry.slow_consumer() != SlowConsumer::Cut;
            let shared = Bytes::copy_from_slice(joined);
            let mut behind = std::mem::take(behind);
            for (slot, begun) in behind.drain(..) {
                self.keep_back(slot, begun, key, droppable, &shared);
            }
            self.batches.behind = behind;
        }
        &publications[taken..]
    }

    /// Queues what a subscriber did not take: the rest of the publication it is in the middle of, always; those
    /// behind it, if there is room.
    fn keep_back(&mut self, slot: u32, begun: usize, topic: TopicKey, droppable: bool, shared: &Bytes) {
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        let ends = &self.batches.ends;
        let start_of = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
        if conn.queue.is_none() {
            add(&self.metrics.stalled, 1);
        }
        let queue = conn.queue.get_or_insert_default();
        let before = queue.cost();
        let mut next = ends.partition_point(|end| *end <= begun);
        if begun > start_of(next) {
            let (start, end) = (start_of(next), ends[next]);
            let bytes = Bytes::copy_from_slice(&shared[start..end]);
            queue.push_begun(Data { topic, count: 1, bytes, droppable }, begun - start);
            next += 1;
        }
        let start = start_of(next);
        let count = (ends.len() - next) as u64;
        let last = start_of(ends.len() - 1);
        let mut overflow = None;
        if count > 0 {
            // A small part is copied, lest it keep the whole in memory.
            let rest = shared.slice(start..);
            let bytes = if rest.len() < shared.len() / 2 { Bytes::copy_from_slice(&rest) } else { rest };
            let data = Data { topic, count, bytes, droppable };
            let all = self.process.queued.load(Ordering::Relaxed);
            if !queue.push_data(&data, self.limits.queue_bound(before, all)) {
                overflow = Some(data);
            }
        }
        let after = queue.cost();
        self.queue_changed(before, after);
        if let Some(data) = overflow {
            self.overflowed(slot, &data, last - start);
        }
    }

    /// A subscriber's queue has no room for `data`, whose last publication begins at `last`.
    fn overflowed(&mut self, slot: u32, data: &Data, last: usize) {
        let policy = self.hub.overflow(slot, data.topic);
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        let Some(queue) = &mut conn.queue else { return };
        let before = queue.cost();
        let bound = self.limits.queue_bound(before, self.process.queued.load(Ordering::Relaxed));
        let dropped = match policy {
            Overflow::Cut => queue.drop_all() + data.count,
            Overflow::Latest => {
                let newest =
                    Data { count: 1, bytes: Bytes::copy_from_slice(&data.bytes[last..]), ..data.clone() };
                queue.replace_topic(&newest, data.count - 1, bound)
            }
            Overflow::DropOldest => queue.push_dropping_oldest(data, bound),
            Overflow::Unsubscribe => queue.drop_topic(data.topic) + data.count,
        };
        let after = queue.cost();
        self.queue_changed(before, after);
        self.missed(slot, data.topic, policy, dropped);
    }

    /// Tells a session that it has missed publications; those that wait have been seen to already.
    fn missed(&mut self, slot: u32, topic: TopicKey, policy: Overflow, dropped: u64) {
        add(&self.metrics.dropped[policy as usize], dropped);
        match policy {
            Overflow::Cut => {
                add(&self.metrics.cut, 1);
                self.hub.end(slot, &Ending::Slow(dropped), &mut self.fx);
            }
            Overflow::Unsubscribe => self.hub.lose_subscription(slot, topic, dropped, &mut self.fx),
            Overflow::Latest | Overflow::DropOldest => {}
        }
        self.settle();
    }

    /// All subscribers of a topic here have missed publications that found the mailbox full.
    pub(crate) fn announce_gap(&mut self, topic: &Topic, missed: u64) {
        let Some(key) = self.hub.topic(topic) else { return };
        let slots: Vec<u32> = match self.hub.entry(key) {
            Some(entry) => Form::ALL.iter().flat_map(|f| entry.subscribers(*f)).copied().collect(),
            None => return,
        };
        for slot in slots {
            let policy = self.hub.overflow(slot, key);
            if matches!(policy, Overflow::Latest | Overflow::DropOldest)
                && let Some(Some(conn)) = self.conns.get_mut(slot as usize)
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
            self.missed(slot, key, policy, missed);
        }
    }
}
