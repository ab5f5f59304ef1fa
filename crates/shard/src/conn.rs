//! A connection as its shard sees it: the socket, and what it has not taken yet.

use crate::queue::Queue;
use crate::socket::Socket;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Served.
    #[default]
    Open,
    /// Ended; what is queued is still sent.
    Flushing,
    /// Everything is sent, at last a WebSocket's Close frame; the client's is awaited, and input before it is discarded.
    AwaitingClose,
    /// Everything is sent and the sending half shut; input is discarded until the peer closes, so that
    /// unread bytes do not make the kernel reset the connection and take our last words with it.
    Lingering,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) socket: Socket,
    /// Present only while the peer is behind.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) phase: Phase,
    /// The session must not be read from until it is resumed.
    pub(crate) stopped: bool,
    /// The peer sends no more.
    pub(crate) read_closed: bool,
    /// It is in the list of connections to read from without waiting for an event.
    pub(crate) listed: bool,
    /// Reading waits until the peer has taken its answers.
    pub(crate) backlogged: bool,
    /// The session was resumed, which waits for that too: commands already read are carried out before further ones are read.
    pub(crate) resume_owed: bool,
    /// It has published, so it is read from more slowly while mailboxes are congested.
    pub(crate) publishes: bool,
    /// Nothing was received yet, and the first bytes may be a TLS handshake.
    pub(crate) fresh: bool,
}

impl Conn {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            queue: None,
            phase: Phase::Open,
            stopped: false,
            read_closed: false,
            listed: false,
            backlogged: false,
            resume_owed: false,
            publishes: false,
            fresh: false,
        }
    }

    /// Bytes of control traffic the peer has not taken.
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
