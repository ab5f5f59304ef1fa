//! Messages as they come off the hearing connection, collected for the sink.
//!
//! The connection's own task calls [`Ingest::push`] for every message it has parsed; when it has parsed all that was
//! ready, the link task gets its turn in [`Ingest::pump`] and hands over what was collected in one call, which is what
//! lets shards join many messages into one write. Should the link task not get its turn, the batch is handed over as
//! soon as it is full: nothing waits here without bound.
//!
//! Invariants:
//! - The sink is called under the batch's lock, so its calls are in the order in which Redis sent.
//! - What has a position goes through the [`Tracker`], and to the sink in the order in which that lets it.
//! - After [`Ingest::close`] has returned, nothing of this connection reaches the sink any more.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tidings_wire::{Channel, Delivery, Position, Publication, Topic};
use tokio::sync::Notify;

use super::Counters;
use super::envelope::{self, Envelope};
use super::flights::publication;
use super::names::Names;
use super::track::{Out, Track};
use super::tracker::Tracker;
use crate::{SharedSink, lock};

/// How many messages are handed over at once.
const BATCH: usize = 1024;
/// How many bytes of bodies are handed over at once, give or take the last one.
const BATCH_BYTES: usize = 1 << 20;

/// The messages of one connection.
pub(super) struct Ingest {
    names: Arc<Names>,
    sink: SharedSink,
    counters: Arc<Counters>,
    tracker: Arc<Tracker>,
    state: Mutex<State>,
    ready: Notify,
    evicted: Notify,
    /// How many pushes of any kind have come: whether the peer lives, when an answer is long in coming.
    pushes: AtomicU64,
    /// Requests that are to be answered on this connection.
    pub(super) asked: AtomicU64,
    /// Whether this is a connection for plain messages beside others for sharded ones.
    beside: bool,
}

#[derive(Default)]
struct State {
    batch: Vec<Delivery>,
    bytes: usize,
    /// What the tracker lets go, kept for its capacity; empty whenever the state is unlocked.
    out: Vec<Out>,
    /// The last channel heard: neighbours are often of the same one, and share its name then.
    recent: Option<Channel>,
    lost: bool,
    closed: bool,
    /// Sharded names whose subscription is about to be ended.
    leaving: HashSet<Vec<u8>>,
    /// Those that Redis has ended by itself.
    ended: Vec<Vec<u8>>,
    /// One was ended while an answer was due, and may have been taken for it: no answer is to be trusted any more.
    confused: bool,
}

impl Ingest {
    pub(super) fn new(
        names: Arc<Names>,
        sink: SharedSink,
        counters: Arc<Counters>,
        tracker: Arc<Tracker>,
        beside: bool,
    ) -> Self {
        Self {
            names,
            sink,
            counters,
            tracker,
            state: Mutex::default(),
            ready: Notify::new(),
            evicted: Notify::new(),
            pushes: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            beside,
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
            // Confirmations are answers as well, and are dealt with where they are awaited.
            _ => return,
        };
        self.counters.heard.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        if let Err(counter) = self.take(&mut state, sharded, pattern.as_ref(), channel.as_ref(), body) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets the tracker go on with what was learned of a channel, and hands its outcome on.
    pub(super) fn settle<T>(&self, learn: impl FnOnce(&Tracker, &mut Vec<Out>) -> T) -> T {
        let mut state = lock(&self.state);
        let mut out = std::mem::take(&mut state.out);
        let result = learn(&self.tracker, &mut out);
        self.let_go(&mut state, out);
        result
    }

    /// Lets go of a channel that another primary has now; everything that was heard of it is handed over before.
    pub(super) fn release(&self, channel: &Channel) -> Option<Track> {
        let mut state = lock(&self.state);
        let mut out = std::mem::take(&mut state.out);
        let track = self.tracker.release(channel, &mut out);
        self.let_go(&mut state, out);
        self.hand_over(&mut state);
        track
    }

    /// These sharded names are about to be unsubscribed.
    pub(super) fn leaving(&self, names: &[Vec<u8>]) {
        lock(&self.state).leaving.extend(names.iter().cloned());
    }

    /// These were subscribed no longer.
    pub(super) fn left(&self, names: &[Vec<u8>]) {
        let mut state = lock(&self.state);
        state.leaving.retain(|name| !names.contains(name));
    }

    /// The sharded names of which Redis has ended the subscription by itself since the last time.
    pub(super) fn take_ended(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.state).ended)
    }

    /// Waits until there may be some.
    pub(super) async fn some_ended(&self) {
        self.evicted.notified().await;
    }

    /// Whether answers on this connection can be told apart from what was not asked for.
    pub(super) fn is_confused(&self) -> bool {
        lock(&self.state).confused
    }

    /// A sharded subscription is over. When a slot leaves a node, Redis says so without having been asked; the client
    /// library takes it for the answer to the oldest request, if there is one under way.
    fn ended(&self, name: Option<&Value>) {
        let Some(name) = name.and_then(envelope::bytes) else { return };
        let mut state = lock(&self.state);
        if state.leaving.remove(name) {
            return;
        }
        if self.asked.load(Ordering::SeqCst) > 0 {
            state.confused = true;
            state.lost = true;
            self.ready.notify_one();
        }
        state.ended.push(name.to_vec());
        self.evicted.notify_one();
    }

    /// Hands over what is collected, again and again, until the connection is lost.
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

    /// Hands over what is left, and takes nothing more.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        let mut out = std::mem::take(&mut state.out);
        self.tracker.disconnected(&mut out);
        self.let_go(&mut state, out);
        self.hand_over(&mut state);
        state.closed = true;
    }

    /// A number that grows with every push.
    pub(super) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Relaxed)
    }

    fn hand_over(&self, state: &mut State) {
        if !state.batch.is_empty() {
            self.sink.deliver(&mut state.batch);
            state.batch.clear();
            state.bytes = 0;
        }
    }

    /// Takes in a message; gives where to count it when it is none.
    fn take(
        &self,
        state: &mut State,
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
                    // A glob for plain messages that matches the name for envelopes as well, as `*` does. Its twin
                    // for envelopes hears it too.
                    return Ok(());
                }
                Some(self.names.heard_pattern(plain_glob.unwrap_or(glob)).ok_or(wrong)?)
            }
            None => None,
        };
        let name = plain.unwrap_or(full);
        let channel = match &mut state.recent {
            Some(last) if *self.names.channel(last) == *name => last.clone(),
            recent => recent.insert(self.names.heard_channel(name).ok_or(wrong)?).clone(),
        };
        let Some(Value::BulkString(body)) = body else { return Err(wrong) };
        let body = Bytes::from(body);
        let heard = if plain.is_none() {
            Publication::new(channel, body)
        } else {
            match envelope::read(&body).ok_or(&self.counters.invalid_envelopes)? {
                // For the patterns; the channel's own subscribers hear it through its sharded name.
                Envelope::Publication(written) if self.beside && glob.is_none() && written.offset > 0 => {
                    return Ok(());
                }
                Envelope::Publication(written) => {
                    let position = (written.offset > 0).then(|| Position {
                        offset: written.offset,
                        epoch: self.tracker.epoch(&channel, &written.epoch),
                    });
                    publication(&channel, written.body, position, written.extra)
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
                self.let_go(state, out);
            }
        }
        Ok(())
    }

    /// Hands on what the tracker lets go.
    fn let_go(&self, state: &mut State, mut out: Vec<Out>) {
        for out in out.drain(..) {
            match out {
                Out::Deliver(delivery) => self.collect(state, delivery),
                Out::Gap(channel, gap) => {
                    self.hand_over(state);
                    self.counters.gaps.fetch_add(1, Ordering::Relaxed);
                    self.sink.gap(&Topic::Channel(channel), &gap);
                }
            }
        }
        state.out = out;
    }

    fn collect(&self, state: &mut State, delivery: Delivery) {
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
