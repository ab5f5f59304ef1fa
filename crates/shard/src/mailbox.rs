//! A shard's mailbox: how other threads reach it.
//!
//! Publications in it are bounded in bytes. At the bound they are not taken in but counted per topic, and the
//! shard notifies the topic's subscribers of their number.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mio::Waker;
use tidings_hub::{ConnectionInfo, Directive, Failure, Response, SessionId};
use tidings_session::Link;
use tidings_wire::{Channel, ClientInfo, Delivery, Topic};

use crate::socket::{Listener, Socket};

/// What a waiting publication takes besides its body, in bytes.
const OVERHEAD: usize = 128;

/// A message to a shard.
#[derive(Debug)]
pub enum ShardMessage {
    /// A publication for the subscribers of a topic.
    Deliver(Delivery),
    /// The broker has confirmed a topic.
    Live(Topic),
    /// The broker does not subscribe a topic at present, for this reason; whether it is the first refusal since the topic
    /// was live.
    Refused(Topic, Failure, bool),
    /// The part of the broker that serves a topic is unavailable.
    Away(Topic),
    /// The broker is unavailable.
    BrokerDown,
    /// A topic with a history has been away for long: have its subscribers reconnect elsewhere, spread over this time.
    Stranded(Topic, Duration),
    /// The response to a session's request.
    Response(SessionId, u32, Response),
    /// A connection to own, whose first byte decides the protocol.
    Connection(Socket),
    /// A connection to own, whose protocol is known.
    Arrival(Box<Arrival>),
    /// Commands for a session whose connection only goes the other way: one frame of them.
    Input(SessionId, Bytes),
    /// An order to all sessions that it concerns.
    Order(Arc<Directive>),
    /// A client has joined or left a channel.
    Changed(Arc<Change>),
    /// Publications of a topic are lost: subscribers with positions must subscribe again.
    Lost(Topic),
    /// A listener to accept from.
    Listen(Listener),
    /// Accept no more; request that all clients reconnect, spread evenly over this time.
    Drain(Duration),
}

/// A connection whose handshake was done elsewhere.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub socket: Socket,
    /// How its peer is connected.
    pub link: Link,
    /// What it has sent already, behind the handshake.
    pub received: Vec<u8>,
    /// Its transport and headers, for hooks.
    pub about: Option<Arc<ConnectionInfo>>,
    /// The addresses that proxies have forwarded, that of the nearest one last; see [`crate::AddressLimits`].
    pub forwarded: Vec<Option<IpAddr>>,
}

/// A client joins or leaves a channel.
#[derive(Debug)]
pub struct Change {
    /// The channel.
    pub channel: Channel,
    /// It joins; otherwise it leaves.
    pub joined: bool,
    /// The client.
    pub info: ClientInfo,
}

#[derive(Debug, Default)]
struct Inner {
    mail: Vec<ShardMessage>,
    bytes: usize,
    gaps: HashMap<Topic, u64>,
}

/// A queue that any thread fills and one shard empties.
#[derive(Debug)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    /// The shard is about to wait for events, or waits.
    asleep: AtomicBool,
    stopping: AtomicBool,
    waker: Waker,
    budget: usize,
    bytes: AtomicUsize,
}

/// Everything that waited.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) mail: Vec<ShardMessage>,
    pub(crate) gaps: HashMap<Topic, u64>,
    /// What the publications in it count for, until they are fanned out.
    pub(crate) bytes: usize,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, budget: usize) -> Self {
        Self {
            inner: Mutex::default(),
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            waker,
            budget,
            bytes: AtomicUsize::new(0),
        }
    }

    /// Appends a message and wakes the shard if it sleeps.
    pub fn post(&self, mail: ShardMessage) {
        self.lock().mail.push(mail);
        self.wake();
    }

    /// Puts a publication in, without waking the shard: call [`Mailbox::wake`] after the last of several.
    ///
    /// Gives `false` when the budget is used up; the publication is then counted as missed by its topic's
    /// subscribers here.
    pub fn deliver(&self, delivery: Delivery) -> bool {
        let cost = delivery.publication.body.len() + OVERHEAD;
        let mut inner = self.lock();
        if inner.bytes + cost > self.budget {
            *inner.gaps.entry(delivery.topic).or_default() += 1;
            return false;
        }
        inner.bytes += cost;
        inner.mail.push(ShardMessage::Deliver(delivery));
        self.bytes.store(inner.bytes, Ordering::Relaxed);
        true
    }

    /// Wakes the shard if it sleeps.
    pub fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    /// Has the shard close everything and end, before it takes further messages.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Bytes of publications that wait or are being fanned out.
    pub fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a quarter of the budget is in use: time for publishers to slow down.
    pub fn is_congested(&self) -> bool {
        self.waiting() > self.budget / 4
    }

    /// Takes everything, leaving `spare`'s memory for the next messages. Their bytes count until they are released.
    pub(crate) fn take(&self, spare: Vec<ShardMessage>) -> Taken {
        let mut inner = self.lock();
        Taken {
            mail: std::mem::replace(&mut inner.mail, spare),
            gaps: std::mem::take(&mut inner.gaps),
            bytes: inner.bytes,
        }
    }

    /// So many of the bytes taken are fanned out.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes > 0 {
            let mut inner = self.lock();
            inner.bytes -= bytes;
            self.bytes.store(inner.bytes, Ordering::Relaxed);
        }
    }

    /// Announces that the shard is about to sleep; `false` when a message has arrived, so it must not.
    pub(crate) fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let inner = self.lock();
        let empty = inner.mail.is_empty() && inner.gaps.is_empty() && !self.is_stopping();
        drop(inner);
        if !empty {
            self.asleep.store(false, Ordering::SeqCst);
        }
        empty
    }

    pub(crate) fn woke(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn waker(poll: &mio::Poll, token: mio::Token) -> io::Result<Waker> {
    Waker::new(poll.registry(), token)
}
