//! The loop: events, mail, timers, and what the hub wants done about them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Poll, Token};
use tidings_hub::{Effect, Effects, Ending, Flow, Hub, Request, SessionId, Settings, Timer};

use crate::conn::{Conn, Phase};
use crate::control::{Control, Reply};
use crate::fanout::Batches;
use crate::mailbox::{self, Mail, Mailbox, Taken};
use crate::metrics::{Metrics, Process, add, sub};
use crate::queue::{Flushed, Queue};
use crate::socket::{Listener, Socket};
use crate::wheel::Wheel;

/// Bytes read from a socket at once.
const SCRATCH: usize = 16 * 1024;
/// Bytes read from one connection before it is the others' turn.
const TURN: usize = 4 * SCRATCH;
/// Bytes of answers a peer may leave unread before it is not read from.
const BACKLOG: usize = 64 * 1024;
/// Events taken at once.
const EVENTS: usize = 1024;
/// Connections accepted before it is the others' turn.
const ACCEPTS: usize = 256;
/// Mail for which memory is kept between turns.
const SPARE_MAIL: usize = 1 << 12;
/// How long a listener rests when the process is out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long publishers rest when mailboxes are congested.
const NAP: Duration = Duration::from_millis(1);
/// How long an ended connection may take to close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Clients told to go elsewhere at least, per step of a drain.
const DRAIN_LEAST: usize = 100;
/// Length of a step of a drain.
const DRAIN_STEP: Duration = Duration::from_millis(50);

const WAKER: Token = Token(usize::MAX);
/// The first listener's token; the next ones follow downwards.
const LISTENERS: usize = usize::MAX - 1;

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
    /// How long an ended connection may take to read what is left for it.
    pub close_delay: Duration,
}

impl Limits {
    /// What a queue that takes `mine` bytes may take now that all of them take `all`: when all together are full,
    /// every one of them counts as full.
    pub(crate) fn queue_bound(&self, mine: usize, all: usize) -> usize {
        self.queue.min((self.queues + mine).saturating_sub(all))
    }
}

/// A running shard.
#[derive(Debug)]
pub struct Handle {
    /// How to reach it.
    pub mailbox: Arc<Mailbox>,
    /// Its numbers.
    pub metrics: Arc<Metrics>,
    /// Its thread, which ends after [`Mailbox::stop`].
    pub thread: JoinHandle<()>,
}

/// Starts `count` shards.
///
/// # Errors
/// When a thread or an epoll instance cannot be made.
pub fn spawn(
    count: usize,
    settings: &Arc<Settings>,
    limits: &Limits,
    control: &Arc<dyn Control>,
    process: &Arc<Process>,
) -> io::Result<Vec<Handle>> {
    let polls = (0..count).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let mailboxes = polls
        .iter()
        .map(|poll| Ok(Arc::new(Mailbox::new(mailbox::waker(poll, WAKER)?, limits.mailbox))))
        .collect::<io::Result<Vec<_>>>()?;
    let shards = u32::try_from(count).map_err(io::Error::other)?;
    let mut handles = Vec::with_capacity(count);
    for (index, poll) in (0..).zip(polls) {
        let metrics = Arc::new(Metrics::default());
        let mailbox = Arc::clone(&mailboxes[index as usize]);
        let shard = Shard {
            index: index as usize,
            poll,
            hub: Hub::new(Arc::clone(settings), index, shards),
            conns: Vec::new(),
            fx: Effects::default(),
            scratch: vec![0; SCRATCH].into(),
            mailbox: Arc::clone(&mailbox),
            peers: mailboxes.clone(),
            next_peer: 0,
            control: Arc::clone(control),
            wheel: Wheel::new(),
            ready: VecDeque::new(),
            listeners: Vec::new(),
            limits: limits.clone(),
            metrics: Arc::clone(&metrics),
            process: Arc::clone(process),
            began: Instant::now(),
            batches: Batches::default(),
            spare: Vec::new(),
            later: Vec::new(),
            has_published: false,
            accept_due: false,
            starved: false,
            drain: None,
        };
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run())?;
        handles.push(Handle { mailbox, metrics, thread });
    }
    Ok(handles)
}

/// What a shard's timers are for.
#[derive(Clone, Copy, Debug)]
enum Due {
    Session(SessionId, Timer),
    /// The connection has had its time to flush or to close.
    Close(SessionId),
    /// Accept again.
    Accept,
    /// The next step of the drain.
    Drain,
}

/// A listener, and whether it is to be asked again without an event.
struct Door {
    listener: Listener,
    again: bool,
}

pub(crate) struct Shard {
    index: usize,
    poll: Poll,
    pub(crate) hub: Hub,
    pub(crate) conns: Vec<Option<Conn>>,
    pub(crate) fx: Effects,
    scratch: Box<[u8]>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// All shards' mailboxes, this one's too: accepted connections go round.
    peers: Vec<Arc<Mailbox>>,
    next_peer: usize,
    control: Arc<dyn Control>,
    wheel: Wheel<Due>,
    /// Connections to read from without waiting for an event.
    ready: VecDeque<u32>,
    listeners: Vec<Door>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) process: Arc<Process>,
    began: Instant,
    pub(crate) batches: Batches,
    spare: Vec<Mail>,
    later: Vec<Mail>,
    /// The session being read has published.
    has_published: bool,
    /// A timer to accept again is running.
    accept_due: bool,
    /// Accepting fails, and that has been logged.
    starved: bool,
    /// Sessions still to be told to go, and how many a step.
    drain: Option<(Vec<u32>, usize)>,
}

impl Shard {
    fn run(mut self) {
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
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(t) if t > LISTENERS - 1024 => self.accept(LISTENERS - t),
                    Token(slot) => {
                        let slot = u32::try_from(slot).expect("tokens of connections are slots");
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
            self.open_mail();
            self.read_ready();
            self.wheel.expire(self.now(), &mut due);
            for what in due.drain(..) {
                self.fire(what);
            }
            self.metrics.take_in(&self.hub.stats());
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

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn start(&mut self, after: Duration, what: Due) {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX >> 1);
        self.wheel.start(self.now(), after, what);
    }

    /// Takes what waits in the mailbox. Publications go first: so several of one topic are joined although answers
    /// came between them, and a session that leaves after an answer has had what was published before it.
    fn open_mail(&mut self) {
        let Taken { mut mail, gaps, bytes } = self.mailbox.take(std::mem::take(&mut self.spare));
        let mut later = std::mem::take(&mut self.later);
        for mail in mail.drain(..) {
            match mail {
                Mail::Deliver(delivery) => self.batches.add(&self.hub, delivery),
                // What was published before a confirmation may not come after it.
                Mail::Live(topic) => {
                    self.fan_out();
                    self.read_mail(&mut later);
                    self.hub.live(&topic, &mut self.fx);
                    self.settle();
                }
                other => later.push(other),
            }
        }
        self.fan_out();
        self.mailbox.release(bytes);
        self.read_mail(&mut later);
        for (topic, missed) in gaps {
            add(&self.metrics.overrun, missed);
            self.announce_gap(&topic, missed);
        }
        mail.shrink_to(SPARE_MAIL);
        later.shrink_to(SPARE_MAIL);
        self.spare = mail;
        self.later = later;
    }

    /// Reads what is not a publication.
    fn read_mail(&mut self, mail: &mut Vec<Mail>) {
        for mail in mail.drain(..) {
            match mail {
                Mail::Deliver(_) | Mail::Live(_) => unreachable!("sorted out before"),
                Mail::Refused(topic, why) => self.hub.refused(&topic, &why, &mut self.fx),
                Mail::BrokerDown => self.hub.broker_down(&mut self.fx),
                Mail::Answer(id, ticket, answer) => self.hub.answer(id, ticket, answer, &mut self.fx),
                Mail::Connection(socket) => self.take_over(socket),
                Mail::Listen(listener) => self.listen(listener),
                Mail::Drain(over) => self.begin_drain(over),
            }
            self.settle();
        }
    }

    fn listen(&mut self, mut listener: Listener) {
        let token = Token(LISTENERS - self.listeners.len());
        match listener.register(self.poll.registry(), token) {
            Ok(()) => self.listeners.push(Door { listener, again: false }),
            Err(error) => return tracing::error!(%error, "a listener could not be watched"),
        }
        self.accept(self.listeners.len() - 1);
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(door) = self.listeners.get(index) else { return };
            match door.listener.accept() {
                Ok(socket) => {
                    self.starved = false;
                    let next = self.next_peer;
                    self.next_peer = (next + 1) % self.peers.len();
                    if next == self.index {
                        self.take_over(socket);
                        self.settle();
                    } else {
                        self.peers[next].post(Mail::Connection(socket));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The peer gave up before it was accepted (accept(2): ECONNABORTED).
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.starved, true) {
                        tracing::warn!(%error, "cannot accept connections; trying again until it works");
                    }
                    return self.accept_again(index, ACCEPT_REST);
                }
            }
        }
        // More may wait, and no new event will say so.
        self.accept_again(index, Duration::ZERO);
    }

    /// Has the listener asked again after a while; one timer serves all of them.
    fn accept_again(&mut self, index: usize, after: Duration) {
        self.listeners[index].again = true;
        if !std::mem::replace(&mut self.accept_due, true) {
            self.start(after, Due::Accept);
        }
    }

    fn take_over(&mut self, mut socket: Socket) {
        add(&self.metrics.accepted, 1);
        let limit = self.limits.connections;
        if self.process.connections.fetch_add(1, Ordering::Relaxed) >= limit || self.drain.is_some() {
            self.process.connections.fetch_sub(1, Ordering::Relaxed);
            add(&self.metrics.refused, 1);
            let mut notice = Vec::new();
            tidings_hub::refusal_notice(self.drain.is_none().then_some(limit), &mut notice);
            // Its dialect is not known yet. What it has said is read, lest the kernel reset the connection and
            // take the notice with it.
            if socket.write_some(&notice).is_ok() && socket.finish().is_ok() {
                let _ = socket.read(&mut self.scratch);
            }
            return;
        }
        let id = self.hub.open(&mut self.fx);
        if let Err(error) = socket.register(self.poll.registry(), Token(id.slot as usize)) {
            tracing::error!(%error, "a connection could not be watched");
            self.hub.closed(id.slot, &mut self.fx);
            self.process.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        add(&self.metrics.connections[kind(&socket)], 1);
        let slot = id.slot as usize;
        if self.conns.len() <= slot {
            self.conns.resize_with(slot + 1, || None);
        }
        self.conns[slot] = Some(Conn::new(socket));
    }

    /// Reads from a connection until it has nothing, must wait, or has had its turn.
    fn readable(&mut self, slot: u32, closed: bool) {
        let mut turn = 0;
        loop {
            let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else { return };
            if conn.stopped || conn.read_closed {
                return;
            }
            if conn.publishes && self.control.congested() {
                return self.list(slot);
            }
            if conn.control_backlog() > BACKLOG {
                conn.backlogged = true;
                return;
            }
            let n = match conn.socket.read(&mut self.scratch) {
                Ok(0) => {
                    conn.read_closed = true;
                    return self.peer_finished(slot);
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.lose(slot),
            };
            add(&self.metrics.bytes_in, n as u64);
            if conn.phase == Phase::Open {
                let flow = self.hub.input(slot, &self.scratch[..n], &mut self.fx);
                if flow == Flow::Stop {
                    conn.stopped = true;
                }
                self.settle();
            }
            turn += n;
            if std::mem::take(&mut self.has_published)
                && let Some(Some(conn)) = self.conns.get_mut(slot as usize)
            {
                conn.publishes = true;
            }
            if turn >= TURN {
                return self.list(slot);
            }
            // A short read has emptied the socket; what comes later raises a new event.
            if n < SCRATCH && !closed {
                return;
            }
        }
    }

    fn list(&mut self, slot: u32) {
        if let Some(Some(conn)) = self.conns.get_mut(slot as usize)
            && !conn.listed
        {
            conn.listed = true;
            self.ready.push_back(slot);
        }
    }

    fn read_ready(&mut self) {
        if self.control.congested() {
            return;
        }
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            if let Some(Some(conn)) = self.conns.get_mut(slot as usize) {
                conn.listed = false;
                // Whether the peer has closed its side was said by an event that is past: read to the end.
                self.readable(slot, true);
            }
        }
    }

    fn peer_finished(&mut self, slot: u32) {
        match self.conns[slot as usize].as_ref().map(|c| c.phase) {
            Some(Phase::Open) => {
                self.hub.finish(slot, &mut self.fx);
                self.settle();
            }
            Some(Phase::Lingering) => self.lose(slot),
            Some(Phase::Flushing) | None => {}
        }
    }

    pub(crate) fn writable(&mut self, slot: u32) {
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        let Some(queue) = &mut conn.queue else { return };
        let before = queue.cost();
        let mut sent = 0;
        let flushed = queue.flush(&mut conn.socket, &mut sent);
        let after = queue.cost();
        if queue.is_empty() {
            conn.queue = None;
            sub(&self.metrics.stalled, 1);
        }
        let caught_up = conn.backlogged && conn.control_backlog() <= BACKLOG;
        let phase = conn.phase;
        let mut resume = false;
        if caught_up {
            conn.backlogged = false;
            resume = std::mem::take(&mut conn.resume_owed);
        }
        add(&self.metrics.bytes_out, sent);
        self.queue_changed(before, after);
        match flushed {
            Err(_) => self.lose(slot),
            Ok(Flushed::All) if phase == Phase::Flushing => {
                self.linger(slot);
                self.settle();
            }
            Ok(_) if resume => {
                self.resume(slot);
                self.settle();
            }
            Ok(_) if caught_up => self.list(slot),
            Ok(_) => {}
        }
    }

    /// Keeps the sums of queued bytes right.
    pub(crate) fn queue_changed(&self, before: usize, after: usize) {
        if after >= before {
            self.process.queued.fetch_add(after - before, Ordering::Relaxed);
            add(&self.metrics.queued, (after - before) as u64);
        } else {
            self.process.queued.fetch_sub(before - after, Ordering::Relaxed);
            sub(&self.metrics.queued, (before - after) as u64);
        }
    }

    fn fire(&mut self, what: Due) {
        match what {
            Due::Session(id, timer) => {
                self.hub.expired(id, timer, &mut self.fx);
                self.settle();
            }
            Due::Close(id) => {
                let ended = self.conns.get(id.slot as usize).and_then(Option::as_ref);
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
        }
    }

    /// Does what the hub asked for, and what it asks for because of that.
    pub(crate) fn settle(&mut self) {
        let mut next = 0;
        while next < self.fx.list.len() {
            let effect = std::mem::replace(&mut self.fx.list[next], Effect::Close(u32::MAX));
            next += 1;
            match effect {
                Effect::Send(slot, range) => self.send_control(slot, range),
                Effect::Close(slot) => self.close(slot),
                Effect::Resume(slot) => self.resume(slot),
                Effect::Start(id, timer, after) => self.start(after, Due::Session(id, timer)),
                Effect::Want(topic) => {
                    let (state, count) = self.control.want(self.index, &topic);
                    self.hub.interest(&topic, state, count, &mut self.fx);
                }
                Effect::Unwant(topic) => self.control.unwant(self.index, &topic),
                Effect::Ask(session, ticket, Request::Publish(channel, body)) => {
                    self.has_published = true;
                    let reply = Reply { mailbox: Arc::clone(&self.mailbox), session, ticket };
                    self.control.publish(&channel, body, reply);
                }
                Effect::Ask(session, ticket, Request::Query(query)) => {
                    let answer = self.control.query(&query);
                    self.hub.answer(session, ticket, answer, &mut self.fx);
                }
            }
        }
        self.fx.clear();
    }

    fn send_control(&mut self, slot: u32, range: Range<usize>) {
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        let bytes = &self.fx.bytes[range];
        if let Some(queue) = &mut conn.queue {
            let before = queue.cost();
            queue.push_control(Bytes::copy_from_slice(bytes));
            let after = queue.cost();
            return self.queue_changed(before, after);
        }
        // An error is told by an event, which is on its way.
        let Ok(written) = conn.socket.write_some(bytes) else { return };
        add(&self.metrics.bytes_out, written as u64);
        if written < bytes.len() {
            let mut queue = Box::new(Queue::default());
            queue.push_control(Bytes::copy_from_slice(&bytes[written..]));
            let after = queue.cost();
            conn.queue = Some(queue);
            add(&self.metrics.stalled, 1);
            self.queue_changed(0, after);
        }
    }

    fn resume(&mut self, slot: u32) {
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        if conn.control_backlog() > BACKLOG {
            // With answers unread, commands that are here already wait as those still in the socket do.
            conn.backlogged = true;
            conn.resume_owed = true;
            return;
        }
        let flow = self.hub.input(slot, &[], &mut self.fx);
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        conn.stopped = flow == Flow::Stop;
        if flow == Flow::Read {
            self.list(slot);
        }
    }

    /// Ends a connection once everything queued for it is sent.
    fn close(&mut self, slot: u32) {
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        conn.phase = Phase::Flushing;
        conn.stopped = false;
        conn.resume_owed = false;
        let queued = conn.queue.is_some();
        if queued {
            let delay = self.limits.close_delay;
            if let Some(id) = self.hub.id(slot) {
                self.start(delay, Due::Close(id));
            }
        } else {
            self.linger(slot);
        }
    }

    fn linger(&mut self, slot: u32) {
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        conn.phase = Phase::Lingering;
        conn.backlogged = false;
        if conn.read_closed || conn.socket.finish().is_err() {
            return self.drop_conn(slot);
        }
        if let Some(id) = self.hub.id(slot) {
            self.start(LINGER, Due::Close(id));
        }
        self.list(slot);
    }

    /// Forgets a connection; its socket closes with it. What that leaves to do, [`Shard::settle`] does.
    fn drop_conn(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::take) else { return };
        if let Some(queue) = &conn.queue {
            sub(&self.metrics.stalled, 1);
            self.queue_changed(queue.cost(), 0);
        }
        sub(&self.metrics.connections[kind(&conn.socket)], 1);
        self.process.connections.fetch_sub(1, Ordering::Relaxed);
        self.hub.closed(slot, &mut self.fx);
    }

    /// Forgets a connection, outside of [`Shard::settle`].
    fn lose(&mut self, slot: u32) {
        self.drop_conn(slot);
        self.settle();
    }

    fn begin_drain(&mut self, over: Duration) {
        self.listeners.clear();
        let slots = self.hub.slots();
        let steps = (over.as_millis() / DRAIN_STEP.as_millis()).max(1);
        let step = slots.len().div_ceil(usize::try_from(steps).unwrap_or(1)).max(DRAIN_LEAST);
        self.drain = Some((slots, step));
        self.drain_step();
    }

    fn drain_step(&mut self) {
        let Some((slots, step)) = &mut self.drain else { return };
        let now: Vec<u32> = slots.split_off(slots.len().saturating_sub(*step));
        let more = !slots.is_empty();
        for slot in now {
            // A slot whose tenant has left since is empty: nothing new is let in.
            if self.hub.id(slot).is_some() {
                self.hub.end(slot, &Ending::Shutdown, &mut self.fx);
                self.settle();
            }
        }
        if more {
            self.start(DRAIN_STEP, Due::Drain);
        }
    }
}

fn kind(socket: &Socket) -> usize {
    match socket {
        Socket::Tcp(_) => 0,
        Socket::Unix(_) => 1,
    }
}
