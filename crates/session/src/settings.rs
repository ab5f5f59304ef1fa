//! The settings of the protocols, already validated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_mqtt::Qos;
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
    /// MQTT; `None` where it is not served.
    pub mqtt: Option<MqttSettings>,
    /// The apps of the Pusher protocol, by their numbers ([`Opening::App`](crate::PusherOpening::App)).
    pub pusher_apps: BTreeMap<u8, Arc<App>>,
}

/// The settings of MQTT.
#[derive(Clone, Copy, Debug)]
pub struct MqttSettings {
    /// Largest packet of a client in bytes, with its fixed header.
    pub max_packet: usize,
    /// Most messages with QoS 1 or 2 of a client of 5.0 that are not acknowledged yet.
    pub receive_maximum: u16,
    /// Most messages with QoS 1 or 2 to a client that it has not acknowledged, if it accepts that many.
    pub max_in_flight: u16,
    /// Most bytes of further such messages, which wait; with those of a session that outlives its connection.
    pub queue_bytes: usize,
    /// The highest topic alias of a client.
    pub topic_alias_maximum: u16,
    /// The longest keep-alive time of a client of 5.0 in seconds; 0 without a limit.
    pub max_keep_alive: u16,
    /// How long a session outlives its connection at most, in seconds; 0 where sessions end with it.
    pub session_expiry_max: u32,
    /// Whether the store of sessions has files, and gets each step of a session.
    pub has_files: bool,
    /// Whether the broker stores the wills.
    pub has_shared_wills: bool,
    /// Whether the broker stores the sessions.
    pub has_shared_sessions: bool,
    /// Whether the broker selects the members of shared subscriptions.
    pub has_shared_groups: bool,
    /// Whether retained messages are kept.
    pub retain_available: bool,
    /// Whether shared subscriptions are available.
    pub shared_available: bool,
    /// The QoS of publications of other protocols.
    pub default_qos: Qos,
}

impl MqttSettings {
    /// The settings of a server without configuration.
    pub const fn workbench() -> Self {
        Self {
            max_packet: 65_536,
            receive_maximum: 1_024,
            max_in_flight: 100,
            queue_bytes: 1 << 20,
            topic_alias_maximum: 16,
            max_keep_alive: 0,
            session_expiry_max: 7 * 24 * 3600,
            has_files: false,
            has_shared_wills: false,
            has_shared_sessions: false,
            has_shared_groups: false,
            retain_available: true,
            shared_available: true,
            default_qos: Qos::AtLeastOnce,
        }
    }
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
            mqtt: Some(MqttSettings::workbench()),
            pusher_apps: BTreeMap::new(),
        }
    }
}
