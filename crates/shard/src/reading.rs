//! Reading: from sockets to the hub, a turn at a time, and never from a peer that leaves its answers unread.

use std::io;

use tidings_hub::{Flow, Slot};

use crate::conn::Phase;
use crate::metrics::add;
use crate::shard::{BACKLOG, SCRATCH, Shard};
use crate::socket::Socket;

/// Bytes read from one connection before it is the others' turn; those that compressed messages become count too, since
/// they are what takes time.
const TURN: u64 = 4 * SCRATCH as u64;

impl Shard {
    /// Reads from a connection until it has nothing, must wait, or has had its turn.
    pub(crate) fn readable(&mut self, slot: Slot, closed: bool) {
        let mut turn = 0_u64;
        loop {
            let Some(conn) = self.conns.get_mut(slot.index()).and_then(Option::as_mut) else { return };
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
            if conn.fresh {
                match conn.socket.begins_with_tls() {
                    Ok(true) => return self.secure(slot),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                    // A read will report the error.
                    Ok(false) | Err(_) => conn.fresh = false,
                }
            }
            let holds_back = conn.socket.holds_back();
            let n = match conn.socket.read(&mut self.scratch) {
                Ok(0) => {
                    conn.read_closed = true;
                    return self.peer_finished(slot);
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    turn += SCRATCH as u64;
                    if turn >= TURN {
                        return self.list(slot);
                    }
                    continue;
                }
                Err(_) => return self.lose(slot),
            };
            add(&self.metrics.bytes_in, n as u64);
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
            turn += n as u64 + (self.hub.protocols.inflated() - inflated);
            if std::mem::take(&mut self.has_published)
                && let Some(Some(conn)) = self.conns.get_mut(slot.index())
            {
                conn.publishes = true;
            }
            if turn >= TURN {
                return self.list(slot);
            }
            // A short read has emptied the socket; further bytes raise a new event.
            if n < SCRATCH && !closed && !holds_back {
                return;
            }
        }
    }

    pub(crate) fn list(&mut self, slot: Slot) {
        if let Some(Some(conn)) = self.conns.get_mut(slot.index())
            && !conn.listed
        {
            conn.listed = true;
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
                conn.listed = false;
                // The event that the peer closed its side may be past: read to the end.
                self.readable(slot, true);
            }
        }
    }

    pub(crate) fn peer_finished(&mut self, slot: Slot) {
        let Some(conn) = &self.conns[slot.index()] else { return };
        match conn.phase {
            // A client may send no more and go on reading its answer, however long that is.
            Phase::Open if matches!(conn.socket, Socket::Body(_)) => {
                self.hub.half_closed(slot, &mut self.fx);
                self.apply_effects();
            }
            Phase::Open => {
                tidings_session::finish(&mut self.hub, slot, &mut self.fx);
                self.apply_effects();
            }
            Phase::Lingering | Phase::AwaitingClose if !conn.socket.is_behind() => self.lose(slot),
            // It ends when it has been sent what is left, or its time is over.
            Phase::Lingering | Phase::AwaitingClose | Phase::Flushing => {}
        }
    }

    pub(crate) fn resume(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        if conn.control_backlog() > BACKLOG {
            // With answers unread, commands that are here already wait as those still in the socket do.
            conn.backlogged = true;
            conn.resume_owed = true;
            return;
        }
        let flow = tidings_session::input(&mut self.hub, slot, &[], &mut self.fx);
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        conn.stopped = flow == Flow::Stop;
        if flow == Flow::Read {
            self.list(slot);
        }
    }
}
