//! The mailbox of a shard, by which other threads reach it.
//!
//! Its publications are bounded in bytes. Beyond the bound they are counted per topic instead, and the shard notifies
//! the subscribers of the topic.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mio::Waker;
use tidings_hub::{ConnectionInfo, Failure, SessionCommand, SessionId, Settings};
use tidings_log_throttle::LogThrottle;
use tidings_mqtt_session::SharedDelivery;
use tidings_session::Response;
use tidings_session::{Link, ProtocolSettings};
use tidings_wire::{Channel, ClientInfo, Delivery, Topic};

use crate::address::ClientPath;
use crate::limits::Limits;
use crate::pipe::ReadinessReceiver;
use crate::polls::PollDelivery;
use crate::socket::{LineRules, Listener, Socket};
use crate::streams::StreamDelivery;
use crate::survey::ConnectionSurvey;

/// The cost of a waiting publication besides its body, in bytes.
const OVERHEAD: usize = 128;

/// A message to a shard.
#[derive(Debug)]
pub enum ShardMessage {
    /// A publication for the subscribers of a topic.
    Deliver(Delivery),
    /// The broker has confirmed a topic.
    Live(Topic),
    /// The broker has refused a topic, for this reason; and whether it is the first refusal since the topic was live.
    Refused(Topic, Failure, bool),
    /// The part of the broker that serves a topic is unavailable.
    Away(Topic),
    /// The broker is unavailable.
    BrokerDown,
    /// A topic with a history has been unavailable for long: disconnect its subscribers within this time, so that they
    /// reconnect to other nodes.
    Failover(Topic, Duration),
    /// The response to a session's request.
    Response(SessionId, u32, Response),
    /// The same, behind all earlier publications and before all later ones.
    OrderedResponse(SessionId, u32, Response),
    /// A publication of a shared subscription for one session.
    DeliverShared(SessionId, SharedDelivery),
    /// There was no room for such a publication.
    SharedLost(SessionId),
    /// A session with [`Flag::Parking`](tidings_hub::Flag::Parking) has received its last publication.
    Parked(SessionId),
    /// The broker has messages for a session that have not been read.
    MessagesWaiting(SessionId),
    /// A connection of the line port for this shard; its first byte determines the protocol.
    Connection(LineConnection),
    /// A connection for this shard with a known protocol.
    Arrival(Box<Arrival>),
    /// The stream of HTTP/2 of a session has room, input, or has ended.
    Ready(SessionId),
    /// A frame of commands for an emulated session.
    Input(SessionId, Bytes),
    /// A command of the application, for the sessions that it targets.
    SessionCommand(Arc<SessionCommand>),
    /// A client has joined or left a channel.
    Changed(Arc<PresenceUpdate>),
    /// The numbers of subscriptions of channels, for their Pusher sessions.
    SubscriptionCounts(Arc<Vec<(Channel, u64)>>),
    /// A value of a shared poll, for the sessions that track its key.
    Poll(Box<PollDelivery>),
    /// Publications of a stream for one session, or the end of its subscription.
    Stream(Box<StreamDelivery>),
    /// The subscription of a session to a shared poll ends, so that its client subscribes again.
    PollEnded(Channel, SessionId),
    /// Publications of a topic are lost: notify its subscribers.
    Lost(Topic),
    /// Accept connections from this listener.
    Listen(Listener),
    /// Stop accepting, and disconnect all clients evenly over this time.
    Drain(Duration),
    /// Disconnect at most this number of clients that recover, evenly over this time, so that they connect to other nodes.
    /// Replaces the present order.
    Rebalance(usize, Duration),
    /// A request of an operator for a page of connections.
    Survey(Box<ConnectionSurvey>),
    /// Use these settings from now on.
    Reconfigure(Arc<ShardSettings>),
}

/// The settings of a shard, which can be replaced while it runs.
#[derive(Debug)]
pub struct ShardSettings {
    /// The settings of sessions.
    pub sessions: Arc<Settings>,
    /// The settings of protocols.
    pub protocols: Arc<ProtocolSettings>,
    /// Of these [`Limits`], the queue of a connection, the number of connections and the time to close are used; the others
    /// are those of the start.
    pub limits: Limits,
}

/// A connection of the line port.
#[derive(Debug)]
pub struct LineConnection {
    /// The connection.
    pub socket: Socket,
    /// The source in the PROXY protocol header of the connection, which takes the place of the socket's peer.
    pub proxy_source: Option<IpAddr>,
    /// What is required of it. Without a TLS handshake if that has taken place.
    pub rules: LineRules,
}

impl LineConnection {
    /// A connection without a PROXY header, whose protocol may begin at once.
    pub fn direct(socket: Socket) -> Self {
        Self { socket, proxy_source: None, rules: LineRules::default() }
    }
}

/// A connection after its handshake on another thread.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub socket: Socket,
    /// Its framing, protocol and direction.
    pub link: Link,
    /// A parameter of the protocol, see [`tidings_session::Peer::with_parameter`].
    pub parameter: u8,
    /// Input that was read after the handshake.
    pub received: Vec<u8>,
    /// The transport and headers, for hooks.
    pub connection_info: Option<Arc<ConnectionInfo>>,
    /// Whether its request was authorized as one of an operator, so that the session has the rights of a backend.
    pub is_backend: bool,
    /// The addresses that proxies state for its client.
    pub path: ClientPath,
}

/// A client has joined or left a channel.
#[derive(Debug)]
pub struct PresenceUpdate {
    /// The channel.
    pub channel: Channel,
    /// `true` for a join, `false` for a leave.
    pub joined: bool,
    /// The client.
    pub info: ClientInfo,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<ShardMessage>,
    bytes: usize,
    gaps: HashMap<Topic, u64>,
}

/// A queue that any thread fills and one shard empties.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    /// Whether the shard waits for events, or is about to.
    asleep: AtomicBool,
    stopping: AtomicBool,
    waker: Waker,
    budget: usize,
    bytes: AtomicUsize,
}

/// The content of a mailbox.
#[derive(Debug, Default)]
pub(crate) struct MailboxContent {
    pub(crate) messages: Vec<ShardMessage>,
    pub(crate) gaps: HashMap<Topic, u64>,
    /// The cost of the publications in it, which counts until they are fanned out.
    pub(crate) bytes: usize,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, budget: usize) -> Self {
        Self {
            state: Mutex::default(),
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            waker,
            budget,
            bytes: AtomicUsize::new(0),
        }
    }

    /// Appends a message and wakes the shard if it sleeps.
    pub fn post(&self, message: ShardMessage) {
        self.lock().messages.push(message);
        self.wake();
    }

    /// Adds a publication without waking the shard: call [`Mailbox::wake`] after the last of several.
    ///
    /// Returns `false` if the budget is exhausted. The publication then counts as missed by the topic's subscribers on
    /// this shard.
    pub fn deliver(&self, delivery: Delivery) -> bool {
        let cost = delivery.publication.body.len() + OVERHEAD;
        let mut state = self.lock();
        if state.bytes + cost > self.budget {
            *state.gaps.entry(delivery.topic).or_default() += 1;
            return false;
        }
        state.bytes += cost;
        state.messages.push(ShardMessage::Deliver(delivery));
        self.bytes.store(state.bytes, Ordering::Relaxed);
        true
    }

    /// As [`Mailbox::deliver`], for one session. If the budget is exhausted, nothing is counted.
    pub fn deliver_shared(&self, session: SessionId, delivery: SharedDelivery) -> bool {
        let cost = delivery.publication.body.len() + OVERHEAD;
        let mut state = self.lock();
        if state.bytes + cost > self.budget {
            return false;
        }
        state.bytes += cost;
        state.messages.push(ShardMessage::DeliverShared(session, delivery));
        self.bytes.store(state.bytes, Ordering::Relaxed);
        true
    }

    /// As [`Mailbox::deliver`], for some sessions of a shared poll. If the budget is exhausted, nothing is counted.
    pub fn deliver_poll(&self, delivery: PollDelivery) -> bool {
        let sessions = delivery.full.len() + delivery.deltas.len();
        let cost = delivery.publication.body.len() + OVERHEAD + sessions * size_of::<SessionId>();
        let mut state = self.lock();
        if state.bytes + cost > self.budget {
            return false;
        }
        state.bytes += cost;
        state.messages.push(ShardMessage::Poll(Box::new(delivery)));
        self.bytes.store(state.bytes, Ordering::Relaxed);
        true
    }

    /// As [`Mailbox::deliver`], for the subscription of a stream; an empty mailbox accepts a delivery of any size. Wakes the
    /// shard.
    ///
    /// # Errors
    /// The delivery, if the budget is exhausted.
    pub fn deliver_stream(&self, delivery: Box<StreamDelivery>) -> Result<(), Box<StreamDelivery>> {
        let sizes: usize = delivery.publications.iter().map(|publication| publication.size()).sum();
        let cost = sizes + (delivery.publications.len() + 1) * OVERHEAD;
        let mut state = self.lock();
        if state.bytes > 0 && state.bytes + cost > self.budget {
            return Err(delivery);
        }
        state.bytes += cost;
        state.messages.push(ShardMessage::Stream(delivery));
        self.bytes.store(state.bytes, Ordering::Relaxed);
        drop(state);
        self.wake();
        Ok(())
    }

    /// Wakes the shard if it sleeps.
    pub fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            static LINES: LogThrottle = LogThrottle::new();
            if let Some(times) = LINES.count() {
                tracing::error!(%error, times, "a shard could not be woken");
            }
        }
    }

    /// Stops the shard: it closes everything and ends before it handles further messages.
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

    /// Whether more than a quarter of the budget is used: publishers should be slowed down.
    pub fn is_congested(&self) -> bool {
        self.waiting() > self.budget / 4
    }

    /// Takes the content, if there is any; the memory of `spare` is reused for the next messages. The publications count
    /// until they are released.
    pub(crate) fn take(&self, spare: &mut Vec<ShardMessage>) -> Option<MailboxContent> {
        let mut state = self.lock();
        if state.messages.is_empty() && state.gaps.is_empty() {
            return None;
        }
        Some(MailboxContent {
            messages: std::mem::replace(&mut state.messages, std::mem::take(spare)),
            gaps: std::mem::take(&mut state.gaps),
            bytes: state.bytes,
        })
    }

    /// Releases the cost of publications that are fanned out.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes > 0 {
            let mut state = self.lock();
            state.bytes -= bytes;
            self.bytes.store(state.bytes, Ordering::Relaxed);
        }
    }

    /// Announces that the shard is about to sleep; `false` if a message has arrived, so that it must not sleep.
    pub(crate) fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let state = self.lock();
        let empty = state.messages.is_empty() && state.gaps.is_empty() && !self.is_stopping();
        drop(state);
        if !empty {
            self.asleep.store(false, Ordering::SeqCst);
        }
        empty
    }

    pub(crate) fn set_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessReceiver for Mailbox {
    fn post_readiness(&self, session: SessionId) {
        self.post(ShardMessage::Ready(session));
    }
}

pub(crate) fn waker(poll: &mio::Poll, token: mio::Token) -> io::Result<Waker> {
    Waker::new(poll.registry(), token)
}
