//! Small types that all packets use.

use std::fmt;
use std::num::NonZeroU16;

/// The largest value of a variable byte integer (MQTT 5.0 §1.5.5), and so of a remaining length.
pub(crate) const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// Identifies a packet until it is acknowledged; never 0.
pub type PacketId = NonZeroU16;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// The protocol level in `CONNECT`.
    pub const fn level(self) -> u8 {
        match self {
            Self::V3 => 4,
            Self::V5 => 5,
        }
    }

    /// The version of a protocol level.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            4 => Some(Self::V3),
            5 => Some(Self::V5),
            _ => None,
        }
    }
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Receives `CONNECT`.
    Server,
    /// Sends `CONNECT`.
    Client,
}

/// A quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qos {
    /// 0: at most once.
    #[default]
    AtMostOnce,
    /// 1: at least once.
    AtLeastOnce,
    /// 2: exactly once.
    ExactlyOnce,
}

impl Qos {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce];

    /// The quality of a number; `None` above 2.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// The type of a packet (MQTT 5.0 §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketType {
    /// A client requests a connection.
    Connect = 1,
    /// The answer to `CONNECT`.
    ConnAck,
    /// A message.
    Publish,
    /// Acknowledges a message of QoS 1.
    PubAck,
    /// The first acknowledgement of a message of QoS 2.
    PubRec,
    /// Releases the packet identifier of a message of QoS 2.
    PubRel,
    /// The last acknowledgement of a message of QoS 2.
    PubComp,
    /// Requests subscriptions.
    Subscribe,
    /// The answer to `SUBSCRIBE`.
    SubAck,
    /// Ends subscriptions.
    Unsubscribe,
    /// The answer to `UNSUBSCRIBE`.
    UnsubAck,
    /// Requests `PINGRESP`.
    PingReq,
    /// The answer to `PINGREQ`.
    PingResp,
    /// Announces the end of the connection.
    Disconnect,
    /// A step of enhanced authentication; 5.0 only.
    Auth,
}

impl PacketType {
    /// All types, in the order of their numbers, which begin with 1.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type of a number; `None` for 0 and above 15.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The flags of the fixed header. Those of `PUBLISH` are part of its contents.
    pub(crate) const fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Whether `side` receives packets of this type.
    pub(crate) const fn is_received_by(self, side: Side) -> bool {
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq => {
                matches!(side, Side::Server)
            }
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => matches!(side, Side::Client),
            _ => true,
        }
    }

    /// Its name in the specification.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

/// Bytes that must not appear in a log: a password, or the data of an authentication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sensitive<'a>(pub &'a [u8]);

impl fmt::Debug for Sensitive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
