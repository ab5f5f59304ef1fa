//! Fan-out: from publications in the mailbox to bytes in every subscriber's socket.
//!
//! Waiting publications of one topic are joined and encoded once per wire form (and once more for each different filter of
//! subscribers), then the same bytes are written to each subscriber's socket. They are copied only if a socket does not accept all of them: one copy for all such sockets.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidings_hub::{
    DeltaState, Group, Overflow, SelectionId, SessionId, Slot, SlowConsumerPolicy, TopicEntry, TopicKey,
};
use tidings_mqtt_session::SharedDelivery;
use tidings_session::{Addressed, Hub, Notification, address};
use tidings_wire::client::Encoding;
use tidings_wire::form::Message;
use tidings_wire::ws::deflate::{Counts, Deflater};
use tidings_wire::{Delivery, Form, Publication, Topic, form};

use crate::conn::Conn;
use crate::deltas::{self, Content};
use crate::metrics::add;
use crate::shard::Shard;

/// Joined bytes after which they are written. Bounds the size of a shared buffer in a slow subscriber's queue.
const JOIN: usize = 64 * 1024;

/// The place of a topic without waiting publications.
const NO_PLACE: u32 = u32::MAX;

/// Publications that wait to be fanned out, by topic, in their order of arrival.
#[derive(Debug)]
pub(crate) struct Batches {
    topics: Vec<(TopicKey, Vec<Arc<Publication>>)>,
    /// The index of each topic in `topics`, by key; `NO_PLACE` for all other keys.
    places: Vec<u32>,
    last: Option<(Topic, usize)>,
    /// The bytes of one write (one topic in one form), and the end of each publication in them.
    joined: Vec<u8>,
    pub(crate) ends: Vec<usize>,
    /// Subscribers with sockets that did not accept all bytes, with the number of accepted bytes.
    behind: Vec<(Slot, usize)>,
    /// The shared parts of publications in an addressed form, and where each part ends.
    shared: (Vec<u8>, Vec<usize>),
    /// Compresses publications for the compressed forms.
    deflater: Deflater,
}

impl Batches {
    /// Empty batches.
    pub(crate) fn new(deflater: Deflater) -> Self {
        let (topics, places, last, joined, ends, behind, shared) = Default::default();
        Self { topics, places, last, joined, ends, behind, shared, deflater }
    }

    /// Bytes before and after compression so far. A publication counts once for all its subscribers.
    pub(crate) fn deflated(&self) -> Counts {
        self.deflater.counts()
    }

    /// Adds a publication if its topic has subscribers on this shard.
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
            self.places.resize(at + 1, NO_PLACE);
        }
        if self.places[at] == NO_PLACE {
            self.places[at] = u32::try_from(self.topics.len()).expect("fewer topics than keys");
            self.topics.push((key, Vec::new()));
        }
        let index = self.places[at] as usize;
        self.topics[index].1.push(delivery.publication);
        self.last = Some((delivery.topic, index));
    }
}

/// The recipients of a write.
pub(crate) enum Recipients<'a> {
    /// All subscribers with the wire form, without a filter and without deltas, except these, which are in order.
    All { except: &'a [Slot] },
    /// All subscribers of a group of a selection, except these, which are in order.
    Selected { selection: SelectionId, group: Group, except: &'a [Slot] },
    /// One subscriber.
    One(Slot),
    /// These subscribers.
    Listed(&'a [Slot]),
}

/// The encoding of a form that can carry deltas.
pub(crate) fn delta_encoding(form: Form) -> Option<Encoding> {
    if let Message::Reply(encoding) = form.message { Some(encoding) } else { None }
}

impl Recipients<'_> {
    /// The slots of the recipients, with the ones to except.
    fn slots<'r>(&'r self, entry: &'r TopicEntry, form: Form) -> (&'r [Slot], &'r [Slot]) {
        match self {
            Self::All { except } => (entry.subscribers(form), except),
            Self::Selected { selection, group, except } => {
                (entry.selection(*selection).map_or(&[], |selection| selection.subscribers(*group)), except)
            }
            Self::One(slot) => (std::slice::from_ref(slot), &[]),
            Self::Listed(slots) => (slots, &[]),
        }
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
            self.batches.places[key.index()] = NO_PLACE;
            self.fan_out_topic(key, &publications);
        }
        self.batches.topics = topics;
        self.metrics.record_fan_out(began.elapsed());
    }

    fn fan_out_topic(&mut self, key: TopicKey, publications: &[Arc<Publication>]) {
        // Subscribers that already have some of the publications, or that published some, get the others in separate writes.
        let partial = self.hub.prepare_fan_out(key, publications);
        let except: Vec<Slot> = partial.iter().map(|recipient| recipient.slot).collect();
        let forms: Vec<Form> = self.hub.entry(key).map(|e| e.forms().collect()).unwrap_or_default();
        for form in forms {
            self.fan_out_all(key, form, &Recipients::All { except: &except }, publications, None);
        }
        if self.hub.entry(key).is_some_and(TopicEntry::has_selections) {
            self.fan_out_selections(key, &except, publications);
        }
        for recipient in partial {
            let mut new: Vec<_> = publications.iter().filter(|p| recipient.receives(p)).cloned().collect();
            self.hub.retain_passing(key, recipient.slot, &mut new);
            let Some(form) = self.hub.form(recipient.slot) else { continue };
            let encoding = delta_encoding(form).filter(|_| self.hub.has_deltas(key, recipient.slot));
            let contents = encoding
                .zip(self.hub.entry(key))
                .map(|(encoding, entry)| deltas::full(encoding, entry, &new));
            self.fan_out_all(key, form, &Recipients::One(recipient.slot), &new, contents.as_deref());
        }
    }

    /// Sends the publications to the subscribers with filters or deltas: each filter is evaluated once, and each delta made
    /// once for each encoding.
    fn fan_out_selections(&mut self, key: TopicKey, except: &[Slot], publications: &[Arc<Publication>]) {
        let ids: Vec<SelectionId> = self.hub.entry(key).map(|e| e.selections().collect()).unwrap_or_default();
        for id in ids {
            let Some(selection) = self.hub.entry(key).and_then(|entry| entry.selection(id)) else { continue };
            let selected = selection.select(publications);
            let filtered = (publications.len() - selected.len()) * selection.count();
            add(&self.metrics.filtered, filtered as u64);
            let Some(last) = selected.last() else { continue };
            let base = selection.base().cloned();
            let groups: Vec<Group> = selection.groups().collect();
            let mut made: Vec<(Encoding, DeltaState, Vec<Content<'_>>)> = Vec::new();
            for group in groups {
                let encoding = delta_encoding(group.form).filter(|_| group.delta != DeltaState::Off);
                if let (Some(encoding), Some(entry)) = (encoding, self.hub.entry(key))
                    && !made.iter().any(|(made, delta, _)| (*made, *delta) == (encoding, group.delta))
                {
                    let base = base.as_deref().filter(|_| group.delta == DeltaState::WithBase);
                    made.push((encoding, group.delta, deltas::after(base, encoding, entry, &selected)));
                }
                let contents = made
                    .iter()
                    .find(|(made, delta, _)| Some(*made) == encoding && *delta == group.delta)
                    .map(|(.., contents)| &contents[..]);
                self.count_deltas(key, id, group, contents);
                let recipients = Recipients::Selected { selection: id, group, except };
                self.fan_out_all(key, group.form, &recipients, &selected, contents);
            }
            self.hub.set_base(key, id, last, except);
        }
    }

    /// Counts the bytes of contents with and without deltas, once for each subscriber of the group.
    fn count_deltas(&self, key: TopicKey, id: SelectionId, group: Group, contents: Option<&[Content<'_>]>) {
        let selection = self.hub.entry(key).and_then(|entry| entry.selection(id));
        let (Some(contents), Some(selection)) = (contents, selection) else { return };
        let subscribers = selection.subscribers(group).len();
        let full: usize = contents.iter().map(|content| content.full().len()).sum();
        let sent: usize = contents.iter().map(|content| content.sent().0.len()).sum();
        add(&self.metrics.deltas.plain, (full * subscribers) as u64);
        add(&self.metrics.deltas.compressed, (sent * subscribers) as u64);
    }

    /// Sends all publications to the recipients, in writes of about [`JOIN`] bytes. With `contents`, these take the place of
    /// the publications' bodies.
    pub(crate) fn fan_out_all(
        &mut self,
        key: TopicKey,
        form: Form,
        recipients: &Recipients<'_>,
        publications: &[Arc<Publication>],
        contents: Option<&[Content<'_>]>,
    ) {
        let mut rest = publications;
        while !rest.is_empty() && !self.mailbox.is_stopping() {
            let done = publications.len() - rest.len();
            let contents = contents.and_then(|contents| contents.get(done..));
            rest = self.fan_out_some(key, form, recipients, rest, contents);
        }
    }

    /// Joins publications up to [`JOIN`] bytes and writes them to the recipients; returns the rest.
    fn fan_out_some<'a>(
        &mut self,
        key: TopicKey,
        form: Form,
        recipients: &Recipients<'_>,
        publications: &'a [Arc<Publication>],
        contents: Option<&[Content<'_>]>,
    ) -> &'a [Arc<Publication>] {
        if form.is_addressed() {
            return self.fan_out_addressed(key, form, recipients, publications);
        }
        let Some(entry) = self.hub.entry(key) else { return &[] };
        let (subscribers, except) = recipients.slots(entry, form);
        if subscribers.is_empty() {
            return &[];
        }
        let context = entry.context();
        let Batches { joined, ends, behind, deflater, .. } = &mut self.batches;
        joined.clear();
        ends.clear();
        let packed = form.is_packed() && !matches!(recipients, Recipients::One(_));
        for (index, publication) in publications.iter().enumerate() {
            if let Some(content) = contents.and_then(|contents| contents.get(index)) {
                let deflater = packed.then_some(&mut *deflater);
                form::encode_content(form, &context, publication, content.sent(), deflater, joined);
            } else if packed {
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
            if !except.is_empty() && except.binary_search(&slot).is_ok() {
                failed += 1;
                continue;
            }
            let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { continue };
            let begun = if conn.queue.is_some() {
                0
            } else {
                match conn.socket.write_some(joined) {
                    Ok(n) => n,
                    // A readiness event reports the broken connection.
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
        let deliveries = (subscribers.len() as u64 - failed) * taken as u64;
        add(&self.metrics.deliveries, deliveries);
        add(&entry.stats().deliveries, deliveries);
        add(&self.metrics.bytes_out, sent);
        if !self.ends.is_empty() {
            let all = joined.len() as u64;
            for slot in subscribers.iter().filter(|slot| except.binary_search(slot).is_err()) {
                self.ends.sent(*slot, all);
            }
            for (slot, begun) in behind.iter() {
                self.ends.not_sent(*slot, all - *begun as u64);
            }
        }
        if !behind.is_empty() {
            let policy = entry.slow_consumer();
            let shared = Bytes::copy_from_slice(joined);
            // The policy keeps the newest publication and drops those that it is a delta to.
            let newest =
                contents.and_then(|contents| contents.get(taken - 1)).filter(|content| content.is_delta());
            let newest = newest.filter(|_| policy == SlowConsumerPolicy::Latest).map(|content| {
                let mut whole = Vec::new();
                let publication = &publications[taken - 1];
                form::encode_content(form, &context, publication, (content.full(), false), None, &mut whole);
                Bytes::from(whole)
            });
            let mut behind = std::mem::take(behind);
            for (slot, begun) in behind.drain(..) {
                self.enqueue_remainder(slot, begun, key, Some(policy), (&shared, newest.as_ref()));
            }
            self.batches.behind = behind;
        }
        &publications[taken..]
    }

    /// The same for an addressed form: the part that subscribers share is encoded once, and each subscriber's session makes
    /// its messages from that.
    fn fan_out_addressed<'a>(
        &mut self,
        key: TopicKey,
        form: Form,
        recipients: &Recipients<'_>,
        publications: &'a [Arc<Publication>],
    ) -> &'a [Arc<Publication>] {
        let Some(entry) = self.hub.entry(key) else { return &[] };
        let (subscribers, except) = recipients.slots(entry, form);
        let is_recipient = |slot: &&Slot| except.binary_search(slot).is_err();
        let slots: Vec<Slot> = subscribers.iter().filter(is_recipient).copied().collect();
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
        let mut deliveries = 0;
        for slot in slots {
            let Batches { joined, ends, .. } = &mut self.batches;
            joined.clear();
            ends.clear();
            let (mut start, mut is_required, mut is_full) = (0, false, false);
            for (end, publication) in part_ends.iter().zip(publications) {
                let shared = &parts[start..*end];
                match address(&mut self.hub, slot, key, publication, shared, joined, ends) {
                    Addressed::Droppable => {}
                    Addressed::Required => is_required = true,
                    Addressed::Overflow => is_full = true,
                }
                start = *end;
            }
            for change in self.hub.protocols.take_session_steps() {
                self.control.notify(Notification::Protocol(Box::new(change)));
            }
            if is_full {
                self.report_overflow(slot, key, Overflow::Cut, 1);
                continue;
            }
            if joined.is_empty() {
                continue;
            }
            let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { continue };
            // An event will report a broken connection.
            let written = if conn.queue.is_some() { Ok(0) } else { conn.socket.write_some(joined) };
            let Ok(begun) = written else { continue };
            deliveries += ends.len() as u64;
            add(&self.metrics.bytes_out, begun as u64);
            if !self.ends.is_empty() {
                self.ends.sent(slot, begun as u64);
            }
            if begun < joined.len() {
                let rest = Bytes::copy_from_slice(joined);
                let policy = if is_required { None } else { Some(policy) };
                self.enqueue_remainder(slot, begun, key, policy, (&rest, None));
            }
        }
        add(&self.metrics.deliveries, deliveries);
        if let Some(entry) = self.hub.entry(key) {
            add(&entry.stats().deliveries, deliveries);
        }
        let taken = part_ends.len();
        // Many subscriptions of one session multiply a publication.
        self.batches.joined.shrink_to(2 * JOIN);
        parts.shrink_to(2 * JOIN);
        self.batches.shared = (parts, part_ends);
        &publications[taken..]
    }

    /// Sends a publication of a shared subscription to one session. If the session has ended or reads too slowly, another member
    /// gets it.
    pub(crate) fn deliver_shared(&mut self, id: SessionId, delivery: SharedDelivery) {
        let conn = self.conns.get(id.slot.index()).and_then(Option::as_ref);
        let waiting = conn.map_or(0, Conn::control_backlog);
        if waiting > 0 && waiting + delivery.publication.body.len() > self.limits.queue {
            self.end_slow(id);
        }
        tidings_session::deliver_shared(&mut self.hub, id, delivery, &mut self.fx);
    }
}
