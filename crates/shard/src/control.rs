//! What a shard asks of the control plane.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidings_hub::{Answer, Interest, Note, Request, SessionId};
use tidings_wire::Topic;

use crate::mailbox::{Mail, Mailbox};

/// The control plane as a shard sees it. Called on shard threads: nothing here may block.
pub trait Control: Send + Sync + 'static {
    /// Makes sure the topic is heard by shard `shard`, and tells how that stands now. While it is
    /// [`Interest::Pending`], mail follows. The count is of the topic's subscribers on the whole node.
    fn want(&self, shard: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>);

    /// Shard `shard` has no subscribers of the topic any more.
    fn unwant(&self, shard: usize, topic: &Topic);

    /// Carries a request out; what came of it goes to `reply`, perhaps before this returns.
    fn ask(&self, request: Request, reply: Reply);

    /// Has something known to others.
    fn tell(&self, note: Note);

    /// Whether more waits in mailboxes than is good; who publishes is then read more slowly.
    fn congested(&self) -> bool;
}

/// Who does the TLS handshakes of connections to the line port.
pub trait Porter: Send + Sync + 'static {
    /// Takes over a connection of which nothing has been read. Called on shard threads: may not block.
    ///
    /// It comes back to any shard as [`Mail::Connection`] once it is encrypted, and counts as a connection of the process
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
    /// The address of the session's client: its peer's, or the one that a trusted proxy has said. `None` without one (a Unix
    /// socket, a trusted proxy that has said none), and where the request is not [`Request::Decide`].
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Sends the outcome.
    pub fn send(self, answer: Answer) {
        self.mailbox.post(Mail::Answer(self.session, self.ticket, answer));
    }
}
