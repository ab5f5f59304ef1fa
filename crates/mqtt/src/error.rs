//! The errors of decoding and encoding.

use thiserror::Error;

use crate::property_id::PropertyId;
use crate::reason::ReasonCode;
use crate::statement;
use crate::types::{PacketType, Side, Version};

/// The reason why a packet cannot be decoded. The connection has to be closed (3.1.1 §4.8, 5.0 §4.13).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}{violation} [{}]", prefix(*.packet), .violation.statement(*.packet, *.version))]
pub struct Error {
    /// The broken rule.
    pub violation: Violation,
    /// The type of the packet, if its first byte has one.
    pub packet: Option<PacketType>,
    /// The version of the connection, or of this `CONNECT`; `None` while it is unknown.
    pub version: Option<Version>,
}

impl Error {
    /// The code for `CONNACK` or `DISCONNECT` in 5.0.
    pub const fn reason(&self) -> ReasonCode {
        self.violation.reason()
    }

    /// The number of the normative statement that the packet breaks, such as `MQTT-3.3.2-2`. While the version is unknown,
    /// it is a number of 5.0.
    pub const fn statement(&self) -> &'static str {
        self.violation.statement(self.packet, self.version)
    }

    /// The version in which the server answers this `CONNECT` with [`reason`](Self::reason) before it closes the connection;
    /// `None` if it closes the connection without an answer.
    ///
    /// A malformed `CONNECT` of 3.1.1 gets no answer (MQTT-3.1.4-1). A client with an older level, such as MQTT 3.1, expects
    /// the `CONNACK` of 3.1.1 (MQTT-3.1.2-2); one with a newer level is likely to understand that of 5.0.
    pub const fn connack_version(&self) -> Option<Version> {
        match (self.packet, self.violation, self.version) {
            (Some(PacketType::Connect), Violation::ProtocolLevel(level), _) => {
                Some(if level <= Version::V5.level() { Version::V3 } else { Version::V5 })
            }
            (Some(PacketType::Connect), Violation::SecondConnect, _) => None,
            (Some(PacketType::Connect), _, Some(Version::V5)) => Some(Version::V5),
            _ => None,
        }
    }
}

fn prefix(packet: Option<PacketType>) -> String {
    packet.map_or_else(String::new, |packet| format!("{}: ", packet.as_str()))
}

/// A rule that a packet breaks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// A packet type that does not exist in this version.
    #[error("the packet type {0} is reserved")]
    PacketType(u8),
    /// A packet that only the other side receives.
    #[error("the packet is for the other side of a connection")]
    Direction,
    /// Flags in the fixed header that the packet type does not have.
    #[error("the flags of the fixed header are {0:#06b}")]
    Flags(u8),
    /// A variable byte integer of more than four bytes.
    #[error("a length has more than four bytes")]
    Length,
    /// A variable byte integer for which a shorter form exists.
    #[error("a length is not in its shortest form")]
    LengthNotShortest,
    /// A packet above the limit of the decoder.
    #[error("the packet has {size} bytes, more than the limit of {limit} bytes")]
    TooLarge {
        /// The size of the packet in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// The side with the limit.
        receiver: Side,
    },
    /// The first packet of a client is not `CONNECT`.
    #[error("the first packet is not CONNECT")]
    NotConnect,
    /// A `CONNECT` on a connection that has had one.
    #[error("the connection has had a CONNECT")]
    SecondConnect,
    /// A protocol name other than `MQTT`, or `MQIsdp` of MQTT 3.1.
    #[error("the protocol name is not MQTT")]
    ProtocolName,
    /// A protocol level other than 4 and 5.
    #[error("the protocol level {0} is not supported; supported are 4 (3.1.1) and 5 (5.0)")]
    ProtocolLevel(u8),
    /// The reserved flag of `CONNECT`.
    #[error("the reserved connect flag is set")]
    ReservedConnectFlag,
    /// A will with QoS 3.
    #[error("the QoS of the will is 3")]
    WillQos,
    /// A QoS of a will without a will.
    #[error("the QoS of the will is set without a will")]
    QosWithoutWill,
    /// The retain flag of a will without a will.
    #[error("the retain flag of the will is set without a will")]
    RetainWithoutWill,
    /// A password without a user name, in 3.1.1.
    #[error("a password without a user name")]
    PasswordWithoutUserName,
    /// A field that is longer than the rest of the packet.
    #[error("the packet ends within a field")]
    Truncated,
    /// Bytes behind the last field.
    #[error("bytes after the last field")]
    Trailing,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A string with U+0000.
    #[error("a string contains U+0000")]
    Nul,
    /// The packet identifier 0.
    #[error("the packet identifier is 0")]
    PacketIdZero,
    /// `PUBLISH` with QoS 3.
    #[error("the QoS is 3")]
    Qos,
    /// `PUBLISH` with the DUP flag and QoS 0.
    #[error("the DUP flag is set with QoS 0")]
    DupWithoutQos,
    /// A topic name without characters, and without a topic alias.
    #[error("the topic name is empty")]
    EmptyTopic,
    /// A topic name, also of a will, with `+` or `#`.
    #[error("the topic name contains a wildcard")]
    WildcardInTopic,
    /// A response topic that is empty or contains a wildcard.
    #[error("the response topic is not a topic name")]
    ResponseTopic,
    /// `SUBSCRIBE` or `UNSUBSCRIBE` without a topic filter.
    #[error("no topic filter")]
    NoFilter,
    /// Reserved bits in the options of a subscription, or QoS 3 in 3.1.1.
    #[error("reserved bits in the options of a subscription")]
    SubscriptionOptions,
    /// A subscription with QoS 3.
    #[error("the maximum QoS of a subscription is 3")]
    SubscriptionQos,
    /// A subscription with the retain handling 3.
    #[error("the retain handling of a subscription is 3")]
    RetainHandling,
    /// A shared subscription with the No Local option.
    #[error("a shared subscription has the No Local option")]
    NoLocalShared,
    /// Reserved bits in the flags of `CONNACK`.
    #[error("reserved bits in the connect acknowledge flags")]
    ConnAckFlags,
    /// `CONNACK` with an error and a present session.
    #[error("a session is present after an error")]
    SessionPresent,
    /// A reason code that the packet type does not have.
    #[error("the packet type has no reason code {0:#04x}")]
    ReasonCode(u8),
    /// `SUBACK` or `UNSUBACK` without a reason code.
    #[error("no reason code")]
    NoReasonCode,
    /// A property that does not exist.
    #[error("unknown property {0:#x}")]
    UnknownProperty(u32),
    /// A property that the packet type does not have.
    #[error("the packet type has no property {0:?}")]
    PropertyNotAllowed(PropertyId),
    /// A property that occurs more than once.
    #[error("the property {0:?} occurs more than once")]
    RepeatedProperty(PropertyId),
    /// A property with a value that it cannot have.
    #[error("the property {0:?} has a value that is not allowed")]
    PropertyValue(PropertyId),
    /// A subscription identifier in a client's `PUBLISH`.
    #[error("a client sent a subscription identifier")]
    SubscriptionIdentifier,
    /// A session expiry interval in a server's `DISCONNECT`.
    #[error("a server sent a session expiry interval")]
    SessionExpiryInterval,
    /// Authentication data, or `AUTH`, without an authentication method.
    #[error("no authentication method")]
    NoAuthenticationMethod,
}

impl Violation {
    /// The code for `CONNACK` or `DISCONNECT` in 5.0. A packet that cannot be parsed is malformed; one with contents that the
    /// protocol does not allow is a protocol error (5.0 §1.2).
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::TooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::ProtocolLevel(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::WildcardInTopic => ReasonCode::TopicNameInvalid,
            Self::PropertyValue(PropertyId::TopicAlias) => ReasonCode::TopicAliasInvalid,
            Self::PacketType(_)
            | Self::Flags(_)
            | Self::Length
            | Self::LengthNotShortest
            | Self::ReservedConnectFlag
            | Self::WillQos
            | Self::QosWithoutWill
            | Self::RetainWithoutWill
            | Self::PasswordWithoutUserName
            | Self::Truncated
            | Self::Trailing
            | Self::NotUtf8
            | Self::Nul
            | Self::Qos
            | Self::DupWithoutQos
            | Self::SubscriptionOptions
            | Self::ConnAckFlags
            | Self::UnknownProperty(_)
            | Self::PropertyNotAllowed(_) => ReasonCode::MalformedPacket,
            Self::Direction
            | Self::NotConnect
            | Self::SecondConnect
            | Self::PacketIdZero
            | Self::EmptyTopic
            | Self::ResponseTopic
            | Self::NoFilter
            | Self::SubscriptionQos
            | Self::RetainHandling
            | Self::NoLocalShared
            | Self::SessionPresent
            | Self::ReasonCode(_)
            | Self::NoReasonCode
            | Self::RepeatedProperty(_)
            | Self::PropertyValue(_)
            | Self::SubscriptionIdentifier
            | Self::SessionExpiryInterval
            | Self::NoAuthenticationMethod => ReasonCode::ProtocolError,
        }
    }

    const fn statement(self, packet: Option<PacketType>, version: Option<Version>) -> &'static str {
        match version {
            Some(Version::V3) => statement::of_v3(self, packet),
            Some(Version::V5) | None => statement::of_v5(self, packet),
        }
    }
}

/// The reason why a packet cannot be encoded. Nothing was appended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    /// A string or binary field of so many bytes; 65,535 is the most.
    #[error("a field of {0} bytes; MQTT has at most 65535")]
    FieldTooLong(usize),
    /// A string with U+0000.
    #[error("a string contains U+0000")]
    Nul,
    /// A packet of so many bytes, which is above the limit of the receiver or of the protocol.
    #[error("a packet of {0} bytes is above the limit")]
    PacketTooLarge(usize),
    /// A reason code for which 3.1.1 has no return code. The connection is closed without `CONNACK` (MQTT-3.2.2-6).
    #[error("MQTT 3.1.1 has no return code for {0:?}")]
    NoReturnCode(ReasonCode),
    /// A packet that does not exist in the version.
    #[error("MQTT 3.1.1 has no packet of this type")]
    NotInVersion,
}
