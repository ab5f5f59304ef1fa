//! Fan-out: from publications in the mailbox to bytes in every subscriber's socket.
//!
//! What waits of one topic is joined and encoded once per wire form; then the same bytes are written to one
//! socket after the other. Only for sockets that do not take them all are they copied, once for all of those.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tidings_hub::{Ending, Hub, Overflow, SlowConsumer, TopicKey};
use tidings_wire::{Delivery, Form, Publication, Topic, form};

use crate::metrics::add;
use crate::queue::{Data, Queue};
use crate::shard::Shard;

/// Joined bytes after which a write is begun; bounds what a slow subscriber's queue holds on to.
const JOIN: usize = 64 * 1024;

/// Publications that wait to be fanned out, by topic, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    topics: Vec<(TopicKey, Vec<Arc<Publication>>)>,
    last: Option<(Topic, usize)>,
    joined: Vec<u8>,
    troubled: Vec<u32>,
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

/// One write's worth of a topic in one form.
struct Joined {
    count: u64,
    /// Where the last publication begins.
    last: usize,
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
        let droppable = entry.slow_consumer() != SlowConsumer::Cut;
        let context = entry.context();
        let bytes = &mut self.batches.joined;
        bytes.clear();
        let mut joined = Joined { count: 0, last: 0 };
        let mut taken = 0;
        for publication in publications {
            joined.last = bytes.len();
            form::encode(form, &context, publication, bytes);
            joined.count += 1;
            taken += 1;
            if bytes.len() >= JOIN {
                break;
            }
        }
        let mut shared: Option<Bytes> = None;
        let mut sent = 0;
        let (mut queued, mut stalled) = (0, 0);
        for &slot in entry.subscribers(form) {
            let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { continue };
            let begun = if conn.queue.is_some() {
                0
            } else {
                match conn.socket.write(bytes) {
                    Ok(n) => n,
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
                    // The event that says the connection is broken is on its way.
                    Err(_) => continue,
                }
            };
            sent += begun as u64;
            if begun == bytes.len() {
                continue;
            }
            let shared = shared.get_or_insert_with(|| Bytes::copy_from_slice(bytes));
            let data = Data { topic: key, count: joined.count, bytes: shared.clone(), droppable };
            match &mut conn.queue {
                None if begun > 0 => {
                    let mut queue = Box::new(Queue::default());
                    queue.push_begun(data, begun);
                    queued += queue.cost();
                    stalled += 1;
                    conn.queue = Some(queue);
                }
                None | Some(_) => {
                    if conn.queue.is_none() {
                        stalled += 1;
                    }
                    let queue = conn.queue.get_or_insert_default();
                    let before = queue.cost();
                    let all = self.process.queued.load(Ordering::Relaxed) + queued;
                    // When all queues together are full, every one of them counts as full.
                    let bound = self.limits.queue.min(self.limits.queues.saturating_sub(all) + before);
                    if queue.push_data(&data, bound) {
                        queued += queue.cost() - before;
                    } else {
                        self.batches.troubled.push(slot);
                    }
                }
            }
        }
        let subscribers = entry.subscribers(form).len() as u64;
        add(&self.metrics.deliveries, subscribers * joined.count);
        add(&self.metrics.bytes_out, sent);
        add(&self.metrics.stalled, stalled);
        self.queue_changed(0, queued);
        if let Some(bytes) = shared {
            let mut troubled = std::mem::take(&mut self.batches.troubled);
            for slot in troubled.drain(..) {
                let data = Data { topic: key, count: joined.count, bytes: bytes.clone(), droppable };
                self.overflowed(slot, &data, joined.last);
            }
            self.batches.troubled = troubled;
        }
        &publications[taken..]
    }

    /// A subscriber's queue has no room for `data`, whose last publication begins at `last`.
    fn overflowed(&mut self, slot: u32, data: &Data, last: usize) {
        let policy = self.hub.overflow(slot, data.topic);
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        let Some(queue) = &mut conn.queue else { return };
        let before = queue.cost();
        let dropped = match policy {
            Overflow::Cut => queue.drop_all() + data.count,
            Overflow::Latest => {
                let newest =
                    Data { count: 1, bytes: Bytes::copy_from_slice(&data.bytes[last..]), ..data.clone() };
                queue.replace_topic(&newest, data.count - 1, self.limits.queue)
            }
            Overflow::DropOldest => queue.push_dropping_oldest(data, self.limits.queue),
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
