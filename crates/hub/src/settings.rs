//! The settings of sessions, already validated.

use std::time::Duration;

use tidings_wire::Channel;
use tidings_wire::plain::Escape;

use crate::access::Access;
use crate::identity::SessionKey;
use crate::namespace::Namespaces;
use crate::usage::Usage;

/// The same for every hub of a server; shared, never changed while it runs.
#[derive(Debug)]
pub struct Settings {
    /// What `SUBSCRIBE` without a name means on the line port, and whose messages arrive there bare.
    pub default_channel: Channel,
    /// The channels that a new plain connection is subscribed to.
    pub auto_subscribe: Vec<Channel>,
    /// Whether a line that is no command is echoed (`true`) or an unknown command (`false`).
    pub echo: bool,
    /// Which bodies are escaped on plain lines.
    pub escape: Escape,
    /// Longest line, and longest RESP bulk string, in bytes without its ending.
    pub max_line: usize,
    /// Most bytes of half-read commands of all sessions of a hub together; past it, a session that adds to them is ended.
    pub input_limit: usize,
    /// How long automatic subscriptions wait for the first byte, which decides the protocol.
    pub first_byte_wait: Duration,
    /// Most subscriptions of one connection.
    pub channel_limit: usize,
    /// How often the server pings sessions of the client protocol; zero for never.
    pub ping_interval: Duration,
    /// How long such a ping may go unanswered; zero for ever.
    pub pong_timeout: Duration,
    /// How long a session of the client protocol may take to connect.
    pub stale_close_delay: Duration,
    /// The rules of access.
    pub access: Access,
    /// The options of channels.
    pub namespaces: Namespaces,
    /// Longest message of a client over a WebSocket, in bytes.
    pub max_message: usize,
    /// Most bytes that a client is sent when it recovers or reads a history, and that are kept for it while it subscribes.
    pub recovery_bytes: usize,
    /// Most publications that a client is sent when it recovers.
    pub recovery_limit: usize,
    /// Whether the application decides about every connection.
    pub connect_proxy: bool,
    /// Channels whose names begin like this need a subscription token; empty for none.
    pub private_prefix: String,
    /// Whether every user is subscribed to a channel of its own, and in which namespace (empty for none).
    pub personal_channel: Option<String>,
    /// How long a connection may stay after its token has expired, so that a new one can come.
    pub expired_close_delay: Duration,
    /// How long a subscription may.
    pub expired_sub_close_delay: Duration,
    /// How much an address and a user may use.
    pub usage: Usage,
    /// The key from which client ids and session secrets are derived.
    pub session_key: SessionKey,
    /// What this node calls itself to clients, so that what they send elsewhere finds it.
    pub node: String,
}
