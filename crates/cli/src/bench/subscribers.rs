//! A thread that owns many subscribers: connects them, then takes and checks everything they get.
//!
//! Invariants: an idle subscriber owns no buffer; a subscriber that the server closes is counted and the others go
//! on; time is read once per read, so a latency is at most one read too long.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::approach::{Approach, Arrived};
use super::chunked::Chunks;
use super::dialect::{Dialect, Unit};
use super::latency::Latency;
use super::order::{Order, Seen};
use super::payload::Stamp;
use super::run::Run;
use super::socket::{Socket, Target};

/// How much is read at once, in bytes. At least the longest unit of a dialect and a read more.
const READ: usize = 2 << 20;
/// How long the thread waits before it looks whether the run is over.
const GLANCE: Duration = Duration::from_millis(50);
/// After how many new connections the thread looks what has come in.
const CONNECT_BATCH: usize = 64;

/// What a thread's subscribers saw.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) latency: Latency,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    /// Of each publisher's messages, how many have not come, over all subscribers.
    orders: Vec<Vec<Order>>,
}

impl Tally {
    /// How many deliveries are missing when publisher `n` has sent `sent[n]` messages.
    pub(super) fn lost(&self, sent: &[u64]) -> u64 {
        let missing = |orders: &Vec<Order>| {
            orders.iter().zip(sent).map(|(order, sent)| order.missing(*sent)).sum::<u64>()
        };
        self.orders.iter().map(missing).sum()
    }
}

/// One subscriber.
struct Peer {
    /// `None` once it is closed.
    socket: Option<Socket>,
    subscribed: bool,
    /// The start of an incomplete frame.
    unfinished: Vec<u8>,
    /// Where its answer of HTTP is, where it has one.
    chunks: Chunks,
    /// One per publisher.
    orders: Vec<Order>,
}

/// The subscribers of one thread.
pub(super) struct Subscribers<'a> {
    run: &'a Run,
    dialect: &'a Dialect,
    approach: &'a Approach,
    poll: Poll,
    peers: Vec<Peer>,
    buf: Vec<u8>,
    tally: Tally,
}

impl<'a> Subscribers<'a> {
    /// Connects `count` subscribers, each of which follows `publishers` publishers, and has them subscribe; the
    /// confirmations are still to come.
    ///
    /// # Errors
    /// A connection that cannot be made, in words.
    pub(super) fn connect(
        run: &'a Run,
        dialect: &'a Dialect,
        approach: &'a Approach,
        target: &Target,
        count: usize,
        publishers: usize,
    ) -> Result<Self, String> {
        let tally = Tally { latency: Latency::new(), duplicated: 0, out_of_order: 0, orders: Vec::new() };
        let poll = Poll::new().map_err(|e| e.to_string())?;
        let peers = Vec::with_capacity(count);
        let mut this = Self { run, dialect, approach, poll, peers, buf: vec![0; READ], tally };
        for n in 0..count {
            if run.is_over() {
                break;
            }
            this.subscriber(target, publishers).map_err(|e| {
                format!("subscriber {} of {count} on a thread cannot be connected: {e}", n + 1)
            })?;
            if n % CONNECT_BATCH == CONNECT_BATCH - 1 {
                this.turn(Duration::ZERO)?;
            }
        }
        Ok(this)
    }

    fn subscriber(&mut self, target: &Target, publishers: usize) -> Result<(), String> {
        let Arrived { mut socket, unread, chunks } = self.approach.arrive(target)?;
        let lost = |e: io::Error| e.to_string();
        socket.write_all(self.dialect.greeting()).map_err(lost)?;
        socket.set_nonblocking().map_err(lost)?;
        let token = Token(self.peers.len());
        let fd = socket.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(lost)?;
        let orders = vec![Order::default(); publishers];
        let mut peer =
            Peer { socket: Some(socket), subscribed: false, unfinished: Vec::new(), chunks, orders };
        let used = peer.take(self.run, self.dialect, &unread, &mut self.tally)?;
        peer.unfinished.extend_from_slice(&unread[used..]);
        self.peers.push(peer);
        Ok(())
    }

    /// Reads until the run is over.
    ///
    /// # Errors
    /// The system refused to wait, in words.
    pub(super) fn follow(mut self) -> Result<Tally, String> {
        while !self.run.is_over() {
            self.turn(GLANCE)?;
        }
        self.tally.orders = self.peers.into_iter().map(|peer| peer.orders).collect();
        Ok(self.tally)
    }

    fn turn(&mut self, patience: Duration) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(patience)) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e.to_string()),
            _ => {}
        }
        for event in &events {
            self.drain(event.token().0, event.is_read_closed() || event.is_error());
        }
        Ok(())
    }

    /// Reads all that a subscriber has got, and its end where that has come.
    fn drain(&mut self, at: usize, ended: bool) {
        let Self { run, dialect, peers, buf, tally, .. } = self;
        let peer = &mut peers[at];
        while let Some(socket) = &mut peer.socket {
            let held = peer.unfinished.len();
            buf[..held].copy_from_slice(&peer.unfinished);
            let room = buf.len() - held;
            let read = match socket.read(&mut buf[held..]) {
                Ok(n @ 1..) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => return peer.close(run, "the server closed a subscriber's connection".to_owned()),
                Err(e) => return peer.close(run, format!("a subscriber's connection was lost: {e}")),
            };
            let taken = peer.chunks.strip(&mut buf[held..held + read]).and_then(|kept| {
                let end = held + kept;
                peer.take(run, dialect, &buf[..end], tally).map(|used| (used, end))
            });
            match taken {
                Ok((used, end)) => {
                    peer.unfinished.clear();
                    peer.unfinished.extend_from_slice(&buf[used..end]);
                    if peer.unfinished.is_empty() {
                        peer.unfinished = Vec::new();
                    }
                }
                Err(what) => {
                    return peer.close(run, format!("the server sent what is not the protocol: {what}"));
                }
            }
            // A read that did not fill the buffer has emptied the socket (epoll(7), "edge-triggered"); only the end
            // may still be behind it.
            if read < room && !ended {
                return;
            }
        }
    }
}

impl Peer {
    /// Takes the whole units of `bytes`, and says how many bytes they are.
    fn take(
        &mut self,
        run: &Run,
        dialect: &Dialect,
        bytes: &[u8],
        tally: &mut Tally,
    ) -> Result<usize, String> {
        let now = run.now();
        let mut used = 0;
        let (mut delivered, mut settled, mut pinged) = (0, 0, false);
        loop {
            let length = dialect.frame(&bytes[used..], |unit| match unit {
                Unit::Message(body) => {
                    let Some(stamp) = Stamp::read(body).filter(|stamp| stamp.run == run.id) else { return };
                    let Some(order) = self.orders.get_mut(usize::from(stamp.publisher)) else { return };
                    match order.see(stamp.sequence) {
                        Seen::After { missing } => settled += 1 + missing,
                        Seen::Late => tally.out_of_order += 1,
                        Seen::Again => {
                            tally.duplicated += 1;
                            return;
                        }
                    }
                    delivered += 1;
                    tally.latency.record(now.saturating_sub(stamp.due));
                }
                Unit::Subscribed if !self.subscribed => {
                    self.subscribed = true;
                    run.subscribed.fetch_add(1, Ordering::SeqCst);
                }
                Unit::Complaint(words) => run.complain(format!("the server says: {words}")),
                Unit::Ping => pinged = true,
                Unit::Subscribed | Unit::Other => {}
            })?;
            if length == 0 {
                break;
            }
            used += length;
        }
        if pinged && let Some(socket) = &mut self.socket {
            // A few bytes, which the socket of a subscriber that says nothing else has room for.
            socket.write_all(dialect.pong()).map_err(|e| format!("a ping cannot be answered: {e}"))?;
        }
        if delivered > 0 {
            run.last_delivery.fetch_max(now, Ordering::SeqCst);
            run.delivered.fetch_add(delivered, Ordering::SeqCst);
            run.settled.fetch_add(settled, Ordering::SeqCst);
            run.progressed();
        }
        Ok(used)
    }

    fn close(&mut self, run: &Run, why: String) {
        self.socket = None;
        run.complain(why);
        run.disconnected.fetch_add(1, Ordering::SeqCst);
    }
}
