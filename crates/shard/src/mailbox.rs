//! A shard's mailbox: how other threads reach it.
//!
//! Publications in it are bounded in bytes. At the bound they are not taken in but counted per topic, and the
//! shard tells the topic's subscribers how many they missed.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mio::Waker;
use tidings_hub::{About, Answer, Directive, Failure, SessionId};
use tidings_session::Link;
use tidings_wire::{Channel, ClientInfo, Delivery, Topic};

use crate::socket::{Listener, Socket};

/// What a waiting publication takes besides its body, in bytes.
const OVERHEAD: usize = 128;

/// Something for a shard to know or do.
#[derive(Debug)]
pub enum Mail {
    /// A publication for the subscribers of a topic.
    Deliver(Delivery),
    /// The broker has confirmed a topic.
    Live(Topic),
    /// The broker does not subscribe a topic at present, for this reason; whether it is the first refusal since the topic
    /// was live.
    Refused(Topic, Failure, bool),
    /// The part of the broker that a topic is with is away.
    Away(Topic),
    /// The broker is away.
    BrokerDown,
    /// A topic with a history has been away for long: have its subscribers reconnect elsewhere, spread over this time.
    Stranded(Topic, Duration),
    /// What came of a session's request.
    Answer(SessionId, u32, Answer),
    /// A connection to own, whose first byte will tell what it speaks.
    Connection(Socket),
    /// A connection to own, of which more is known.
    Arrival(Box<Arrival>),
    /// Commands for a session whose connection only goes the other way: one frame of them.
    Input(SessionId, Bytes),
    /// An order to all sessions that it concerns.
    Order(Arc<Directive>),
    /// Somebody has come to a channel, or left it.
    Changed(Arc<Change>),
    /// Publications of a topic are lost: who counts on positions is to subscribe again.
    Lost(Topic),
    /// A listener to accept from.
    Listen(Listener),
    /// Accept no more; ask all clients to reconnect, spread evenly over this time.
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
    /// What those who decide may want to know of it.
    pub about: Option<Arc<About>>,
    /// Where proxies say that it comes from, the nearest one's word last; see [`crate::AddressLimits`].
    pub forwarded: Vec<Option<IpAddr>>,
}

/// Somebody comes to a channel or leaves it.
#[derive(Debug)]
pub struct Change {
    /// The channel.
    pub channel: Channel,
    /// Comes, or leaves.
    pub joined: bool,
    /// Who.
    pub info: ClientInfo,
}

#[derive(Debug, Default)]
struct Inner {
    mail: Vec<Mail>,
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
    pub(crate) mail: Vec<Mail>,
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

    /// Puts one piece of mail in and wakes the shard if it sleeps.
    pub fn post(&self, mail: Mail) {
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
        inner.mail.push(Mail::Deliver(delivery));
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

    /// Has the shard close everything and end, before it reads any more mail.
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

    /// Takes everything, leaving `spare`'s memory for what comes. Its bytes count until they are released.
    pub(crate) fn take(&self, spare: Vec<Mail>) -> Taken {
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

    /// Says that the shard is about to sleep; `false` when something has come, so it must not.
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
