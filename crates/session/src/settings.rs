//! The settings of the protocols, already validated.

use std::sync::Arc;
use std::time::Duration;

use tidings_pusher::App;
use tidings_wire::Channel;

/// The settings of the protocols of a server. Shared and immutable; [`Protocols::set_settings`](crate::Protocols::set_settings)
/// replaces them.
#[derive(Debug)]
pub struct ProtocolSettings {
    /// The channels that new plain connections are subscribed to.
    pub auto_subscribe: Vec<Channel>,
    /// How long the automatic subscriptions wait for the first byte, which determines the protocol.
    pub first_byte_wait: Duration,
    /// Whether a plain line that is no command is echoed. Otherwise it is an unknown command.
    pub echo: bool,
    /// Longest line, and longest RESP bulk string, in bytes without its ending.
    pub max_line: usize,
    /// Longest message of a WebSocket client, in bytes.
    pub max_message: usize,
    /// Most bytes of unused input of all sessions of a hub. Beyond it, a session that adds input is ended.
    pub input_limit: usize,
    /// The apps of the Pusher protocol, by their numbers.
    pub pusher_apps: Vec<Arc<App>>,
}

impl ProtocolSettings {
    /// The settings of a server without configuration, with small limits: for tests and benchmarks.
    ///
    /// # Panics
    /// Never: the name of the default channel is valid.
    pub fn workbench() -> Self {
        Self {
            auto_subscribe: vec![Channel::new("updates").expect("a valid name")],
            first_byte_wait: Duration::from_millis(250),
            echo: true,
            max_line: 65_536,
            max_message: 65_536,
            input_limit: 1 << 20,
            pusher_apps: Vec::new(),
        }
    }
}
