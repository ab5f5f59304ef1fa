//! What a shard requests from the control plane.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidings_hub::{Interest, Notification, Request, Response, SessionId};
use tidings_wire::Topic;

use crate::mailbox::{Mailbox, ShardMessage};

/// The control plane as a shard sees it. Called on shard threads: nothing here may block.
pub trait Control: Send + Sync + 'static {
    /// Subscribes the topic for shard `shard`, and gives its state now. While it is
    /// [`Interest::Pending`], a message follows. The count is of the topic's subscribers on the whole node.
    fn subscribe_topic(&self, shard: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>);

    /// Shard `shard` has no subscribers of the topic any more.
    fn unsubscribe_topic(&self, shard: usize, topic: &Topic);

    /// Carries a request out; the response goes to `reply`, perhaps before this returns.
    fn request(&self, request: Request, reply: Reply);

    /// Publishes a change of presence.
    fn notify(&self, note: Notification);

    /// Whether mailboxes are congested; publishers are then read from more slowly.
    fn congested(&self) -> bool;
}

/// Does the TLS handshakes of connections to the line port.
pub trait TlsHandoff: Send + Sync + 'static {
    /// Takes over a connection of which nothing has been read. Called on shard threads: may not block.
    ///
    /// It comes back to any shard as [`ShardMessage::Connection`] once it is encrypted, and counts as a connection of the process
    /// ([`Process::connections`](crate::Process::connections)) until then.
    fn secure(&self, stream: TcpStream);
}

/// Where the outcome of a request goes: back to one session, if it is still there.
#[derive(Debug)]
pub struct Reply {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) session: SessionId,
    pub(crate) ticket: u32,
    pub(crate) peer: Option<IpAddr>,
}

impl Reply {
    /// The address of the session's client: its peer's, or the one that a trusted proxy has forwarded. `None` without one (a
    /// Unix socket, a trusted proxy that has forwarded none), and where the request is not [`Request::Decide`].
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Sends the outcome.
    pub fn send(self, answer: Response) {
        self.mailbox.post(ShardMessage::Response(self.session, self.ticket, answer));
    }
}
