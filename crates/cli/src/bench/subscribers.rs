//! A thread that owns many subscribers: connects them, then reads and checks their deliveries.
//!
//! Invariants: an idle subscriber owns no buffer; a subscriber that the server disconnects is counted and the others
//! continue; the clock is read once per read, so a latency is at most one read too long.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::chunked::ChunkState;
use super::dialect::{Dialect, Unit};
use super::handshake::{Connected, TransportRequest};
use super::latency::Latency;
use super::order::{Arrival, Sequence};
use super::payload::Stamp;
use super::run::BenchRun;
use super::socket::{Socket, Target};

/// The size of one read in bytes: at least the longest unit of a protocol plus one read.
const READ: usize = 2 << 20;
/// The longest wait before the thread checks whether the run has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The number of new connections after which the thread reads input.
const CONNECT_BATCH: usize = 64;

/// The deliveries of a thread's subscribers.
#[derive(Debug)]
pub(super) struct ThreadTally {
    pub(super) latency: Latency,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    /// The order of each publisher's messages, for each subscriber.
    orders: Vec<Vec<Sequence>>,
}

impl ThreadTally {
    /// The number of missing deliveries when publisher `n` has sent `sent[n]` messages.
    pub(super) fn lost(&self, sent: &[u64]) -> u64 {
        let missing = |orders: &Vec<Sequence>| {
            orders.iter().zip(sent).map(|(order, sent)| order.missing(*sent)).sum::<u64>()
        };
        self.orders.iter().map(missing).sum()
    }
}

/// One subscriber.
struct Peer {
    /// `None` after it was disconnected.
    socket: Option<Socket>,
    subscribed: bool,
    /// The beginning of an incomplete frame.
    unfinished: Vec<u8>,
    /// The position in its chunked response, if it is chunked.
    chunks: ChunkState,
    /// One per publisher.
    orders: Vec<Sequence>,
}

/// The subscribers of one thread.
pub(super) struct Subscribers<'a> {
    run: &'a BenchRun,
    dialect: &'a Dialect,
    handshake: &'a TransportRequest,
    poll: Poll,
    peers: Vec<Peer>,
    buf: Vec<u8>,
    tally: ThreadTally,
}

impl<'a> Subscribers<'a> {
    /// Connects `count` subscribers, each of which receives `publishers` publishers, and sends their subscriptions. The
    /// confirmations follow.
    ///
    /// # Errors
    /// A connection that cannot be established, as text.
    pub(super) fn connect(
        run: &'a BenchRun,
        dialect: &'a Dialect,
        handshake: &'a TransportRequest,
        target: &Target,
        count: usize,
        publishers: usize,
    ) -> Result<Self, String> {
        let tally =
            ThreadTally { latency: Latency::new(), duplicated: 0, out_of_order: 0, orders: Vec::new() };
        let poll = Poll::new().map_err(|e| e.to_string())?;
        let peers = Vec::with_capacity(count);
        let mut this = Self { run, dialect, handshake, poll, peers, buf: vec![0; READ], tally };
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
        let Connected { mut socket, unread, chunks } = self.handshake.arrive(target)?;
        let lost = |e: io::Error| e.to_string();
        socket.write_all(self.dialect.greeting()).map_err(lost)?;
        socket.set_nonblocking().map_err(lost)?;
        let token = Token(self.peers.len());
        let fd = socket.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(lost)?;
        let orders = vec![Sequence::default(); publishers];
        let mut peer =
            Peer { socket: Some(socket), subscribed: false, unfinished: Vec::new(), chunks, orders };
        let used = peer.take(self.run, self.dialect, &unread, &mut self.tally)?;
        peer.unfinished.extend_from_slice(&unread[used..]);
        self.peers.push(peer);
        Ok(())
    }

    /// Reads until the run ends.
    ///
    /// # Errors
    /// An error of the poll, as text.
    pub(super) fn follow(mut self) -> Result<ThreadTally, String> {
        while !self.run.is_over() {
            self.turn(POLL_INTERVAL)?;
        }
        self.tally.orders = self.peers.into_iter().map(|peer| peer.orders).collect();
        Ok(self.tally)
    }

    fn turn(&mut self, limit: Duration) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(limit)) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e.to_string()),
            _ => {}
        }
        for event in &events {
            self.drain(event.token().0, event.is_read_closed() || event.is_error());
        }
        Ok(())
    }

    /// Reads all available input of a subscriber, and its end if `ended`.
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
            // A read that did not fill the buffer has drained the socket (epoll(7), "edge-triggered"); only the end may
            // follow.
            if read < room && !ended {
                return;
            }
        }
    }
}

impl Peer {
    /// Handles the complete units of `bytes`. Returns their length.
    fn take(
        &mut self,
        run: &BenchRun,
        dialect: &Dialect,
        bytes: &[u8],
        tally: &mut ThreadTally,
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
                        Arrival::After { missing } => settled += 1 + missing,
                        Arrival::Late => tally.out_of_order += 1,
                        Arrival::Again => {
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
                Unit::Error(words) => run.record_error(format!("the server reports: {words}")),
                Unit::Ping => pinged = true,
                Unit::Subscribed | Unit::Other => {}
            })?;
            if length == 0 {
                break;
            }
            used += length;
        }
        if pinged && let Some(socket) = &mut self.socket {
            // A few bytes, for which the socket of a subscriber that sends nothing else has room.
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

    fn close(&mut self, run: &BenchRun, why: String) {
        self.socket = None;
        run.record_error(why);
        run.disconnected.fetch_add(1, Ordering::SeqCst);
    }
}
