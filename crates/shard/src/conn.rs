//! A connection: its socket, and the bytes that the socket has not accepted.

use crate::queue::Queue;
use crate::socket::Socket;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The session is open.
    #[default]
    Open,
    /// The session has ended; the queue is flushed.
    Flushing,
    /// The queue is flushed, with a WebSocket's Close frame at the end. The client's Close frame is awaited; input
    /// before it is discarded.
    AwaitingClose,
    /// The queue is flushed, and the sending half is shut. Input is discarded until the peer closes, because unread
    /// input would make the kernel reset the connection, and the last bytes would be lost.
    Lingering,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) socket: Socket,
    /// Present only while the peer has not accepted everything.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) phase: Phase,
    /// The session is not read from until it is resumed.
    pub(crate) stopped: bool,
    /// The peer sends no more.
    pub(crate) read_closed: bool,
    /// The connection is in the queue of connections to read from without an event.
    pub(crate) in_ready_queue: bool,
    /// Reading waits until the peer has read its responses.
    pub(crate) backlogged: bool,
    /// The session was resumed while reading was waiting: its kept commands are executed before further input is read.
    pub(crate) resume_owed: bool,
    /// The connection has published, so it is not read from while mailboxes are congested.
    pub(crate) publishes: bool,
    /// Nothing was received yet, and the first byte may begin a TLS handshake.
    pub(crate) may_begin_tls: bool,
}

impl Conn {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            queue: None,
            phase: Phase::Open,
            stopped: false,
            read_closed: false,
            in_ready_queue: false,
            backlogged: false,
            resume_owed: false,
            publishes: false,
            may_begin_tls: false,
        }
    }

    /// Bytes of control traffic that the peer has not read.
    pub(crate) fn control_backlog(&self) -> usize {
        self.queue.as_ref().map_or(0, |q| q.control())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // mio's sockets are larger in debug builds.
        let bound = if cfg!(debug_assertions) { 40 } else { 32 };
        assert!(size_of::<Option<Conn>>() <= bound, "{}", size_of::<Option<Conn>>());
    }
}
