//! The event loop: events, messages, timers, and the effects of the hub. Accepting, reading, writing and draining are
//! in [`crate::accept`], [`crate::reading`], [`crate::writing`] and [`crate::drain`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll, Token};
use tidings_hub::{Rejection, SessionId, Settings, Slot, Timer};
use tidings_session::{Effect, Effects, Request, Response};
use tidings_session::{Hub, ProtocolSettings, Protocols};
use tidings_wire::code;
use tidings_wire::ws::deflate::Deflater;

use crate::address::AddressKey;
use crate::conn::{Conn, Phase};
use crate::control::{Control, Handoffs, Reply};
use crate::drain::Drain;
use crate::end_log::EndLog;
use crate::fanout::Batches;
use crate::limits::Limits;
use crate::mailbox::{self, Mailbox, MailboxContent, ShardMessage};
use crate::metrics::{Metrics, Recorded, add};
use crate::process::Process;
use crate::read_scheduler::{PeerState, PendingRead, ReadScheduler};
use crate::rebalance::{Rebalance, SessionAges};
use crate::socket::Listener;
use crate::streams::HeldDeliveries;
use crate::wheel::Wheel;

/// Most bytes per read from a socket.
pub(crate) const SCRATCH: usize = 16 * 1024;
/// Unread responses of a peer, in bytes, beyond which it is not read from.
pub(crate) const BACKLOG: usize = 64 * 1024;
/// Most events per poll.
const EVENTS: usize = 1024;
/// Number of messages for which memory is kept between iterations.
const SPARE_MESSAGES: usize = 1 << 12;
/// How long publishers are not read from while mailboxes are congested.
const CONGESTED_WAIT: Duration = Duration::from_millis(1);
/// Shorter timers are never late, in milliseconds.
const MIN_SLACK: u64 = 2_000;

const WAKER: Token = Token(usize::MAX);
/// The token of the first listener; further listeners have descending tokens.
pub(crate) const LISTENERS: usize = usize::MAX - 1;

/// Shards with mailboxes and metrics, but without threads, so that components that a shard calls can be constructed
/// with its mailbox.
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
/// If an epoll instance or its waker cannot be created.
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

    /// Starts a thread for each shard; it ends after [`Mailbox::stop`]. With [`Handoffs::tls`], a connection of the line
    /// port may begin with a TLS handshake.
    ///
    /// # Errors
    /// If a thread cannot be started. Threads that were started are stopped.
    pub fn start(
        self,
        settings: &Arc<Settings>,
        protocols: &Arc<ProtocolSettings>,
        control: &Arc<dyn Control>,
        handoffs: &Handoffs,
        process: &Arc<Process>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let Self { polls, mailboxes, metrics, limits } = self;
        let shards = u32::try_from(polls.len()).map_err(io::Error::other)?;
        let mut threads = Vec::with_capacity(polls.len());
        for (index, (poll, metrics)) in (0..).zip(polls.into_iter().zip(metrics)) {
            let shard = Shard {
                index: index as usize,
                poll,
                hub: Hub::new(Arc::clone(settings), Protocols::new(Arc::clone(protocols)), index, shards)
                    .with_namespace_table(Arc::clone(&metrics.namespaces))
                    .with_traces(Arc::clone(&process.traces)),
                conns: Vec::new(),
                since: Vec::new(),
                fx: Effects::default(),
                scratch: vec![0; SCRATCH].into(),
                mailbox: Arc::clone(&mailboxes[index as usize]),
                mailboxes: mailboxes.clone(),
                control: Arc::clone(control),
                handoffs: handoffs.clone(),
                wheel: Wheel::new(),
                ready: VecDeque::new(),
                listeners: Vec::new(),
                ages: SessionAges::new(limits.move_age),
                rebalance: None,
                rebalance_serial: 0,
                limits: limits.clone(),
                metrics,
                recorded: Recorded::default(),
                process: Arc::clone(process),
                addresses: HashMap::new(),
                clients: HashMap::new(),
                held_deliveries: HashMap::new(),
                ends: EndLog::default(),
                began: Instant::now(),
                batches: Batches::new(Deflater::new(limits.compression_level, limits.compression_min_size)),
                spare_messages: Vec::new(),
                deferred: Vec::new(),
                reads: ReadScheduler::new(limits.reads.max(limits.queue), limits.queue),
                has_published: false,
                accept_due: false,
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

/// The time since 1970.
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The timers of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimerEvent {
    Session(SessionId, Timer),
    /// The time of the connection to flush or to close has passed.
    Close(SessionId),
    /// Accept again.
    Accept,
    /// Execute the next step of the drain.
    Drain,
    /// Execute the next step of rebalancing, with this serial number.
    Rebalance(u32),
    /// Disconnect the session if the broker is still unavailable, so that it connects to another node.
    Failover(SessionId),
    /// Check a connection with unread responses.
    CheckUnread(SessionId),
}

/// A listener, and whether to accept from it again without an event.
pub(crate) struct ListenerState {
    pub(crate) listener: Listener,
    pub(crate) again: bool,
}

pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) poll: Poll,
    pub(crate) hub: Hub,
    pub(crate) conns: Vec<Option<Conn>>,
    /// When each connection began, in seconds since the start of the shard. Beside `conns`, because an entry there has no
    /// room left.
    pub(crate) since: Vec<u32>,
    pub(crate) fx: Effects,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// The mailboxes of all shards, including this one: accepted connections are distributed in turn.
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    pub(crate) control: Arc<dyn Control>,
    /// Take connections of the line port for TLS handshakes and PROXY headers.
    pub(crate) handoffs: Handoffs,
    pub(crate) wheel: Wheel<TimerEvent>,
    /// Connections to read from without waiting for an event.
    pub(crate) ready: VecDeque<Slot>,
    pub(crate) listeners: Vec<ListenerState>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    recorded: Recorded,
    pub(crate) process: Arc<Process>,
    pub(crate) began: Instant,
    pub(crate) batches: Batches,
    pub(crate) spare_messages: Vec<ShardMessage>,
    pub(crate) deferred: Vec<ShardMessage>,
    /// Requests with large responses.
    pub(crate) reads: ReadScheduler,
    /// Whether the session that is being read from has published.
    pub(crate) has_published: bool,
    /// Whether the timer to accept again is running.
    pub(crate) accept_due: bool,
    /// The addresses of counted connections.
    pub(crate) addresses: HashMap<Slot, AddressKey>,
    /// Addresses of clients behind trusted proxies, as the proxies state them.
    pub(crate) clients: HashMap<Slot, IpAddr>,
    /// Publications of streams whose clients have much to read.
    pub(crate) held_deliveries: HeldDeliveries,
    /// What the log line of a connection's end contains.
    pub(crate) ends: EndLog,
    /// The drain in progress.
    pub(crate) drain: Option<Drain>,
    /// The clients that are being moved to other nodes.
    pub(crate) rebalance: Option<Rebalance>,
    pub(crate) rebalance_serial: u32,
    pub(crate) ages: SessionAges,
}

/// Ends the process when a shard panics. Otherwise the process would report that it is ready, without some of its
/// connections.
struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a shard has panicked; the process ends");
            std::process::exit(1);
        }
    }
}

impl Shard {
    fn run(mut self) {
        let _exit_on_panic = ExitOnPanic;
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Vec::new();
        while !self.mailbox.is_stopping() {
            let wait = self.poll_timeout();
            if let Err(error) = self.poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, shard = self.index, "epoll failed; the shard ends");
                return;
            }
            self.mailbox.set_awake();
            self.hub.set_time(unix_time());
            self.hub.set_clock(self.process.clock.nanos());
            // Messages first, so that publications before an unsubscribe still reach the client.
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
                            // Reset by the peer: reads and writes would fail.
                            self.disconnect(slot);
                        } else if event.is_readable() || event.is_read_closed() {
                            self.readable(slot, event.is_read_closed());
                        }
                    }
                }
            }
            self.receive_messages();
            self.read_ready();
            self.wheel.expire(self.now(), &mut due);
            for event in due.drain(..) {
                self.on_timer(event);
            }
            self.metrics.record_stats(&self.hub, self.batches.deflated(), &mut self.recorded);
            self.metrics.record_reads(&self.reads);
        }
    }

    /// How long to wait for events; zero while there is work.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            // Only publishers are left, and they are read from when mailboxes are no longer congested.
            return Some(if self.control.congested() { CONGESTED_WAIT } else { Duration::ZERO });
        }
        if !self.mailbox.may_sleep() {
            return Some(Duration::ZERO);
        }
        self.wheel.wait(self.now()).map(Duration::from_millis)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn start(&mut self, after: Duration, event: TimerEvent) {
        let (now, after) = (self.now(), u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        match event {
            // Each connection has one, most expire without an effect, and a late one does no harm.
            TimerEvent::Session(_, Timer::FirstInput | Timer::Stale) if after >= MIN_SLACK => {
                self.wheel.start_with_slack(now, after, event);
            }
            _ => self.wheel.start(now, after, event),
        }
    }

    /// Handles the messages of the mailbox, publications first. So publications of one topic are joined across other
    /// messages, and a session that ends because of a response has received the publications before it.
    fn receive_messages(&mut self) {
        let Some(content) = self.mailbox.take(&mut self.spare_messages) else { return };
        let MailboxContent { mut messages, gaps, bytes } = content;
        let mut deferred = std::mem::take(&mut self.deferred);
        for message in messages.drain(..) {
            match message {
                ShardMessage::Deliver(delivery) => self.batches.add(&self.hub, delivery),
                // Publications before the confirmation must be sent before it.
                ShardMessage::Live(topic) => {
                    self.fan_out();
                    self.handle_messages(&mut deferred);
                    self.hub.on_topic_live(&topic, &mut self.fx);
                    self.apply_effects();
                }
                ShardMessage::OrderedResponse(id, ticket, response) => {
                    self.fan_out();
                    self.handle_messages(&mut deferred);
                    self.hub.respond(id, ticket, response, &mut self.fx);
                    self.apply_effects();
                }
                ShardMessage::Parked(id) => {
                    self.fan_out();
                    self.handle_messages(&mut deferred);
                    tidings_session::parked(&mut self.hub, id, &mut self.fx);
                    self.apply_effects();
                }
                other => deferred.push(other),
            }
        }
        self.fan_out();
        self.mailbox.release(bytes);
        self.handle_messages(&mut deferred);
        for (topic, missed) in gaps {
            add(&self.metrics.overrun, missed);
            self.announce_gap(&topic, missed);
        }
        messages.shrink_to(SPARE_MESSAGES);
        deferred.shrink_to(SPARE_MESSAGES);
        self.spare_messages = messages;
        self.deferred = deferred;
    }

    /// Handles messages that are not publications.
    fn handle_messages(&mut self, messages: &mut Vec<ShardMessage>) {
        for message in messages.drain(..) {
            match message {
                ShardMessage::Deliver(_)
                | ShardMessage::Live(_)
                | ShardMessage::OrderedResponse(..)
                | ShardMessage::Parked(_) => unreachable!("sorted out before"),
                ShardMessage::Refused(topic, failure, first) => {
                    self.hub.on_topic_refused(&topic, &failure, first, &mut self.fx);
                }
                ShardMessage::Away(topic) => {
                    self.rebalance = None;
                    self.hub.on_topic_unavailable(&topic, &mut self.fx);
                }
                ShardMessage::Failover(topic, over) => self.schedule_failover(&topic, over),
                ShardMessage::BrokerDown => {
                    self.rebalance = None;
                    self.hub.on_broker_down(&mut self.fx);
                }
                ShardMessage::Response(id, ticket, response) => {
                    self.hub.respond(id, ticket, response, &mut self.fx);
                    if self.reads.finish(id, ticket) {
                        // The response is queued now, so the next read starts only if the peer reads its responses.
                        self.apply_effects();
                        self.start_reads();
                    }
                }
                ShardMessage::DeliverShared(id, delivery) => self.deliver_shared(id, delivery),
                ShardMessage::SharedLost(id) => self.end_slow(id),
                ShardMessage::MessagesWaiting(id) => {
                    tidings_session::messages_waiting(&mut self.hub, id, &mut self.fx);
                }
                ShardMessage::Connection(connection) => self.accept_line_connection(connection),
                ShardMessage::Arrival(arrival) => self.adopt_arrival(*arrival),
                ShardMessage::Ready(id) => self.pipe_ready(id),
                ShardMessage::Input(id, commands) => {
                    let flow = tidings_session::commands(&mut self.hub, id, &commands, &mut self.fx);
                    self.apply_flow(id.slot, flow);
                }
                ShardMessage::SessionCommand(command) => {
                    self.hub.apply_session_command(&command, &mut self.fx);
                }
                ShardMessage::Changed(change) => {
                    self.hub.on_presence_change(&change.channel, change.joined, &change.info, &mut self.fx);
                }
                ShardMessage::SubscriptionCounts(counts) => {
                    tidings_session::subscription_counts(&mut self.hub, &counts, &mut self.fx);
                }
                ShardMessage::Stream(delivery) => self.deliver_stream(*delivery),
                ShardMessage::Poll(delivery) => self.fan_out_poll(*delivery),
                ShardMessage::PollEnded(channel, id) => {
                    let end = (code::INSUFFICIENT_STATE.number, code::INSUFFICIENT_STATE.text);
                    self.hub.end_poll(id, &channel, end, &mut self.fx);
                }
                ShardMessage::Lost(topic) => self.hub.on_publications_lost(&topic, &mut self.fx),
                ShardMessage::Listen(listener) => self.listen(listener),
                ShardMessage::Drain(over) => self.begin_drain(over),
                ShardMessage::Survey(survey) => self.survey(*survey),
                ShardMessage::Rebalance(clients, over) => self.begin_rebalance(clients, over),
                ShardMessage::Reconfigure(settings) => self.reconfigure(&settings),
            }
            self.apply_effects();
        }
    }

    pub(crate) fn on_timer(&mut self, event: TimerEvent) {
        match event {
            TimerEvent::Session(id, timer) => {
                self.hub.expired(id, timer, &mut self.fx);
                self.apply_effects();
            }
            TimerEvent::Close(id) => {
                let ended = self.conns.get(id.slot.index()).and_then(Option::as_ref);
                if self.hub.is_current(id) && ended.is_some_and(|c| c.phase != Phase::Open) {
                    self.disconnect(id.slot);
                }
            }
            TimerEvent::Accept => {
                self.accept_due = false;
                for index in 0..self.listeners.len() {
                    if std::mem::take(&mut self.listeners[index].again) {
                        self.accept(index);
                    }
                }
            }
            TimerEvent::Drain => self.drain_step(),
            TimerEvent::Rebalance(serial) => self.rebalance_step(serial),
            TimerEvent::Failover(id) => self.fail_over(id),
            TimerEvent::CheckUnread(id) => self.end_unread_connection(id),
        }
    }

    /// Executes the effects of the hub, including those that they cause.
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
                Effect::Start(id, timer, after) => self.start(after, TimerEvent::Session(id, timer)),
                Effect::SubscribeTopic(topic) => {
                    let (state, count) = self.control.subscribe_topic(self.index, &topic);
                    self.hub.on_topic_state(&topic, state, count, &mut self.fx);
                }
                Effect::UnsubscribeTopic(topic) => self.control.unsubscribe_topic(self.index, &topic),
                Effect::Request(session, ticket, request) => {
                    self.has_published |= matches!(request, Request::Publish(..));
                    match request.reserves(self.limits.queue) {
                        Some(bytes) => self.schedule_read(PendingRead { session, ticket, request, bytes }),
                        None => self.request(session, ticket, request),
                    }
                }
                Effect::Notify(note) => self.control.notify(note),
            }
        }
        self.fx.clear();
    }

    /// Passes a request to the control plane.
    fn request(&self, session: SessionId, ticket: u32, request: Request) {
        let peer = match request {
            Request::Authorize(_) => self.client_address(session.slot),
            _ => None,
        };
        let reply = Reply { mailbox: Arc::clone(&self.mailbox), session, ticket, peer };
        self.control.request(request, reply);
    }

    /// The address of a connection's client, if it is known.
    pub(crate) fn client_address(&self, slot: Slot) -> Option<IpAddr> {
        let conn = self.conns.get(slot.index()).and_then(Option::as_ref)?;
        let stated = self.clients.get(&slot).copied();
        stated.or_else(|| conn.socket.peer())
    }

    /// Schedules a request with a large response. It fails at once if all queues together are full, because the wait
    /// could be long.
    fn schedule_read(&mut self, read: PendingRead) {
        let full = self.process.queued.load(Ordering::Relaxed) >= self.limits.queues;
        let refused = if full {
            self.reads.refused += 1;
            Some(read)
        } else {
            self.reads.enqueue(read).err()
        };
        if let Some(read) = refused {
            let text = "too many requests: too many answers wait to be read; try again later";
            let code::Code { number, .. } = code::TOO_MANY_REQUESTS;
            let rejection = Rejection { code: number, text: text.to_owned(), temporary: true };
            self.hub.respond(read.session, read.ticket, Response::Failed(rejection.into()), &mut self.fx);
        }
        self.start_reads();
    }

    /// Starts the reads that fit into the reservations.
    pub(crate) fn start_reads(&mut self) {
        let (hub, conns) = (&self.hub, &self.conns);
        let peer = |session: SessionId| {
            let conn = conns.get(session.slot.index()).and_then(Option::as_ref);
            match conn.filter(|conn| hub.is_current(session) && conn.phase == Phase::Open) {
                None => PeerState::Closed,
                Some(conn) if conn.control_backlog() > BACKLOG => PeerState::Unread,
                Some(_) => PeerState::Ready,
            }
        };
        let mut begun = Vec::new();
        while let Some(read) = self.reads.start_next(peer) {
            begun.push(read);
        }
        for PendingRead { session, ticket, request, .. } in begun {
            self.request(session, ticket, request);
        }
    }
}
