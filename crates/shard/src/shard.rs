//! The loop: events, messages, timers, and the effects of the hub. How connections are accepted, read from,
//! written to and drained is in [`crate::accept`], [`crate::reading`], [`crate::writing`] and [`crate::drain`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll, Token};
use tidings_hub::{Effect, Effects, Rejection, Request, Response, SessionId, Settings, Slot, Timer};
use tidings_session::Hub;
use tidings_wire::code;
use tidings_wire::ws::deflate::Deflater;

use crate::address::Key;
use crate::conn::{Conn, Phase};
use crate::control::{Control, Reply, TlsHandoff};
use crate::drain::Drain;
use crate::fanout::Batches;
use crate::mailbox::{self, Mailbox, ShardMessage, Taken};
use crate::metrics::{Metrics, Process, add};
use crate::reads::{Peer, Read, Reads};
use crate::socket::Listener;
use crate::wheel::Wheel;

/// Bytes read from a socket at once.
pub(crate) const SCRATCH: usize = 16 * 1024;
/// Bytes of answers a peer may leave unread before it is not read from.
pub(crate) const BACKLOG: usize = 64 * 1024;
/// Events taken at once.
const EVENTS: usize = 1024;
/// Mail for which memory is kept between turns.
const SPARE_MAIL: usize = 1 << 12;
/// How long publishers rest when mailboxes are congested.
const NAP: Duration = Duration::from_millis(1);

const WAKER: Token = Token(usize::MAX);
/// The first listener's token; the next ones follow downwards.
pub(crate) const LISTENERS: usize = usize::MAX - 1;

/// Bounds of a shard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes in one connection's queue.
    pub queue: usize,
    /// Bytes in all queues of the process.
    pub queues: usize,
    /// Connections of the process.
    pub connections: usize,
    /// Bytes of publications in a mailbox.
    pub mailbox: usize,
    /// Bytes of answers that one shard has read at a time: histories, presence. At least one queue's.
    pub reads: usize,
    /// How long an ended connection may take to read what is left for it.
    pub close_delay: Duration,
    /// How hard publications are compressed for WebSockets that want it, from 1 (fast) to 9 (small).
    pub compression_level: u8,
    /// Below how many bytes their messages are not.
    pub compression_min_size: usize,
}

impl Limits {
    /// What a queue that takes `mine` bytes may take now that all of them take `all`: when all together are full,
    /// every one of them counts as full.
    pub(crate) fn queue_bound(&self, mine: usize, all: usize) -> usize {
        self.queue.min((self.queues + mine).saturating_sub(all))
    }
}

/// Shards that have mailboxes and metrics but no thread yet, so that whatever a shard calls can be constructed with
/// its mailbox.
#[derive(Debug)]
pub struct PreparedShards {
    polls: Vec<Poll>,
    mailboxes: Vec<Arc<Mailbox>>,
    metrics: Vec<Arc<Metrics>>,
    limits: Limits,
}

/// Makes the event queues, mailboxes and metrics of `count` shards.
///
/// # Errors
/// When an epoll instance or its waker cannot be made.
pub fn prepare(count: usize, limits: Limits) -> io::Result<PreparedShards> {
    let polls = (0..count).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let mailboxes = polls
        .iter()
        .map(|poll| Ok(Arc::new(Mailbox::new(mailbox::waker(poll, WAKER)?, limits.mailbox))))
        .collect::<io::Result<Vec<_>>>()?;
    let metrics = (0..count).map(|_| Arc::default()).collect();
    Ok(PreparedShards { polls, mailboxes, metrics, limits })
}

impl PreparedShards {
    /// The mailbox of each shard.
    pub fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// The metrics of each shard.
    pub fn metrics(&self) -> &[Arc<Metrics>] {
        &self.metrics
    }

    /// Starts a thread for each shard; it ends after [`Mailbox::stop`]. With a porter, a connection to the line port may
    /// begin with a TLS handshake.
    ///
    /// # Errors
    /// When a thread cannot be started; those that were started are stopped.
    pub fn start(
        self,
        settings: &Arc<Settings>,
        control: &Arc<dyn Control>,
        porter: Option<&Arc<dyn TlsHandoff>>,
        process: &Arc<Process>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let Self { polls, mailboxes, metrics, limits } = self;
        let shards = u32::try_from(polls.len()).map_err(io::Error::other)?;
        let mut threads = Vec::with_capacity(polls.len());
        for (index, (poll, metrics)) in (0..).zip(polls.into_iter().zip(metrics)) {
            let shard = Shard {
                index: index as usize,
                poll,
                hub: Hub::new(Arc::clone(settings), index, shards),
                conns: Vec::new(),
                fx: Effects::default(),
                scratch: vec![0; SCRATCH].into(),
                mailbox: Arc::clone(&mailboxes[index as usize]),
                peers: mailboxes.clone(),
                control: Arc::clone(control),
                porter: porter.cloned(),
                wheel: Wheel::new(),
                ready: VecDeque::new(),
                listeners: Vec::new(),
                limits: limits.clone(),
                metrics,
                process: Arc::clone(process),
                addresses: HashMap::new(),
                clients: HashMap::new(),
                began: Instant::now(),
                batches: Batches::new(Deflater::new(limits.compression_level, limits.compression_min_size)),
                spare: Vec::new(),
                later: Vec::new(),
                reads: Reads::new(limits.reads.max(limits.queue), limits.queue),
                has_published: false,
                accept_due: false,
                starved: false,
                drain: None,
            };
            let spawned =
                std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run());
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    mailboxes.iter().for_each(|mailbox| mailbox.stop());
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }
}

/// The time in Unix seconds.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What a shard's timers are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    Session(SessionId, Timer),
    /// The connection has had its time to flush or to close.
    Close(SessionId),
    /// Accept again.
    Accept,
    /// The next step of the drain.
    Drain,
    /// The session is to reconnect elsewhere, if the broker is still away.
    Move(SessionId),
    /// The connection is ended if it still takes no answers while there is no room for others'.
    Unread(SessionId),
}

/// A listener, and whether to accept from it again without an event.
pub(crate) struct Door {
    pub(crate) listener: Listener,
    pub(crate) again: bool,
}

pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) poll: Poll,
    pub(crate) hub: Hub,
    pub(crate) conns: Vec<Option<Conn>>,
    pub(crate) fx: Effects,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// All shards' mailboxes, this one's too: accepted connections go round.
    pub(crate) peers: Vec<Arc<Mailbox>>,
    pub(crate) control: Arc<dyn Control>,
    /// Does the TLS handshakes, where TLS is configured.
    pub(crate) porter: Option<Arc<dyn TlsHandoff>>,
    pub(crate) wheel: Wheel<Due>,
    /// Connections to read from without waiting for an event.
    pub(crate) ready: VecDeque<Slot>,
    pub(crate) listeners: Vec<Door>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) process: Arc<Process>,
    pub(crate) began: Instant,
    pub(crate) batches: Batches,
    pub(crate) spare: Vec<ShardMessage>,
    pub(crate) later: Vec<ShardMessage>,
    /// Requests whose answers can be large.
    pub(crate) reads: Reads,
    /// The session being read has published.
    pub(crate) has_published: bool,
    /// A timer to accept again is running.
    pub(crate) accept_due: bool,
    /// Under which addresses connections are counted, where they are.
    pub(crate) addresses: HashMap<Slot, Key>,
    /// Addresses of clients behind trusted proxies.
    pub(crate) clients: HashMap<Slot, IpAddr>,
    /// Accepting fails, and that has been logged.
    pub(crate) starved: bool,
    /// The drain that is under way.
    pub(crate) drain: Option<Drain>,
}

/// Ends the process when a shard panics: otherwise it would report that it is ready, with a part of its connections
/// dead.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a shard has panicked; the process ends");
            std::process::exit(1);
        }
    }
}

impl Shard {
    fn run(mut self) {
        let _alarm = Alarm;
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Vec::new();
        while !self.mailbox.is_stopping() {
            let wait = self.may_wait();
            if let Err(error) = self.poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, shard = self.index, "epoll failed; the shard ends");
                return;
            }
            self.mailbox.woke();
            self.hub.set_time(unix_time());
            self.hub.set_clock(self.process.clock.nanos());
            // Messages first: what was published before a client unsubscribed still reaches it.
            self.receive_messages();
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(t) if t > LISTENERS - 1024 => self.accept(LISTENERS - t),
                    Token(slot) => {
                        let slot = Slot::from_index(slot);
                        if event.is_writable() {
                            self.writable(slot);
                        }
                        if event.is_error() {
                            // Reset by the peer: nothing can be read or written any more.
                            self.lose(slot);
                        } else if event.is_readable() || event.is_read_closed() {
                            self.readable(slot, event.is_read_closed());
                        }
                    }
                }
            }
            self.receive_messages();
            self.read_ready();
            self.wheel.expire(self.now(), &mut due);
            for what in due.drain(..) {
                self.fire(what);
            }
            self.metrics.take_in(&self.hub.stats(), &self.hub.protocols.stats(), self.batches.deflated());
            self.metrics.take_in_reads(&self.reads);
        }
    }

    /// How long to wait for events: not at all while there is something to do.
    fn may_wait(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            // Only publishers rest with work left, and only while others catch up.
            return Some(if self.control.congested() { NAP } else { Duration::ZERO });
        }
        if !self.mailbox.may_sleep() {
            return Some(Duration::ZERO);
        }
        self.wheel.wait(self.now()).map(Duration::from_millis)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn start(&mut self, after: Duration, what: Due) {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX >> 1);
        self.wheel.start(self.now(), after, what);
    }

    /// Takes the messages of the mailbox. Publications go first: so several of one topic are joined although responses
    /// are between them, and a session that ends after a response has got what was published before it.
    fn receive_messages(&mut self) {
        let Taken { mut mail, gaps, bytes } = self.mailbox.take(std::mem::take(&mut self.spare));
        let mut later = std::mem::take(&mut self.later);
        for mail in mail.drain(..) {
            match mail {
                ShardMessage::Deliver(delivery) => self.batches.add(&self.hub, delivery),
                // Publications before a confirmation must be sent before it.
                ShardMessage::Live(topic) => {
                    self.fan_out();
                    self.handle_messages(&mut later);
                    self.hub.live(&topic, &mut self.fx);
                    self.apply_effects();
                }
                other => later.push(other),
            }
        }
        self.fan_out();
        self.mailbox.release(bytes);
        self.handle_messages(&mut later);
        for (topic, missed) in gaps {
            add(&self.metrics.overrun, missed);
            self.announce_gap(&topic, missed);
        }
        mail.shrink_to(SPARE_MAIL);
        later.shrink_to(SPARE_MAIL);
        self.spare = mail;
        self.later = later;
    }

    /// Handles the messages that are no publications.
    fn handle_messages(&mut self, mail: &mut Vec<ShardMessage>) {
        for mail in mail.drain(..) {
            match mail {
                ShardMessage::Deliver(_) | ShardMessage::Live(_) => unreachable!("sorted out before"),
                ShardMessage::Refused(topic, failure, first) => {
                    self.hub.refused(&topic, &failure, first, &mut self.fx);
                }
                ShardMessage::Away(topic) => self.hub.away(&topic, &mut self.fx),
                ShardMessage::Stranded(topic, over) => self.strand(&topic, over),
                ShardMessage::BrokerDown => self.hub.broker_down(&mut self.fx),
                ShardMessage::Response(id, ticket, answer) => {
                    self.hub.respond(id, ticket, answer, &mut self.fx);
                    if self.reads.ended(id, ticket) {
                        // What was reserved is queued by now, so the next one is begun only if its peer takes answers.
                        self.apply_effects();
                        self.begin_reads();
                    }
                }
                ShardMessage::Connection(socket) => self.take_over(socket),
                ShardMessage::Arrival(arrival) => self.adopt_arrival(*arrival),
                ShardMessage::Input(id, commands) => {
                    let flow = tidings_session::commands(&mut self.hub, id, &commands, &mut self.fx);
                    self.apply_flow(id.slot, flow);
                }
                ShardMessage::Order(directive) => self.hub.order(&directive, &mut self.fx),
                ShardMessage::Changed(change) => {
                    self.hub.changed(&change.channel, change.joined, &change.info, &mut self.fx);
                }
                ShardMessage::Lost(topic) => self.hub.lost(&topic, &mut self.fx),
                ShardMessage::Listen(listener) => self.listen(listener),
                ShardMessage::Drain(over) => self.begin_drain(over),
            }
            self.apply_effects();
        }
    }

    pub(crate) fn fire(&mut self, what: Due) {
        match what {
            Due::Session(id, timer) => {
                self.hub.expired(id, timer, &mut self.fx);
                self.apply_effects();
            }
            Due::Close(id) => {
                let ended = self.conns.get(id.slot.index()).and_then(Option::as_ref);
                if self.hub.is_current(id) && ended.is_some_and(|c| c.phase != Phase::Open) {
                    self.lose(id.slot);
                }
            }
            Due::Accept => {
                self.accept_due = false;
                for index in 0..self.listeners.len() {
                    if std::mem::take(&mut self.listeners[index].again) {
                        self.accept(index);
                    }
                }
            }
            Due::Drain => self.drain_step(),
            Due::Move(id) => self.move_on(id),
            Due::Unread(id) => self.end_unread(id),
        }
    }

    /// Carries out the effects of the hub, and those that follow from them.
    pub(crate) fn apply_effects(&mut self) {
        let mut next = 0;
        while next < self.fx.list.len() {
            let effect = std::mem::replace(&mut self.fx.list[next], Effect::Close(Slot::NONE));
            next += 1;
            match effect {
                Effect::Send(slot, range) => self.send_control(slot, range),
                Effect::Opened(slot) => self.open_stream(slot),
                Effect::Refused { slot, status, error } => self.refuse_stream(slot, status, error),
                Effect::Close(slot) => self.close(slot),
                Effect::Resume(slot) => self.resume(slot),
                Effect::Start(id, timer, after) => self.start(after, Due::Session(id, timer)),
                Effect::SubscribeTopic(topic) => {
                    let (state, count) = self.control.subscribe_topic(self.index, &topic);
                    self.hub.interest(&topic, state, count, &mut self.fx);
                }
                Effect::UnsubscribeTopic(topic) => self.control.unsubscribe_topic(self.index, &topic),
                Effect::Request(session, ticket, request) => {
                    self.has_published |= matches!(request, Request::Publish(..));
                    match request.reserves(self.limits.queue) {
                        Some(bytes) => self.read_for(Read { session, ticket, request, bytes }),
                        None => self.request(session, ticket, request),
                    }
                }
                Effect::Notify(note) => self.control.notify(note),
            }
        }
        self.fx.clear();
    }

    /// Has a request carried out.
    fn request(&self, session: SessionId, ticket: u32, request: Request) {
        let peer = match request {
            Request::Decide(_) => self.client_address(session.slot),
            _ => None,
        };
        let reply = Reply { mailbox: Arc::clone(&self.mailbox), session, ticket, peer };
        self.control.request(request, reply);
    }

    /// The address of a connection's client, where it is known.
    fn client_address(&self, slot: Slot) -> Option<IpAddr> {
        let conn = self.conns.get(slot.index()).and_then(Option::as_ref)?;
        let peer = conn.socket.peer().filter(|peer| !self.process.addresses.is_proxy(*peer));
        peer.or_else(|| self.clients.get(&slot).copied())
    }

    /// Has a request carried out whose response can be large, as soon as there is room for it. It fails at once when all
    /// queues together are full, because the wait could be long.
    fn read_for(&mut self, read: Read) {
        let full = self.process.queued.load(Ordering::Relaxed) >= self.limits.queues;
        let refused = if full {
            self.reads.refused += 1;
            Some(read)
        } else {
            self.reads.enter(read).err()
        };
        if let Some(read) = refused {
            let text = "too many requests: too many answers wait to be read; try again later";
            let code::Code { number, .. } = code::TOO_MANY_REQUESTS;
            let verdict = Rejection { code: number, text: text.to_owned(), temporary: true };
            self.hub.respond(read.session, read.ticket, Response::Failed(verdict.into()), &mut self.fx);
        }
        self.begin_reads();
    }

    /// Begins the reads that there is room for.
    pub(crate) fn begin_reads(&mut self) {
        let (hub, conns) = (&self.hub, &self.conns);
        let peer = |session: SessionId| {
            let conn = conns.get(session.slot.index()).and_then(Option::as_ref);
            match conn.filter(|conn| hub.is_current(session) && conn.phase == Phase::Open) {
                None => Peer::Gone,
                Some(conn) if conn.control_backlog() > BACKLOG => Peer::Behind,
                Some(_) => Peer::Ready,
            }
        };
        let mut begun = Vec::new();
        while let Some(read) = self.reads.begin(peer) {
            begun.push(read);
        }
        for Read { session, ticket, request, .. } in begun {
            self.request(session, ticket, request);
        }
    }
}
