//! Reading from sockets, with fairness between connections and backpressure for unread responses.

use std::io;

use tidings_hub::{Flow, SessionId, Slot};

use crate::conn::Phase;
use crate::metrics::add;
use crate::shard::{BACKLOG, SCRATCH, Shard};
use crate::socket::Socket;

/// Bytes read from one connection before others are read. Decompressed bytes count as well, because they determine the
/// time.
const READ_SHARE: u64 = 4 * SCRATCH as u64;

impl Shard {
    /// Reads from a connection until it has no input, must wait, or has used its share.
    pub(crate) fn readable(&mut self, slot: Slot, closed: bool) {
        let mut share = 0_u64;
        loop {
            let Some(conn) = self.conns.get_mut(slot.index()).and_then(Option::as_mut) else { return };
            if conn.stopped || conn.read_closed {
                return;
            }
            if conn.publishes && self.control.congested() {
                return self.enqueue_ready(slot);
            }
            if conn.control_backlog() > BACKLOG {
                conn.backlogged = true;
                return;
            }
            if conn.may_begin_tls {
                match conn.socket.begins_with_tls() {
                    Ok(true) => return self.hand_off_for_tls(slot),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                    // The next read reports the error.
                    Ok(false) | Err(_) => conn.may_begin_tls = false,
                }
            }
            let may_hold_input = conn.socket.may_hold_input();
            let n = match conn.socket.read(&mut self.scratch) {
                Ok(0) => {
                    conn.read_closed = true;
                    return self.peer_finished(slot);
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    share += SCRATCH as u64;
                    if share >= READ_SHARE {
                        return self.enqueue_ready(slot);
                    }
                    continue;
                }
                Err(_) => return self.disconnect(slot),
            };
            add(&self.metrics.bytes_in, n as u64);
            if !self.ends.is_empty() {
                self.ends.received(slot, n as u64);
            }
            let inflated = self.hub.protocols.inflated();
            if conn.phase == Phase::Open {
                let flow = tidings_session::input(&mut self.hub, slot, &self.scratch[..n], &mut self.fx);
                if flow == Flow::Stop {
                    conn.stopped = true;
                }
                self.apply_effects();
            } else if conn.phase == Phase::AwaitingClose
                && tidings_session::closing_input(&mut self.hub, slot, &self.scratch[..n], &mut self.fx)
            {
                self.linger(slot);
                self.apply_effects();
            }
            share += n as u64 + (self.hub.protocols.inflated() - inflated);
            if std::mem::take(&mut self.has_published)
                && let Some(Some(conn)) = self.conns.get_mut(slot.index())
            {
                conn.publishes = true;
            }
            if share >= READ_SHARE {
                return self.enqueue_ready(slot);
            }
            // A short read has emptied the socket; further bytes cause a new event.
            if n < SCRATCH && !closed && !may_hold_input {
                return;
            }
        }
    }

    /// Handles the readiness of a stream of HTTP/2, as an event of a socket.
    pub(crate) fn pipe_ready(&mut self, id: SessionId) {
        if !self.hub.is_current(id) {
            return;
        }
        let conn = self.conns.get(id.slot.index()).and_then(Option::as_ref);
        let Some(pipe) = conn.and_then(|conn| conn.socket.as_pipe()) else { return };
        let readiness = pipe.take_readiness();
        if readiness.broken {
            return self.disconnect(id.slot);
        }
        self.writable(id.slot);
        self.readable(id.slot, readiness.input_finished);
    }

    pub(crate) fn enqueue_ready(&mut self, slot: Slot) {
        if let Some(Some(conn)) = self.conns.get_mut(slot.index())
            && !conn.in_ready_queue
        {
            conn.in_ready_queue = true;
            self.ready.push_back(slot);
        }
    }

    pub(crate) fn read_ready(&mut self) {
        if self.control.congested() {
            return;
        }
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            if let Some(Some(conn)) = self.conns.get_mut(slot.index()) {
                conn.in_ready_queue = false;
                // The event of a half-closed peer may have been consumed: read to the end.
                self.readable(slot, true);
            }
        }
    }

    pub(crate) fn peer_finished(&mut self, slot: Slot) {
        let Some(conn) = &self.conns[slot.index()] else { return };
        match conn.phase {
            // An HTTP client may close its sending half and continue to read the response.
            Phase::Open if matches!(conn.socket, Socket::Body(_)) => {
                self.hub.half_closed(slot, &mut self.fx);
                self.apply_effects();
            }
            Phase::Open => {
                tidings_session::finish(&mut self.hub, slot, &mut self.fx);
                self.apply_effects();
            }
            Phase::Lingering | Phase::AwaitingClose if !conn.socket.is_behind() => self.disconnect(slot),
            // The connection ends when its queue is flushed, or by its timer.
            Phase::Lingering | Phase::AwaitingClose | Phase::Flushing => {}
        }
    }

    pub(crate) fn resume(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        if conn.control_backlog() > BACKLOG {
            // With unread responses, commands that are read already wait as well.
            conn.backlogged = true;
            conn.resume_owed = true;
            return;
        }
        let flow = tidings_session::input(&mut self.hub, slot, &[], &mut self.fx);
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        conn.stopped = flow == Flow::Stop;
        if flow == Flow::Read {
            self.enqueue_ready(slot);
        }
    }
}
