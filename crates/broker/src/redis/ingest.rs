//! Messages of the subscriber connection, collected for the sink.
//!
//! The task of the connection calls [`Ingest::push`] for every message that it has parsed. After it has parsed all
//! available bytes, the link task runs [`Ingest::pump`] and hands over the collected messages in one call, so that
//! shards can join many messages into one write. If the link task does not run in time, the batch is handed over as
//! soon as it is full: memory is bounded.
//!
//! Invariants:
//! - The sink is called under the batch's lock, so its calls are in the order in which Redis sent the messages.
//! - Messages with a position go through the [`Tracker`], and reach the sink in the order of its output.
//! - After [`Ingest::close`] has returned, nothing of this connection reaches the sink.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tidings_wire::{Channel, Delivery, Position, Publication, Topic};
use tokio::sync::Notify;

use super::counters::Counters;
use super::envelope::{self, Envelope};
use super::key_expiry::KeyDeadlines;
use super::names::Names;
use super::state_reader::publication;
use super::track::{Track, TrackOutput};
use super::tracker::Tracker;
use crate::{SharedSink, lock};

/// Most messages in a batch.
const BATCH: usize = 1024;
/// Most bytes of bodies in a batch; the last message may exceed it.
const BATCH_BYTES: usize = 1 << 20;

/// The messages of one connection.
pub(super) struct Ingest {
    names: Arc<Names>,
    sink: SharedSink,
    counters: Arc<Counters>,
    tracker: Arc<Tracker>,
    deadlines: Arc<KeyDeadlines>,
    state: Mutex<IngestState>,
    ready: Notify,
    evicted: Notify,
    /// Pushes of any kind so far; shows that the peer responds while a response is pending.
    pushes: AtomicU64,
    /// Pending requests on this connection.
    pub(super) pending_requests: AtomicU64,
    /// Whether this is the connection for plain messages of a cluster.
    is_plain: bool,
}

#[derive(Default)]
struct IngestState {
    batch: Vec<Delivery>,
    bytes: usize,
    /// Output of the tracker, kept for its capacity; empty whenever the state is unlocked.
    out: Vec<TrackOutput>,
    /// The channel of the last message: successive messages often have the same one, and share its name.
    recent: Option<Channel>,
    lost: bool,
    closed: bool,
    /// Sharded names with a pending unsubscription.
    leaving: HashSet<Vec<u8>>,
    /// Sharded names that Redis has unsubscribed by itself.
    ended: Vec<Vec<u8>>,
    /// A subscription ended while a response was pending, and may have been taken for it: responses are not reliable
    /// any more.
    unreliable: bool,
}

impl Ingest {
    pub(super) fn new(
        names: Arc<Names>,
        sink: SharedSink,
        counters: Arc<Counters>,
        tracker: Arc<Tracker>,
        deadlines: Arc<KeyDeadlines>,
        is_plain: bool,
    ) -> Self {
        Self {
            names,
            sink,
            counters,
            tracker,
            deadlines,
            state: Mutex::default(),
            ready: Notify::new(),
            evicted: Notify::new(),
            pushes: AtomicU64::new(0),
            pending_requests: AtomicU64::new(0),
            is_plain,
        }
    }

    /// Takes one push; called by the connection's task, in the order of arrival.
    pub(super) fn push(&self, push: PushInfo) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        let mut parts = push.data.into_iter();
        let sharded = push.kind == PushKind::SMessage;
        let (pattern, channel, body) = match push.kind {
            PushKind::Message | PushKind::SMessage => (None, parts.next(), parts.next()),
            PushKind::PMessage => (parts.next(), parts.next(), parts.next()),
            PushKind::SUnsubscribe => return self.ended(parts.next().as_ref()),
            PushKind::Disconnection => {
                lock(&self.state).lost = true;
                self.ready.notify_one();
                return;
            }
            // Confirmations are responses as well, and are handled where they are awaited.
            _ => return,
        };
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        if let Err(counter) = self.take(&mut state, sharded, pattern.as_ref(), channel.as_ref(), body) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs an operation of the tracker, and hands over its output.
    pub(super) fn settle<T>(&self, learn: impl FnOnce(&Tracker, &mut Vec<TrackOutput>) -> T) -> T {
        let mut state = lock(&self.state);
        let mut out = std::mem::take(&mut state.out);
        let result = learn(&self.tracker, &mut out);
        self.emit(&mut state, out);
        result
    }

    /// Detaches the track of a channel that has moved to another primary, after everything received of it was handed
    /// over.
    pub(super) fn release(&self, channel: &Channel) -> Option<Track> {
        let mut state = lock(&self.state);
        let mut out = std::mem::take(&mut state.out);
        let track = self.tracker.release(channel, &mut out);
        self.emit(&mut state, out);
        self.hand_over(&mut state);
        track
    }

    /// Records sharded names before their unsubscription is sent.
    pub(super) fn leaving(&self, names: &[Vec<u8>]) {
        lock(&self.state).leaving.extend(names.iter().cloned());
    }

    /// Records sharded names that were not subscribed any more.
    pub(super) fn left(&self, names: &[Vec<u8>]) {
        let mut state = lock(&self.state);
        state.leaving.retain(|name| !names.contains(name));
    }

    /// Takes the sharded names that Redis has unsubscribed by itself.
    pub(super) fn take_ended(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.state).ended)
    }

    /// Waits until there may be such names.
    pub(super) async fn ended_any(&self) {
        self.evicted.notified().await;
    }

    /// Whether responses on this connection may be mixed up with unsolicited messages.
    pub(super) fn has_unreliable_responses(&self) -> bool {
        lock(&self.state).unreliable
    }

    /// Handles the end of a sharded subscription. When a slot leaves a node, Redis reports it without a request; the
    /// client library takes the message for the response to the oldest pending request.
    fn ended(&self, name: Option<&Value>) {
        let Some(name) = name.and_then(envelope::bytes) else { return };
        let mut state = lock(&self.state);
        if state.leaving.remove(name) {
            return;
        }
        if self.pending_requests.load(Ordering::SeqCst) > 0 {
            state.unreliable = true;
            state.lost = true;
            self.ready.notify_one();
        }
        state.ended.push(name.to_vec());
        self.evicted.notify_one();
    }

    /// Hands over collected messages until the connection is lost.
    pub(super) async fn pump(&self) {
        loop {
            self.ready.notified().await;
            let mut state = lock(&self.state);
            self.hand_over(&mut state);
            if state.lost {
                return;
            }
        }
    }

    /// Hands over the remaining messages, and takes no further ones.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        let mut out = std::mem::take(&mut state.out);
        self.tracker.disconnected(&mut out);
        self.emit(&mut state, out);
        self.hand_over(&mut state);
        state.closed = true;
    }

    /// Grows with every push.
    pub(super) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Relaxed)
    }

    fn hand_over(&self, state: &mut IngestState) {
        if !state.batch.is_empty() {
            self.sink.deliver(&mut state.batch);
            state.batch.clear();
            state.bytes = 0;
        }
    }

    /// Takes a message; for an invalid one, returns the counter of its kind.
    fn take(
        &self,
        state: &mut IngestState,
        sharded: bool,
        pattern: Option<&Value>,
        name: Option<&Value>,
        body: Option<Value>,
    ) -> Result<(), &AtomicU64> {
        let wrong = &self.counters.invalid_names;
        let full = name.and_then(envelope::bytes).ok_or(wrong)?;
        let plain = if sharded {
            let (plain, envelope) = Names::without_tag(full);
            envelope.then_some(plain)
        } else {
            Names::without_suffix(full)
        };
        let glob = match pattern {
            Some(glob) => {
                let glob = envelope::bytes(glob).ok_or(wrong)?;
                let plain_glob = Names::without_suffix(glob);
                if plain.is_some() && plain_glob.is_none() {
                    // A glob for plain messages that also matches the name for envelopes, as `*` does. The glob for
                    // envelopes matches the message too.
                    return Ok(());
                }
                Some(self.names.parse_pattern(plain_glob.unwrap_or(glob)).ok_or(wrong)?)
            }
            None => None,
        };
        let name = plain.unwrap_or(full);
        let channel = match &mut state.recent {
            Some(last) if *self.names.channel(last) == *name => last.clone(),
            recent => recent.insert(self.names.parse_channel(name).ok_or(wrong)?).clone(),
        };
        let Some(Value::BulkString(body)) = body else { return Err(wrong) };
        let body = Bytes::from(body);
        let heard = if plain.is_none() {
            Publication::new(channel, body)
        } else {
            match envelope::read(&body).ok_or(&self.counters.invalid_envelopes)? {
                // Serves patterns; the channel's own subscribers receive it through its sharded name.
                Envelope::Publication(written) if self.is_plain && glob.is_none() && written.offset > 0 => {
                    return Ok(());
                }
                Envelope::Publication(written) => {
                    let position = (written.offset > 0).then(|| Position {
                        offset: written.offset,
                        epoch: self.tracker.epoch(&channel, &written.epoch),
                    });
                    if let (Some(lifetime), None) = (written.lifetime, &glob) {
                        self.deadlines.set(&channel, Instant::now() + lifetime);
                    }
                    publication(&channel, written.body, position, written.extra)
                }
                Envelope::NextEpoch(epoch) => {
                    if glob.is_none() {
                        let mut out = std::mem::take(&mut state.out);
                        self.tracker.begin_epoch(&channel, &epoch, &mut out);
                        self.emit(state, out);
                    }
                    return Ok(());
                }
                Envelope::Change(change) => {
                    if glob.is_none() {
                        self.hand_over(state);
                        self.sink.changed(&channel, &change);
                    }
                    return Ok(());
                }
            }
        };
        let publication = Arc::new(heard);
        match glob {
            Some(pattern) => {
                self.collect(state, Delivery { topic: Topic::Pattern(pattern), publication });
            }
            None => {
                let topic = Topic::Channel(publication.channel.clone());
                let mut out = std::mem::take(&mut state.out);
                self.tracker.admit(Delivery { topic, publication }, &mut out);
                self.emit(state, out);
            }
        }
        Ok(())
    }

    /// Hands over output of the tracker.
    fn emit(&self, state: &mut IngestState, mut out: Vec<TrackOutput>) {
        for out in out.drain(..) {
            match out {
                TrackOutput::Deliver(delivery) => self.collect(state, delivery),
                TrackOutput::Gap(channel, gap) => {
                    self.hand_over(state);
                    self.counters.gaps.fetch_add(1, Ordering::Relaxed);
                    self.sink.gap(&Topic::Channel(channel), &gap);
                }
            }
        }
        state.out = out;
    }

    fn collect(&self, state: &mut IngestState, delivery: Delivery) {
        if state.batch.is_empty() {
            self.ready.notify_one();
        }
        state.bytes += delivery.publication.size();
        state.batch.push(delivery);
        if state.batch.len() >= BATCH || state.bytes >= BATCH_BYTES {
            self.hand_over(state);
        }
    }
}
