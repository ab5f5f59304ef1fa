//! The link of a session: framing × protocol × direction.
//!
//! Each combination that a transport offers is a row of one table, and a session stores the index of its row. No other
//! code enumerates combinations of transports and encodings.

use tidings_mqtt::Version as MqttVersion;
use tidings_wire::client::Encoding;
use tidings_wire::form::Message;
use tidings_wire::resp::Version;
use tidings_wire::{Form, Framing};

/// The protocol of a session's commands and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A connection of the line port before its first byte. Messages to it are plain lines.
    Unknown,
    /// Plain lines.
    Plain,
    /// RESP; version 2 until `HELLO 3`.
    Resp {
        /// The version.
        version: Version,
    },
    /// The client protocol.
    Client {
        /// The encoding of its messages.
        encoding: Encoding,
    },
    /// Server-sent events that contain the data of publications.
    Events,
    /// STOMP 1.2.
    Stomp,
    /// The Pusher protocol.
    Pusher,
    /// MQTT.
    Mqtt {
        /// The version; `None` before `CONNECT`.
        version: Option<MqttVersion>,
        /// Whether messages are made for this session: with a packet identifier, a subscription identifier, or a filter.
        is_addressed: bool,
    },
}

/// The direction of messages on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Commands and replies on the same connection.
    TwoWay,
    /// Replies and pushes; commands arrive in separate HTTP requests.
    Emulated,
    /// Pushes; the client sends one connect message and no further commands.
    OneWay,
}

/// Framing, protocol and direction of a session; one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(u8);

/// A row of [`LINKS`].
struct Row {
    /// The label in metrics.
    name: &'static str,
    framing: Framing,
    protocol: Protocol,
    direction: Direction,
}

impl Row {
    const fn new(name: &'static str, framing: Framing, protocol: Protocol, direction: Direction) -> Self {
        Self { name, framing, protocol, direction }
    }
}

const WEBSOCKET: Framing = Framing::WebSocket { deflate: false };
const WEBSOCKET_DEFLATE: Framing = Framing::WebSocket { deflate: true };
const JSON: Protocol = Protocol::Client { encoding: Encoding::Json };
const PROTOBUF: Protocol = Protocol::Client { encoding: Encoding::Protobuf };

const MQTT: Protocol = Protocol::Mqtt { version: None, is_addressed: false };
const MQTT3_SHARED: Protocol = Protocol::Mqtt { version: Some(MqttVersion::V3), is_addressed: false };
const MQTT3: Protocol = Protocol::Mqtt { version: Some(MqttVersion::V3), is_addressed: true };
const MQTT5_SHARED: Protocol = Protocol::Mqtt { version: Some(MqttVersion::V5), is_addressed: false };
const MQTT5: Protocol = Protocol::Mqtt { version: Some(MqttVersion::V5), is_addressed: true };

/// All combinations. The first row is a new connection of the line port.
const LINKS: [Row; 29] = [
    Row::new("unknown", Framing::Line, Protocol::Unknown, Direction::TwoWay),
    Row::new("plain", Framing::Line, Protocol::Plain, Direction::TwoWay),
    Row::new("resp2", Framing::Raw, Protocol::Resp { version: Version::V2 }, Direction::TwoWay),
    Row::new("resp3", Framing::Raw, Protocol::Resp { version: Version::V3 }, Direction::TwoWay),
    Row::new("json", Framing::Line, JSON, Direction::TwoWay),
    Row::new("websocket_json", WEBSOCKET, JSON, Direction::TwoWay),
    Row::new("websocket_protobuf", WEBSOCKET, PROTOBUF, Direction::TwoWay),
    Row::new("websocket_json_deflate", WEBSOCKET_DEFLATE, JSON, Direction::TwoWay),
    Row::new("websocket_protobuf_deflate", WEBSOCKET_DEFLATE, PROTOBUF, Direction::TwoWay),
    Row::new("http_stream_json", Framing::Line, JSON, Direction::Emulated),
    Row::new("http_stream_protobuf", Framing::Raw, PROTOBUF, Direction::Emulated),
    Row::new("sse", Framing::SseEvent, JSON, Direction::Emulated),
    Row::new("uni_websocket", WEBSOCKET, JSON, Direction::OneWay),
    Row::new("uni_http_stream", Framing::Line, JSON, Direction::OneWay),
    Row::new("uni_sse", Framing::SseEvent, JSON, Direction::OneWay),
    Row::new("events", Framing::SseEvent, Protocol::Events, Direction::OneWay),
    Row::new("stomp", WEBSOCKET, Protocol::Stomp, Direction::TwoWay),
    Row::new("pusher", WEBSOCKET, Protocol::Pusher, Direction::TwoWay),
    Row::new("mqtt_connecting", Framing::Raw, MQTT, Direction::TwoWay),
    Row::new("mqtt3_qos0", Framing::Raw, MQTT3_SHARED, Direction::TwoWay),
    Row::new("mqtt3", Framing::Raw, MQTT3, Direction::TwoWay),
    Row::new("mqtt5_qos0", Framing::Raw, MQTT5_SHARED, Direction::TwoWay),
    Row::new("mqtt5", Framing::Raw, MQTT5, Direction::TwoWay),
    Row::new("websocket_mqtt_connecting", WEBSOCKET, MQTT, Direction::TwoWay),
    Row::new("websocket_mqtt3_qos0", WEBSOCKET, MQTT3_SHARED, Direction::TwoWay),
    Row::new("websocket_mqtt3", WEBSOCKET, MQTT3, Direction::TwoWay),
    Row::new("websocket_mqtt5_qos0", WEBSOCKET, MQTT5_SHARED, Direction::TwoWay),
    Row::new("websocket_mqtt5", WEBSOCKET, MQTT5, Direction::TwoWay),
    Row::new("uni_grpc", Framing::Raw, PROTOBUF, Direction::OneWay),
];

impl Link {
    /// Number of links.
    pub const COUNT: usize = LINKS.len();
    /// A connection of the line port before its first byte.
    pub const UNKNOWN: Self = Self(0);
    /// A connection of MQTT before `CONNECT`, without a WebSocket.
    pub const MQTT: Self = Self(18);

    /// The link with this framing, protocol and direction.
    ///
    /// # Panics
    /// If no row of the table has this combination.
    pub fn new(framing: Framing, protocol: Protocol, direction: Direction) -> Self {
        let matches =
            |row: &Row| (row.framing, row.protocol, row.direction) == (framing, protocol, direction);
        let index = LINKS.iter().position(matches);
        let index = index.unwrap_or_else(|| panic!("no link {framing:?} {protocol:?} {direction:?}"));
        Self(u8::try_from(index).expect("fewer than 256 rows"))
    }

    /// RESP on the line port, in this version.
    pub fn resp(version: Version) -> Self {
        Self::new(Framing::Raw, Protocol::Resp { version }, Direction::TwoWay)
    }

    /// MQTT before `CONNECT`.
    pub fn mqtt(framing: Framing) -> Self {
        Self::new(framing, MQTT, Direction::TwoWay)
    }

    /// All links, in the order of [`Link::index`].
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..LINKS.len()).map(|index| Self(u8::try_from(index).expect("fewer than 256 rows")))
    }

    fn row(self) -> &'static Row {
        &LINKS[usize::from(self.0)]
    }

    /// The index of its row, below [`Link::COUNT`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The label in metrics.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The framing of its messages.
    pub fn framing(self) -> Framing {
        self.row().framing
    }

    /// The protocol.
    pub fn protocol(self) -> Protocol {
        self.row().protocol
    }

    /// The direction of its messages.
    pub fn direction(self) -> Direction {
        self.row().direction
    }

    /// The wire form of its publications.
    pub fn form(self) -> Form {
        let message = match self.protocol() {
            Protocol::Unknown | Protocol::Plain => Message::Plain,
            Protocol::Resp { version } => Message::Resp(version),
            Protocol::Client { encoding } if self.is_one_way() => Message::Push(encoding),
            Protocol::Client { encoding } => Message::Reply(encoding),
            Protocol::Events => Message::Event,
            Protocol::Stomp => Message::Stomp,
            Protocol::Pusher => Message::Pusher,
            // Before CONNECT there are no subscriptions.
            Protocol::Mqtt { version, is_addressed } => {
                Message::Mqtt { version: version.unwrap_or(MqttVersion::V5), is_addressed }
            }
        };
        Form::new(self.framing(), message)
    }

    /// The encoding of client protocol messages; JSON for links of other protocols.
    pub fn encoding(self) -> Encoding {
        match self.protocol() {
            Protocol::Client { encoding } => encoding,
            _ => Encoding::Json,
        }
    }

    /// Whether its commands are those of the client protocol. Streams of plain events are included.
    pub fn is_client(self) -> bool {
        matches!(self.protocol(), Protocol::Client { .. } | Protocol::Events)
    }

    /// Whether its protocol is MQTT.
    pub fn is_mqtt(self) -> bool {
        matches!(self.protocol(), Protocol::Mqtt { .. })
    }

    /// Whether the client receives pushes and no replies.
    pub fn is_one_way(self) -> bool {
        self.direction() == Direction::OneWay
    }

    /// Whether commands arrive in separate HTTP requests.
    pub fn is_emulated(self) -> bool {
        self.direction() == Direction::Emulated
    }

    /// Whether its messages are WebSocket frames.
    pub fn is_websocket(self) -> bool {
        self.framing().is_websocket()
    }

    /// Whether it is a stream of plain events.
    pub fn is_events(self) -> bool {
        self.protocol() == Protocol::Events
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_row_is_found_by_its_parts_and_has_a_unique_name() {
        let mut names = HashSet::new();
        for link in Link::all() {
            assert_eq!(Link::new(link.framing(), link.protocol(), link.direction()), link);
            assert!(names.insert(link.name()), "{}", link.name());
        }
        assert_eq!(names.len(), Link::COUNT);
        assert_eq!((Link::default(), Link::UNKNOWN.name()), (Link::UNKNOWN, "unknown"));
    }
}
