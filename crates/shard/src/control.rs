//! The requests of a shard to the control plane.

use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidings_hub::{Interest, SessionId};
use tidings_session::{Notification, Request, Response};
use tidings_wire::Topic;

use crate::mailbox::{Mailbox, ShardMessage};
use crate::socket::LineRules;

/// The control plane, called on shard threads. No method may block.
pub trait Control: Send + Sync + 'static {
    /// Subscribes to the topic for shard `shard`. Returns its state, and the number of its subscribers on the whole
    /// node. If the state is [`Interest::Pending`], a message follows.
    fn subscribe_topic(&self, shard: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>);

    /// Shard `shard` has no subscribers of the topic any more.
    fn unsubscribe_topic(&self, shard: usize, topic: &Topic);

    /// Executes a request. The response is sent to `reply`, possibly before this returns.
    fn request(&self, request: Request, reply: Reply);

    /// Publishes a change of presence.
    fn notify(&self, note: Notification);

    /// Whether mailboxes are congested; publishers are not read from meanwhile.
    fn congested(&self) -> bool;
}

/// Executes the TLS handshakes of the line port.
pub trait TlsHandoff: Send + Sync + 'static {
    /// Takes a connection from which nothing was read besides a PROXY header, with the source in that header, and
    /// whether its protocol is MQTT ([`LineRules::is_mqtt`]). Called on shard threads; must not block.
    ///
    /// After the handshake, the connection returns to any shard as [`ShardMessage::Connection`]. Until then it counts
    /// as a connection of the process ([`Process::connections`](crate::Process::connections)).
    fn secure(&self, stream: TcpStream, proxy_source: Option<IpAddr>, is_mqtt: bool);
}

/// Reads the PROXY headers of the line port.
pub trait ProxyHandoff: Send + Sync + 'static {
    /// Takes an accepted connection from which nothing was read. Called on shard threads; must not block.
    ///
    /// After the header, the connection returns to any shard as [`ShardMessage::Connection`], with the source in the
    /// header and the same rules. Until then it counts as a connection of the process.
    fn read_header(&self, connection: AcceptedConnection, rules: LineRules);
}

/// An accepted connection, non-blocking, which is registered for no events.
#[derive(Debug)]
pub enum AcceptedConnection {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// The parts of the control plane that take connections of the line port before a session begins.
#[derive(Clone, Default)]
pub struct Handoffs {
    /// Executes TLS handshakes, if TLS is configured.
    pub tls: Option<Arc<dyn TlsHandoff>>,
    /// Reads PROXY headers. Required for a [proxied](crate::Listener::proxied) listener.
    pub proxy: Option<Arc<dyn ProxyHandoff>>,
}

/// The recipient of a response: one session, if it still exists.
#[derive(Debug)]
pub struct Reply {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) session: SessionId,
    pub(crate) ticket: u32,
    pub(crate) peer: Option<IpAddr>,
}

impl Reply {
    /// The address of the session's client: that of the peer, or the one that a trusted proxy has forwarded. `None` if
    /// there is none (a Unix socket, a trusted proxy that has forwarded none), and for requests other than
    /// [`Request::Authorize`].
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// The session that gets the response.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The mailbox of its shard.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Sends the response, which later publications do not overtake.
    pub fn send_in_order(self, response: Response) {
        self.mailbox.post(ShardMessage::OrderedResponse(self.session, self.ticket, response));
    }

    /// Sends the response.
    pub fn send(self, response: Response) {
        self.mailbox.post(ShardMessage::Response(self.session, self.ticket, response));
    }
}
