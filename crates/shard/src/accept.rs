//! Accepting: one shard accepts, and connections are distributed over all shards in turn.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Token;
use tidings_hub::{Effects, Flow, SessionId, Slot};
use tidings_session::{Hub, Link};
use tidings_wire::code;
use tidings_wire::ws::{self, CloseCode};

use crate::address::network;
use crate::conn::Conn;
use crate::drain::jittered;
use crate::mailbox::{Arrival, ShardMessage};
use crate::metrics::{Process, add};
use crate::shard::{Door, Due, LISTENERS, Shard};
use crate::socket::{Listener, Socket};
use crate::writing::kind;

/// Connections accepted before it is the others' turn.
const ACCEPTS: usize = 256;
/// How long a listener rests when the process is out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Shard {
    pub(crate) fn listen(&mut self, mut listener: Listener) {
        let token = Token(LISTENERS - self.listeners.len());
        match listener.register(self.poll.registry(), token) {
            Ok(()) => self.listeners.push(Door { listener, again: false }),
            Err(error) => return tracing::error!(%error, "a listener could not be watched"),
        }
        self.accept(self.listeners.len() - 1);
    }

    pub(crate) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(door) = self.listeners.get(index) else { return };
            match door.listener.accept() {
                Ok(socket) => {
                    self.starved = false;
                    if matches!(door.listener, Listener::Tls(_)) {
                        add(&self.metrics.accepted, 1);
                        let peer = self.peer_of(&socket);
                        if self.process.connection_rate.allows(1)
                            && self.process.addresses.begin(peer).is_ok()
                        {
                            self.hand_off(socket);
                        } else {
                            // Before a handshake no notice can be sent.
                            add(&self.metrics.refused, 1);
                        }
                        continue;
                    }
                    let next = self.process.next_shard(self.peers.len());
                    if next == self.index {
                        self.take_over(socket);
                        self.apply_effects();
                    } else {
                        self.peers[next].post(ShardMessage::Connection(socket));
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
        // More may wait, and no new event will report them.
        self.accept_again(index, Duration::ZERO);
    }

    /// Accepts again from the listener after a while; one timer serves all listeners.
    pub(crate) fn accept_again(&mut self, index: usize, after: Duration) {
        self.listeners[index].again = true;
        if !std::mem::replace(&mut self.accept_due, true) {
            self.start(after, Due::Accept);
        }
    }

    /// Owns a connection whose first byte decides the protocol. With TLS that byte may have arrived with the handshake,
    /// and no event will report it.
    pub(crate) fn take_over(&mut self, socket: Socket) {
        let may_become_tls = self.porter.is_some() && matches!(socket, Socket::Tcp(_));
        let holds_back = socket.holds_back();
        let is_tls = matches!(socket, Socket::Tls(_));
        let opened = |hub: &mut Hub, fx: &mut Effects| {
            let id = hub.open(fx);
            if is_tls {
                // It has cost a handshake and holds the state of one.
                hub.expect_introduction(id, fx);
            }
            id
        };
        let Some(slot) = self.adopt(socket, Link::UNKNOWN, &[], opened) else { return };
        if let Some(Some(conn)) = self.conns.get_mut(slot.index()) {
            conn.fresh = may_become_tls;
        }
        if holds_back {
            self.list(slot);
        }
    }

    /// Hands off a connection that begins with a TLS handshake; it returns when that is done.
    pub(crate) fn secure(&mut self, slot: Slot) {
        let Some(conn) = self.forget(slot) else { return };
        self.hand_off(conn.socket);
        self.apply_effects();
    }

    /// Hands off a connection for its TLS handshake.
    fn hand_off(&self, socket: Socket) {
        if let (Some(porter), Some(stream)) = (&self.porter, socket.into_tcp(self.poll.registry())) {
            porter.secure(stream);
        }
    }

    /// Owns a connection whose handshake is done, and reads what was received behind that: no event will report bytes that
    /// were read already.
    pub(crate) fn adopt_arrival(&mut self, arrival: Arrival) {
        let Arrival { socket, link, received, about, forwarded } = arrival;
        let opened = |hub: &mut Hub, fx: &mut Effects| hub.open_as(link.into(), about, fx);
        let Some(slot) = self.adopt(socket, link, &forwarded, opened) else {
            return;
        };
        self.apply_effects();
        let flow = tidings_session::input(&mut self.hub, slot, &received, &mut self.fx);
        self.apply_flow(slot, flow);
        self.apply_effects();
        self.list(slot);
    }

    /// Stops reading from a session, or reads on.
    pub(crate) fn apply_flow(&mut self, slot: Slot, flow: Flow) {
        if flow == Flow::Stop
            && let Some(Some(conn)) = self.conns.get_mut(slot.index())
        {
            conn.stopped = true;
        }
    }

    fn adopt(
        &mut self,
        mut socket: Socket,
        link: Link,
        forwarded: &[Option<IpAddr>],
        open: impl FnOnce(&mut Hub, &mut Effects) -> SessionId,
    ) -> Option<Slot> {
        // A connection that returns from its handshake was accepted before.
        let is_back = link == Link::UNKNOWN && matches!(socket, Socket::Tls(_));
        if !is_back {
            add(&self.metrics.accepted, 1);
        }
        // A connection that began as HTTP was checked there.
        if link == Link::UNKNOWN && !is_back && !self.process.connection_rate.allows(1) {
            add(&self.metrics.refused, 1);
            let words = "connections begin too fast (client.connection_rate_limit)";
            self.refuse_connection(socket, &overload(link, words));
            return None;
        }
        let address = match self.process.addresses.take(self.peer_of(&socket), forwarded, !is_back) {
            Ok(address) => address,
            Err(excess) => {
                add(&self.metrics.refused, 1);
                let words = self.process.addresses.words(excess);
                self.refuse_connection(socket, &overload(link, &words));
                return None;
            }
        };
        let return_address = |process: &Process| {
            address.into_iter().for_each(|key| process.addresses.give_back(key));
        };
        let limit = self.limits.connections;
        if self.drain.is_some() || !self.process.count_connection(limit) {
            return_address(&self.process);
            add(&self.metrics.refused, 1);
            if self.drain.is_none() {
                self.process.full.fetch_add(1, Ordering::Relaxed);
            }
            let limit = self.drain.is_none().then_some(limit);
            let notice = refusal(link, limit, jittered(RandomState::new().hash_one(self.now())));
            self.refuse_connection(socket, &notice);
            return None;
        }
        let network = self.network_of(&socket, forwarded);
        let client = self.client_of(&socket, forwarded);
        let id = open(&mut self.hub, &mut self.fx);
        if let Some(network) = network {
            self.hub.meter_address(id.slot, network);
        }
        if let Err(error) = socket.register(self.poll.registry(), Token(id.slot.index())) {
            // The limit of the operating system's watches, or its memory: the same for every connection then.
            let times = self.process.unwatched.fetch_add(1, Ordering::Relaxed) + 1;
            if times.is_power_of_two() {
                tracing::error!(%error, times, "a connection could not be watched and is closed");
            }
            self.hub.closed(id.slot, &mut self.fx);
            self.process.release_connection();
            return_address(&self.process);
            return None;
        }
        add(&self.metrics.connections[kind(&socket)], 1);
        let slot = id.slot.index();
        if self.conns.len() <= slot {
            self.conns.resize_with(slot + 1, || None);
        }
        self.conns[slot] = Some(Conn::new(socket));
        if let Some(key) = address {
            self.addresses.insert(id.slot, key);
        }
        if let Some(client) = client {
            self.clients.insert(id.slot, client);
        }
        Some(id.slot)
    }
}

impl Shard {
    /// The address of a connection, where addresses are limited.
    fn peer_of(&self, socket: &Socket) -> Option<IpAddr> {
        if self.process.addresses.is_limited() { socket.peer() } else { None }
    }

    /// The address of the client behind a trusted proxy, where the proxy has forwarded it.
    fn client_of(&self, socket: &Socket, forwarded: &[Option<IpAddr>]) -> Option<IpAddr> {
        let addresses = &self.process.addresses;
        let peer = socket.peer().filter(|peer| !forwarded.is_empty() && addresses.is_proxy(*peer))?;
        Some(addresses.client(peer, forwarded)).filter(|client| !addresses.is_proxy(*client))
    }

    /// The network that a connection's commands are counted with, where they are.
    fn network_of(&self, socket: &Socket, forwarded: &[Option<IpAddr>]) -> Option<u128> {
        if !self.hub.meters_addresses() {
            return None;
        }
        Some(network(self.process.addresses.client(socket.peer()?, forwarded)))
    }

    /// Refuses a connection with a notice.
    fn refuse_connection(&mut self, mut socket: Socket, notice: &[u8]) {
        // Its input is read, because the kernel resets a connection with unread input, and the notice would be lost.
        if socket.refuse(notice).is_ok() && socket.finish().is_ok() {
            let _ = socket.read(&mut self.scratch);
        }
    }
}

/// The notice for a connection that is refused because of a limit that passes.
fn overload(link: Link, limit: &str) -> Vec<u8> {
    let mut notice = Vec::new();
    let words = format!("{}: {limit}", code::OVERLOADED.text);
    if link.is_websocket() {
        ws::close(CloseCode(code::OVERLOADED.number), &words, &mut notice);
    } else {
        tidings_session::overload_notice(&words, &mut notice);
    }
    notice
}

/// The notice for a connection that is refused, because there are as many as the limit, or (without one) because the
/// server is stopping. Mostly its protocol is not known yet.
fn refusal(link: Link, limit: Option<usize>, delay: Duration) -> Vec<u8> {
    let mut notice = Vec::new();
    if link.is_websocket() {
        let why = if limit.is_some() { code::CONNECTION_LIMIT } else { code::SHUTDOWN };
        ws::close(CloseCode(why.number), why.text, &mut notice);
    } else {
        tidings_session::refusal_notice(limit, delay, &mut notice);
    }
    notice
}
