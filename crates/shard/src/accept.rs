//! Accepting: one shard accepts connections, and distributes them over all shards in turn.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Token;
use tidings_hub::{Flow, Identity, SessionId, Slot};
use tidings_log_throttle::LogThrottle;
use tidings_session::Effects;
use tidings_session::{Hub, Link, Peer};
use tidings_wire::code;
use tidings_wire::ws::{self, CloseCode};

use crate::address::{ClientPath, network};
use crate::conn::Conn;
use crate::counters::TransportKind;
use crate::drain::reconnect_delay;
use crate::mailbox::{Arrival, LineConnection, ShardMessage};
use crate::metrics::add;
use crate::process::Process;
use crate::shard::{LISTENERS, ListenerState, Shard, TimerEvent};
use crate::socket::{LineRules, Listener, Socket};

/// Most connections accepted before other events are handled.
const ACCEPTS: usize = 256;
/// How long a listener pauses when the process has no file descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Shard {
    pub(crate) fn listen(&mut self, mut listener: Listener) {
        let token = Token(LISTENERS - self.listeners.len());
        match listener.register(self.poll.registry(), token) {
            Ok(()) => self.listeners.push(ListenerState { listener, again: false }),
            Err(error) => return tracing::error!(%error, "a listener could not be registered for events"),
        }
        self.accept(self.listeners.len() - 1);
    }

    pub(crate) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(state) = self.listeners.get(index) else { return };
            match state.listener.accept() {
                Ok(socket) => {
                    let Listener { rules, is_proxied, .. } = state.listener;
                    if is_proxied {
                        self.hand_off_for_header(socket, rules);
                        continue;
                    }
                    let connection = LineConnection { socket, proxy_source: None, rules };
                    if rules.requires_tls {
                        self.begin_tls(connection);
                        continue;
                    }
                    let next = self.process.next_shard(self.mailboxes.len());
                    if next == self.index {
                        self.adopt_line_connection(connection);
                        self.apply_effects();
                    } else {
                        self.mailboxes[next].post(ShardMessage::Connection(connection));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The peer has closed the connection already (accept(2): ECONNABORTED).
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    // Without files, connections that close let single ones in: errors and successes alternate.
                    static LINES: LogThrottle = LogThrottle::new();
                    if let Some(times) = LINES.count() {
                        tracing::warn!(%error, times, "cannot accept connections; retrying");
                    }
                    return self.accept_again(index, ACCEPT_REST);
                }
            }
        }
        // More connections may wait, without a new event.
        self.accept_again(index, Duration::ZERO);
    }

    /// Accepts again from the listener after this time. One timer serves all listeners.
    pub(crate) fn accept_again(&mut self, index: usize, after: Duration) {
        self.listeners[index].again = true;
        if !std::mem::replace(&mut self.accept_due, true) {
            self.start(after, TimerEvent::Accept);
        }
    }

    /// Takes a connection of the line port: from another shard, or after its PROXY header or TLS handshake.
    pub(crate) fn accept_line_connection(&mut self, connection: LineConnection) {
        if connection.rules.requires_tls {
            self.begin_tls(connection);
        } else {
            self.adopt_line_connection(connection);
        }
    }

    /// Hands off a new connection for its TLS handshake, within the limits of new connections.
    fn begin_tls(&mut self, connection: LineConnection) {
        add(&self.metrics.accepted, 1);
        let LineConnection { socket, proxy_source, rules } = connection;
        let peer = self.peer_of(&socket, proxy_source);
        if self.process.connection_rate.allows(1) && self.process.addresses.check_rate(peer).is_ok() {
            self.hand_off(socket, proxy_source, rules.is_mqtt);
        } else {
            // No notice can be sent before a handshake.
            add(&self.metrics.refused, 1);
        }
    }

    /// Hands off a new connection that begins with a PROXY header. It counts as accepted when it returns.
    fn hand_off_for_header(&self, socket: Socket, rules: LineRules) {
        if let (Some(handoff), Some(connection)) = (&self.handoffs.proxy, socket.into_accepted()) {
            handoff.read_header(connection, rules);
        }
    }

    /// Adds a connection, with an unknown protocol unless its listener determines it. With TLS, its first byte may have arrived with the handshake,
    /// without a new event.
    fn adopt_line_connection(&mut self, connection: LineConnection) {
        let LineConnection { socket, proxy_source, rules } = connection;
        let may_become_tls = self.handoffs.tls.is_some() && matches!(socket, Socket::Tcp(_));
        let may_hold_input = socket.may_hold_input();
        let is_tls = matches!(socket, Socket::Tls(_));
        let opened = |hub: &mut Hub, fx: &mut Effects| {
            if rules.is_mqtt {
                return hub.open_as(Peer::from(Link::MQTT), None, fx);
            }
            let id = hub.open(fx);
            if is_tls {
                // The connection has cost a handshake, and occupies the state of rustls.
                hub.expect_first_input(id, fx);
            }
            id
        };
        let path = ClientPath { proxy_source, forwarded: Vec::new() };
        let Some(slot) = self.adopt(socket, Link::UNKNOWN, &path, opened) else { return };
        if let Some(Some(conn)) = self.conns.get_mut(slot.index()) {
            conn.may_begin_tls = may_become_tls;
        }
        if may_hold_input {
            self.enqueue_ready(slot);
        }
    }

    /// Hands off a connection that begins with a TLS handshake; it returns after the handshake.
    pub(crate) fn hand_off_for_tls(&mut self, slot: Slot) {
        // A connection of the line port has no other stated address.
        let proxy_source = self.clients.get(&slot).copied();
        let is_mqtt = self.hub.get_session(slot).is_some_and(|session| session.peer.link == Link::MQTT);
        let Some(conn) = self.take_connection(slot) else { return };
        self.hand_off(conn.socket, proxy_source, is_mqtt);
        self.apply_effects();
    }

    /// Hands off a connection for its TLS handshake.
    fn hand_off(&self, socket: Socket, proxy_source: Option<IpAddr>, is_mqtt: bool) {
        if let (Some(handoff), Some(stream)) = (&self.handoffs.tls, socket.into_tcp(self.poll.registry())) {
            handoff.secure(stream, proxy_source, is_mqtt);
        }
    }

    /// Adds a connection after its handshake, and processes the input that was read with it, for which there is no event.
    pub(crate) fn adopt_arrival(&mut self, arrival: Arrival) {
        let Arrival { socket, link, parameter, received, connection_info, path, is_backend } = arrival;
        let opened = |hub: &mut Hub, fx: &mut Effects| {
            let id = hub.open_as(Peer::with_parameter(link, parameter), connection_info, fx);
            if is_backend {
                hub.session_mut(id.slot).identity = Identity::OPERATOR;
            }
            id
        };
        let Some(slot) = self.adopt(socket, link, &path, opened) else {
            return;
        };
        self.apply_effects();
        // A socket reports that it is writable when it is registered; a stream of HTTP/2 does not.
        if matches!(self.conns.get(slot.index()), Some(Some(conn)) if conn.socket.as_pipe().is_some()) {
            self.writable(slot);
        }
        let flow = tidings_session::input(&mut self.hub, slot, &received, &mut self.fx);
        self.apply_flow(slot, flow);
        self.apply_effects();
        self.enqueue_ready(slot);
    }

    /// Stops reading from a session if `flow` requires it.
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
        path: &ClientPath,
        open: impl FnOnce(&mut Hub, &mut Effects) -> SessionId,
    ) -> Option<Slot> {
        // A connection that returns from its TLS handshake is counted as accepted already.
        let is_returning = link == Link::UNKNOWN && matches!(socket, Socket::Tls(_));
        if !is_returning {
            add(&self.metrics.accepted, 1);
        }
        // The rate of connections that began with HTTP was checked there.
        if link == Link::UNKNOWN && !is_returning && !self.process.connection_rate.allows(1) {
            add(&self.metrics.refused, 1);
            let words = "connections begin too fast (client.connection_rate_limit)";
            self.refuse_connection(socket, code::OVERLOADED, &overload(link, words));
            return None;
        }
        let peer = self.peer_of(&socket, path.proxy_source);
        let address = match self.process.addresses.acquire(peer, &path.forwarded, !is_returning) {
            Ok(address) => address,
            Err(exceeded) => {
                add(&self.metrics.refused, 1);
                let words = self.process.addresses.describe(exceeded);
                self.refuse_connection(socket, code::OVERLOADED, &overload(link, &words));
                return None;
            }
        };
        let release_address = |process: &Process| {
            address.into_iter().for_each(|key| process.addresses.release(key));
        };
        let limit = self.limits.connections;
        if self.drain.is_some() || !self.process.count_connection(limit) {
            release_address(&self.process);
            add(&self.metrics.refused, 1);
            if self.drain.is_none() {
                self.process.full.fetch_add(1, Ordering::Relaxed);
            }
            let limit = self.drain.is_none().then_some(limit);
            let notice = refusal(link, limit, reconnect_delay(RandomState::new().hash_one(self.now())));
            self.refuse_connection(socket, code::SHUTDOWN, &notice);
            return None;
        }
        let network = self.network_of(&socket, path);
        let client = self.client_of(&socket, path);
        self.ages.before_open(self.now(), self.hub.latest_generation());
        let id = open(&mut self.hub, &mut self.fx);
        if let Some(network) = network {
            self.hub.meter_address(id.slot, network);
        }
        if let Err(error) = socket.register(self.poll.registry(), Token(id.slot.index())) {
            // A limit of the operating system, or its memory: later connections fail in the same way.
            let times = self.process.unwatched.fetch_add(1, Ordering::Relaxed) + 1;
            if times.is_power_of_two() {
                tracing::error!(%error, times, "a connection could not be registered for events and is closed");
            }
            self.hub.closed(id.slot, &mut self.fx);
            self.process.release_connection();
            release_address(&self.process);
            return None;
        }
        if let Some(pipe) = socket.as_pipe() {
            pipe.attach(Arc::clone(&self.mailbox) as _, id);
        }
        add(&self.metrics.connections[TransportKind::from(&socket)], 1);
        let slot = id.slot.index();
        if self.conns.len() <= slot {
            self.conns.resize_with(slot + 1, || None);
            self.since.resize(slot + 1, 0);
        }
        self.since[slot] = u32::try_from(self.now() / 1_000).unwrap_or(u32::MAX);
        self.conns[slot] = Some(Conn::new(socket));
        if let Some(key) = address {
            self.addresses.insert(id.slot, key);
        }
        if let Some(client) = client {
            self.clients.insert(id.slot, client);
        }
        if self.process.returns.is_watching() {
            self.process.returns.on_connection(self.client_address(id.slot), self.process.clock.nanos());
        }
        self.begin_record(id.slot);
        Some(id.slot)
    }
}

impl Shard {
    /// The address of a connection's peer, if addresses are limited.
    fn peer_of(&self, socket: &Socket, proxy_source: Option<IpAddr>) -> Option<IpAddr> {
        if !self.process.addresses.is_limited() {
            return None;
        }
        proxy_source.or_else(|| socket.peer())
    }

    /// The address of the client behind a trusted proxy, if the proxy has stated it.
    fn client_of(&self, socket: &Socket, path: &ClientPath) -> Option<IpAddr> {
        if path.is_direct() {
            return None;
        }
        let addresses = &self.process.addresses;
        let trusted = || socket.peer().filter(|peer| addresses.is_proxy(*peer));
        Some(addresses.client(path.proxy_source.or_else(trusted)?, &path.forwarded))
    }

    /// The network by which a connection's commands are limited, if they are.
    fn network_of(&self, socket: &Socket, path: &ClientPath) -> Option<u128> {
        if !self.hub.meters_addresses() {
            return None;
        }
        let peer = path.proxy_source.or_else(|| socket.peer())?;
        Some(network(self.process.addresses.client(peer, &path.forwarded)))
    }

    /// Refuses a connection with a notice for this reason.
    fn refuse_connection(&mut self, mut socket: Socket, reason: code::Code, notice: &[u8]) {
        // Reads the input, because the kernel resets a connection with unread input, and the notice would be lost.
        if socket.refuse(code::http_status(reason.number), notice).is_ok() && socket.finish().is_ok() {
            let _ = socket.read(&mut self.scratch);
        }
    }
}

/// The notice for a connection that is refused temporarily because of a limit.
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

/// The notice for a refused connection: because of the `limit` of connections or, without one, because the server
/// stops. The protocol is usually not known yet.
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
