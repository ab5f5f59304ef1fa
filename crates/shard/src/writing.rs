//! Writing of control traffic, flushing of queues, and closing.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_hub::Slot;
use tidings_wire::code::HttpStatus;
use tidings_wire::sse;

use crate::conn::{Conn, Phase};
use crate::counters::TransportKind;
use crate::metrics::{add, sub};
use crate::queue::{Flushed, Queue};
use crate::shard::{BACKLOG, Shard, TimerEvent};
use crate::socket::Socket;

/// The time in which the peer of an ended connection must close its side.
const LINGER: Duration = Duration::from_secs(2);

/// The time in which the client of a WebSocket must answer a Close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

impl Shard {
    pub(crate) fn writable(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        match conn.socket.flush() {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => return self.disconnect(slot),
        }
        let Some(queue) = &mut conn.queue else {
            match conn.phase {
                Phase::Open => {}
                Phase::Flushing => {
                    self.linger(slot);
                    self.apply_effects();
                }
                Phase::Lingering | Phase::AwaitingClose if conn.read_closed => self.disconnect(slot),
                Phase::Lingering | Phase::AwaitingClose => {}
            }
            return;
        };
        let before = queue.cost();
        let mut sent = 0;
        let flushed = queue.flush(&mut conn.socket, &mut sent);
        let after = queue.cost();
        if queue.is_empty() {
            conn.queue = None;
            sub(&self.metrics.stalled, 1);
        }
        let caught_up = conn.backlogged && conn.control_backlog() <= BACKLOG;
        // Bytes in a layer below are sent first.
        let ended = conn.phase == Phase::Flushing && !conn.socket.is_behind();
        let mut resume = false;
        if caught_up {
            conn.backlogged = false;
            resume = std::mem::take(&mut conn.resume_owed);
        }
        add(&self.metrics.bytes_out, sent);
        if !self.ends.is_empty() {
            self.ends.sent(slot, sent);
        }
        self.queue_changed(before, after);
        match flushed {
            Err(_) => self.disconnect(slot),
            Ok(Flushed::All) if ended => {
                self.linger(slot);
                self.apply_effects();
            }
            Ok(_) if resume => {
                self.resume(slot);
                self.apply_effects();
            }
            Ok(_) if caught_up => self.enqueue_ready(slot),
            Ok(_) => {}
        }
        self.start_held_reads(slot);
        if !self.held_deliveries.is_empty() {
            self.send_held_streams(slot);
        }
    }

    /// Starts reads that wait until the peer has read its responses.
    fn start_held_reads(&mut self, slot: Slot) {
        let taken =
            matches!(self.conns.get(slot.index()), Some(Some(conn)) if conn.control_backlog() <= BACKLOG);
        if taken
            && let Some(id) = self.hub.get_session_id(slot)
            && self.reads.release_held(id)
        {
            self.start_reads();
            self.apply_effects();
        }
    }

    /// Updates the sums of queued bytes.
    pub(crate) fn queue_changed(&self, before: usize, after: usize) {
        self.reserved_queue_changed(before, after, 0);
    }

    /// Updates the sums of queued bytes; that of all shards contains `reserved` bytes of the change already.
    pub(crate) fn reserved_queue_changed(&self, before: usize, after: usize, reserved: usize) {
        let counted = before + reserved;
        if after >= counted {
            self.process.queued.fetch_add(after - counted, Ordering::Relaxed);
        } else {
            self.process.queued.fetch_sub(counted - after, Ordering::Relaxed);
        }
        if after >= before {
            add(&self.metrics.queued, (after - before) as u64);
        } else {
            sub(&self.metrics.queued, (before - after) as u64);
        }
    }

    pub(crate) fn send_control(&mut self, slot: Slot, range: Range<usize>) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        let bytes = &self.fx.bytes[range];
        if let Some(queue) = &mut conn.queue {
            let before = queue.cost();
            queue.push_control(Bytes::copy_from_slice(bytes));
            let after = queue.cost();
            self.queue_changed(before, after);
            return self.watch_unread_responses(slot);
        }
        // A readiness event reports the error.
        let Ok(written) = conn.socket.write_some(bytes) else { return };
        add(&self.metrics.bytes_out, written as u64);
        if !self.ends.is_empty() {
            self.ends.sent(slot, written as u64);
        }
        if written < bytes.len() {
            let mut queue = Box::new(Queue::default());
            queue.push_control(Bytes::copy_from_slice(&bytes[written..]));
            let after = queue.cost();
            conn.queue = Some(queue);
            add(&self.metrics.stalled, 1);
            self.queue_changed(0, after);
            self.watch_unread_responses(slot);
        }
    }

    /// Opens a session's stream: the response that waits for it begins.
    pub(crate) fn open_stream(&mut self, slot: Slot) {
        if let Some(Some(conn)) = self.conns.get_mut(slot.index())
            && let Socket::Body(body) = &mut conn.socket
        {
            // A readiness event reports the error.
            let _ = body.open();
        }
    }

    /// Refuses a session's stream: with the status of its response if that has not begun, otherwise with an event.
    pub(crate) fn refuse_stream(&mut self, slot: Slot, status: HttpStatus, error: Range<usize>) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        let error = &self.fx.bytes[error];
        let is_refused = match &mut conn.socket {
            Socket::Body(body) => body.refuse_stream(status, error).unwrap_or(true),
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Tls(_) | Socket::Pipe(_) => false,
        };
        if !is_refused {
            let mut event = Vec::new();
            sse::error(error, &mut event);
            let start = self.fx.bytes.len();
            self.fx.bytes.extend_from_slice(&event);
            self.send_control(slot, start..self.fx.bytes.len());
        }
    }

    /// Closes a connection when its queue is flushed.
    pub(crate) fn close(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        conn.phase = Phase::Flushing;
        conn.stopped = false;
        conn.resume_owed = false;
        if conn.queue.is_some() || conn.socket.is_behind() {
            let delay = self.limits.close_delay;
            if let Some(id) = self.hub.get_session_id(slot) {
                self.start(delay, TimerEvent::Close(id));
            }
        } else {
            self.linger(slot);
        }
    }

    pub(crate) fn linger(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        if conn.phase == Phase::Flushing
            && !conn.read_closed
            && tidings_session::awaits_close(&self.hub, slot)
        {
            conn.phase = Phase::AwaitingClose;
            conn.backlogged = false;
            if let Some(id) = self.hub.get_session_id(slot) {
                self.start(CLOSE_WAIT, TimerEvent::Close(id));
            }
            return self.enqueue_ready(slot);
        }
        conn.phase = Phase::Lingering;
        conn.backlogged = false;
        // A body and TLS have their own end marker, which a half-closed client still reads.
        let silent = conn.read_closed && matches!(conn.socket, Socket::Tcp(_) | Socket::Unix(_));
        if silent || conn.socket.finish().is_err() || conn.read_closed && !conn.socket.is_behind() {
            return self.remove_connection(slot);
        }
        if let Some(id) = self.hub.get_session_id(slot) {
            self.start(LINGER, TimerEvent::Close(id));
        }
        self.enqueue_ready(slot);
    }

    /// Removes a connection and closes its socket. The caller applies the effects with [`Shard::apply_effects`].
    pub(crate) fn remove_connection(&mut self, slot: Slot) {
        self.log_end(slot);
        drop(self.take_connection(slot));
    }

    /// Removes a connection and returns it. The caller applies the effects.
    pub(crate) fn take_connection(&mut self, slot: Slot) -> Option<Conn> {
        let conn = self.conns.get_mut(slot.index()).and_then(Option::take)?;
        if let Some(queue) = &conn.queue {
            sub(&self.metrics.stalled, 1);
            self.queue_changed(queue.cost(), 0);
        }
        sub(&self.metrics.connections[TransportKind::from(&conn.socket)], 1);
        self.process.release_connection();
        self.ends.forget(slot);
        self.drop_held_streams(slot);
        if !self.clients.is_empty() {
            self.clients.remove(&slot);
        }
        if !self.addresses.is_empty()
            && let Some(key) = self.addresses.remove(&slot)
        {
            self.process.addresses.release(key);
        }
        if let Some(id) = self.hub.get_session_id(slot) {
            self.reads.drop_session(id);
        }
        self.hub.closed(slot, &mut self.fx);
        Some(conn)
    }

    /// Removes a connection and applies the effects. Must not be called within [`Shard::apply_effects`].
    pub(crate) fn disconnect(&mut self, slot: Slot) {
        self.remove_connection(slot);
        self.apply_effects();
    }
}
