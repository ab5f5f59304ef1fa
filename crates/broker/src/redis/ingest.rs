//! Messages as they come off the hearing connection, collected for the sink.
//!
//! The connection's own task calls [`Ingest::push`] for every message it has parsed; when it has parsed all that was
//! ready, the link task gets its turn in [`Ingest::pump`] and hands over what was collected in one call, which is what
//! lets shards join many messages into one write. Should the link task not get its turn, the batch is handed over as
//! soon as it is full: nothing waits here without bound.
//!
//! Invariants:
//! - The sink is called under the batch's lock, so its calls are in the order in which Redis sent.
//! - After [`Ingest::close`] has returned, nothing of this connection reaches the sink any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use redis::{PushInfo, PushKind, Value};
use tidings_wire::{Channel, Delivery, Publication, Topic};
use tokio::sync::Notify;

use super::Counters;
use super::names::Names;
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
    state: Mutex<State>,
    ready: Notify,
    /// How many pushes of any kind have come: whether the peer lives, when an answer is long in coming.
    pushes: AtomicU64,
}

#[derive(Default)]
struct State {
    batch: Vec<Delivery>,
    bytes: usize,
    /// The last channel heard: neighbours are often of the same one, and share its name then.
    recent: Option<Channel>,
    lost: bool,
    closed: bool,
}

impl Ingest {
    pub(super) fn new(names: Arc<Names>, sink: SharedSink, counters: Arc<Counters>) -> Self {
        Self {
            names,
            sink,
            counters,
            state: Mutex::default(),
            ready: Notify::new(),
            pushes: AtomicU64::new(0),
        }
    }

    /// Takes one push; called by the connection's task, in the order of arrival.
    pub(super) fn push(&self, push: PushInfo) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        let mut parts = push.data.into_iter();
        let (pattern, channel, body) = match push.kind {
            PushKind::Message => (None, parts.next(), parts.next()),
            PushKind::PMessage => (parts.next(), parts.next(), parts.next()),
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
        let Some(delivery) = self.delivery(&mut state.recent, pattern.as_ref(), channel.as_ref(), body)
        else {
            self.counters.invalid_names.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if state.closed {
            return;
        }
        if state.batch.is_empty() {
            self.ready.notify_one();
        }
        state.bytes += delivery.publication.body.len();
        state.batch.push(delivery);
        if state.batch.len() >= BATCH || state.bytes >= BATCH_BYTES {
            self.hand_over(&mut state);
        }
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

    /// `None` when the names are not ours.
    fn delivery(
        &self,
        recent: &mut Option<Channel>,
        pattern: Option<&Value>,
        channel: Option<&Value>,
        body: Option<Value>,
    ) -> Option<Delivery> {
        let name = bytes(channel)?;
        let channel = match recent {
            Some(last) if *self.names.channel(last) == *name => last.clone(),
            _ => recent.insert(self.names.heard_channel(name)?).clone(),
        };
        let topic = match pattern {
            Some(glob) => Topic::Pattern(self.names.heard_pattern(bytes(Some(glob))?)?),
            None => Topic::Channel(channel.clone()),
        };
        let Some(Value::BulkString(body)) = body else { return None };
        Some(Delivery { topic, publication: Arc::new(Publication::new(channel, body)) })
    }
}

fn bytes(value: Option<&Value>) -> Option<&[u8]> {
    if let Some(Value::BulkString(bytes)) = value { Some(bytes) } else { None }
}
