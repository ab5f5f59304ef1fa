//! Fan-out: from publications in the mailbox to bytes in every subscriber's socket.
//!
//! What waits of one topic is joined and encoded once per wire form; then the same bytes are written to one
//! socket after the other. Only for sockets that do not take them all are they copied, once for all of those.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tidings_hub::{CloseReason, Entry, Overflow, Slot, SlowConsumerPolicy, TopicKey, is_told};
use tidings_session::{Hub, address};
use tidings_wire::ws::deflate::{Counts, Deflater};
use tidings_wire::{Delivery, Form, Publication, Topic, form};

use crate::metrics::add;
use crate::queue::{Data, Queue};
use crate::shard::Shard;

/// Joined bytes after which a write is begun; bounds what a slow subscriber's queue holds on to.
const JOIN: usize = 64 * 1024;

/// How many pieces a full queue consists of at least, so that dropping the oldest leaves most of it.
const PIECES: usize = 16;
/// The place of a topic of which nothing waits.
const NOWHERE: u32 = u32::MAX;

/// Publications that wait to be fanned out, by topic, in the order they came.
#[derive(Debug)]
pub(crate) struct Batches {
    topics: Vec<(TopicKey, Vec<Arc<Publication>>)>,
    /// Where each of them stands there, by key; `NOWHERE` for the others.
    places: Vec<u32>,
    last: Option<(Topic, usize)>,
    /// One write's worth of a topic in one form, and where each publication in it ends.
    joined: Vec<u8>,
    ends: Vec<usize>,
    /// Subscribers whose sockets did not take it all, and how many bytes of it they took.
    behind: Vec<(Slot, usize)>,
    /// The shared parts of publications in an addressed form, and where each part ends.
    shared: (Vec<u8>, Vec<usize>),
    /// Compresses what goes out in forms that are compressed.
    deflater: Deflater,
}

impl Batches {
    /// With nothing in them.
    pub(crate) fn new(deflater: Deflater) -> Self {
        let (topics, places, last, joined, ends, behind, shared) = Default::default();
        Self { topics, places, last, joined, ends, behind, shared, deflater }
    }

    /// What was compressed so far: each publication once, however many subscribers it has.
    pub(crate) fn deflated(&self) -> Counts {
        self.deflater.counts()
    }

    /// Takes in a publication, if its topic has subscribers here.
    pub(crate) fn add(&mut self, hub: &Hub, delivery: Delivery) {
        if let Some((topic, index)) = &self.last
            && *topic == delivery.topic
        {
            self.topics[*index].1.push(delivery.publication);
            return;
        }
        let Some(key) = hub.topic(&delivery.topic) else { return };
        let at = key.index();
        if self.places.len() <= at {
            self.places.resize(at + 1, NOWHERE);
        }
        if self.places[at] == NOWHERE {
            self.places[at] = u32::try_from(self.topics.len()).expect("fewer topics than keys");
            self.topics.push((key, Vec::new()));
        }
        let index = self.places[at] as usize;
        self.topics[index].1.push(delivery.publication);
        self.last = Some((delivery.topic, index));
    }
}

/// A joined write, and where it may be cut.
struct Cuts<'a> {
    /// Where each publication ends.
    ends: &'a [usize],
    shared: &'a Bytes,
    topic: u64,
    droppable: bool,
    /// The newest one stays for a subscriber that missed those before it, whatever becomes of its subscription.
    newest_stays: bool,
}

impl Cuts<'_> {
    /// Where publication `i` begins.
    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] }
    }

    /// The publications `from..to`, of which there is at least one.
    fn data(&self, from: usize, to: usize) -> Data {
        let bytes = self.shared.slice(self.start(from)..self.ends[to - 1]);
        // Copied when smaller than half of the buffer, so that a small part does not keep the whole buffer.
        let small = bytes.len() < self.shared.len() / 2;
        let bytes = if small { Bytes::copy_from_slice(&bytes) } else { bytes };
        Data { topic: self.topic, count: (to - from) as u64, bytes, droppable: self.droppable }
    }
}

/// Makes the queue, which has no room for the publications from `next` on, hold what the policy wants of them;
/// gives how many are dropped, theirs and others.
fn overflow(queue: &mut Queue, policy: Overflow, cuts: &Cuts<'_>, next: usize, bound: usize) -> u64 {
    let count = cuts.ends.len();
    let new = (count - next) as u64;
    match policy {
        Overflow::Cut => queue.drop_all() + new,
        Overflow::Unsubscribe => {
            let dropped = queue.drop_topic(cuts.topic) + new;
            let newest = cuts.newest_stays && queue.push_data(&cuts.data(count - 1, count), bound);
            dropped - u64::from(newest)
        }
        Overflow::Latest => queue.replace_topic(&cuts.data(count - 1, count), new - 1, bound),
        Overflow::DropOldest => {
            // In pieces that are small beside the bound, so that it is the newest that stay.
            let piece = bound / PIECES;
            let mut dropped = 0;
            let mut from = next;
            while from < count {
                let start = cuts.start(from);
                let to = cuts.ends.partition_point(|end| *end <= start + piece).max(from + 1);
                dropped += queue.push_dropping_oldest(&cuts.data(from, to), bound);
                from = to;
            }
            dropped
        }
    }
}

/// The subscribers that get publications.
enum Audience<'a> {
    /// All that take them in the form, except these.
    All { except: &'a [Slot] },
    /// This one alone.
    One(Slot),
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
            self.batches.places[key.index()] = NOWHERE;
            self.fan_out_topic(key, &publications);
        }
        self.batches.topics = topics;
        self.metrics.fanned_out(began.elapsed());
    }

    fn fan_out_topic(&mut self, key: TopicKey, publications: &[Arc<Publication>]) {
        // Subscribers that have some of these already (they have just subscribed) get the others on their own.
        let told = self.hub.fanning_out(key, publications);
        let except: Vec<Slot> = told.iter().map(|(slot, _)| *slot).collect();
        let forms: Vec<Form> = self.hub.entry(key).map(|e| e.forms().collect()).unwrap_or_default();
        for form in forms {
            let mut rest = publications;
            while !rest.is_empty() && !self.mailbox.is_stopping() {
                rest = self.fan_out_some(key, form, &Audience::All { except: &except }, rest);
            }
        }
        for (slot, position) in told {
            let new: Vec<_> = publications.iter().filter(|p| !is_told(p, &position)).cloned().collect();
            let Some(form) = self.hub.form(slot) else { continue };
            let mut rest = &new[..];
            while !rest.is_empty() {
                rest = self.fan_out_some(key, form, &Audience::One(slot), rest);
            }
        }
    }

    /// Joins as many as make a good write, and writes them to the audience; gives the rest.
    fn fan_out_some<'a>(
        &mut self,
        key: TopicKey,
        form: Form,
        audience: &Audience<'_>,
        publications: &'a [Arc<Publication>],
    ) -> &'a [Arc<Publication>] {
        if form.is_addressed() {
            return self.fan_out_addressed(key, form, audience, publications);
        }
        let Some(entry) = self.hub.entry(key) else { return &[] };
        let (subscribers, except): (&[Slot], &[Slot]) = match audience {
            Audience::All { except } => (entry.subscribers(form), except),
            Audience::One(slot) => (std::slice::from_ref(slot), &[]),
        };
        if subscribers.is_empty() {
            return &[];
        }
        let context = entry.context();
        let Batches { joined, ends, behind, deflater, .. } = &mut self.batches;
        joined.clear();
        ends.clear();
        let packed = form.is_packed() && matches!(audience, Audience::All { .. });
        for publication in publications {
            if packed {
                form::encode_packed(form, &context, publication, deflater, joined);
            } else {
                form::encode(form, &context, publication, joined);
            }
            ends.push(joined.len());
            if joined.len() >= JOIN {
                break;
            }
        }
        let taken = ends.len();
        let (mut sent, mut failed) = (0, 0);
        for &slot in subscribers {
            if !except.is_empty() && except.contains(&slot) {
                failed += 1;
                continue;
            }
            let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { continue };
            let begun = if conn.queue.is_some() {
                0
            } else {
                match conn.socket.write_some(joined) {
                    Ok(n) => n,
                    // An event will report the broken connection.
                    Err(_) => {
                        failed += 1;
                        continue;
                    }
                }
            };
            sent += begun as u64;
            if begun < joined.len() {
                behind.push((slot, begun));
            }
        }
        add(&self.metrics.deliveries, (subscribers.len() as u64 - failed) * taken as u64);
        add(&self.metrics.bytes_out, sent);
        if !behind.is_empty() {
            let policy = entry.slow_consumer();
            let shared = Bytes::copy_from_slice(joined);
            let mut behind = std::mem::take(behind);
            for (slot, begun) in behind.drain(..) {
                self.enqueue_remainder(slot, begun, key, policy, &shared);
            }
            self.batches.behind = behind;
        }
        &publications[taken..]
    }

    /// The same in a form whose messages contain a part of their subscriber: what subscribers share is encoded once, and
    /// joined with their own parts for one after the other.
    fn fan_out_addressed<'a>(
        &mut self,
        key: TopicKey,
        form: Form,
        audience: &Audience<'_>,
        publications: &'a [Arc<Publication>],
    ) -> &'a [Arc<Publication>] {
        let Some(entry) = self.hub.entry(key) else { return &[] };
        let slots: Vec<Slot> = match audience {
            Audience::All { except } => {
                entry.subscribers(form).iter().filter(|slot| !except.contains(slot)).copied().collect()
            }
            Audience::One(slot) => vec![*slot],
        };
        let (context, policy) = (entry.context(), entry.slow_consumer());
        let (mut parts, mut part_ends) = std::mem::take(&mut self.batches.shared);
        parts.clear();
        part_ends.clear();
        for publication in publications {
            form::encode(form, &context, publication, &mut parts);
            part_ends.push(parts.len());
            if parts.len() >= JOIN {
                break;
            }
        }
        for slot in slots {
            let Batches { joined, ends, .. } = &mut self.batches;
            joined.clear();
            ends.clear();
            let mut start = 0;
            for end in &part_ends {
                address(&mut self.hub, slot, key, &parts[start..*end], joined);
                ends.push(joined.len());
                start = *end;
            }
            let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { continue };
            // An event will report a broken connection.
            let written = if conn.queue.is_some() { Ok(0) } else { conn.socket.write_some(joined) };
            let Ok(begun) = written else { continue };
            add(&self.metrics.deliveries, part_ends.len() as u64);
            add(&self.metrics.bytes_out, begun as u64);
            if begun < joined.len() {
                let rest = Bytes::copy_from_slice(joined);
                self.enqueue_remainder(slot, begun, key, policy, &rest);
            }
        }
        let taken = part_ends.len();
        self.batches.shared = (parts, part_ends);
        &publications[taken..]
    }

    /// Queues what a socket did not take: the rest of the publication that is half sent, always; those behind it, if there
    /// is room.
    fn enqueue_remainder(
        &mut self,
        slot: Slot,
        begun: usize,
        topic: TopicKey,
        policy: SlowConsumerPolicy,
        shared: &Bytes,
    ) {
        let Some(serial) = self.hub.entry(topic).map(Entry::serial) else { return };
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        let cuts = Cuts {
            ends: &self.batches.ends,
            shared,
            topic: serial,
            droppable: policy != SlowConsumerPolicy::Cut,
            newest_stays: policy == SlowConsumerPolicy::Latest,
        };
        if conn.queue.is_none() {
            add(&self.metrics.stalled, 1);
        }
        let queue = conn.queue.get_or_insert_default();
        let before = queue.cost();
        let mut next = cuts.ends.partition_point(|end| *end <= begun);
        let start = cuts.start(next);
        if begun > start {
            queue.push_begun(cuts.data(next, next + 1), begun - start);
            next += 1;
        }
        let all = self.process.queued.load(Ordering::Relaxed);
        let bound = self.limits.queue_bound(before, all);
        let count = cuts.ends.len();
        let fits = next == count || queue.push_data(&cuts.data(next, count), bound);
        let missed = if fits {
            None
        } else {
            let policy = self.hub.overflow(slot, topic);
            Some((policy, overflow(queue, policy, &cuts, next, bound)))
        };
        let after = queue.cost();
        self.queue_changed(before, after);
        if let Some((policy, dropped)) = missed {
            self.missed(slot, topic, policy, dropped);
        }
    }

    /// Notifies a session that it has missed publications; its queue is in order already.
    fn missed(&mut self, slot: Slot, topic: TopicKey, policy: Overflow, dropped: u64) {
        add(&self.metrics.dropped[policy as usize], dropped);
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

    /// All subscribers of a topic here have missed publications that found the mailbox full.
    pub(crate) fn announce_gap(&mut self, topic: &Topic, missed: u64) {
        let Some(key) = self.hub.topic(topic) else { return };
        let slots: Vec<Slot> = match self.hub.entry(key) {
            Some(entry) => entry.all_subscribers().collect(),
            None => return,
        };
        for slot in slots {
            let policy = self.hub.overflow(slot, key);
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
            self.missed(slot, key, policy, missed);
        }
    }
}
