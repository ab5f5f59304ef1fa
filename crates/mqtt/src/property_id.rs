//! The identifiers of the properties of MQTT 5.0 (§2.2.2.2), and the packets that have them.

use crate::types::PacketType;

/// The identifier of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PropertyId {
    /// Whether the payload is UTF-8.
    PayloadFormatIndicator = 0x01,
    /// The lifetime of the message in seconds.
    MessageExpiryInterval = 0x02,
    /// The kind of the payload, such as a MIME type.
    ContentType = 0x03,
    /// The topic name for an answer.
    ResponseTopic = 0x08,
    /// Identifies the request of an answer.
    CorrelationData = 0x09,
    /// Identifies a subscription: 1 to 268,435,455.
    SubscriptionIdentifier = 0x0B,
    /// Seconds for which a session outlives its connection; `u32::MAX` means for ever.
    SessionExpiryInterval = 0x11,
    /// The client identifier that the server assigned.
    AssignedClientIdentifier = 0x12,
    /// The keep-alive time in seconds that the client has to use.
    ServerKeepAlive = 0x13,
    /// The name of an authentication method.
    AuthenticationMethod = 0x15,
    /// Data of that method.
    AuthenticationData = 0x16,
    /// Whether the client accepts reason strings and user properties with errors.
    RequestProblemInformation = 0x17,
    /// Seconds between the end of the connection and the will.
    WillDelayInterval = 0x18,
    /// Whether the client requests response information.
    RequestResponseInformation = 0x19,
    /// The basis of response topics.
    ResponseInformation = 0x1A,
    /// Other servers to use.
    ServerReference = 0x1C,
    /// An explanation of the reason code, for people.
    ReasonString = 0x1F,
    /// The most unacknowledged messages of QoS 1 and 2 that the sender of this property accepts.
    ReceiveMaximum = 0x21,
    /// The highest topic alias that the sender of this property accepts.
    TopicAliasMaximum = 0x22,
    /// A number in place of the topic name.
    TopicAlias = 0x23,
    /// The highest QoS of the server, if that is not 2: 0 (`false`) or 1 (`true`).
    MaximumQos = 0x24,
    /// Whether the server supports retained messages.
    RetainAvailable = 0x25,
    /// A name and a value.
    UserProperty = 0x26,
    /// The largest packet that the sender of this property accepts, in bytes.
    MaximumPacketSize = 0x27,
    /// Whether the server supports wildcards in subscriptions.
    WildcardSubscriptionAvailable = 0x28,
    /// Whether the server supports subscription identifiers.
    SubscriptionIdentifiersAvailable = 0x29,
    /// Whether the server supports shared subscriptions.
    SharedSubscriptionAvailable = 0x2A,
}

/// A list of properties in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The properties of a will, in `CONNECT`.
    Will,
    /// The properties of a packet.
    Packet(PacketType),
}

impl Place {
    const fn bit(self) -> u16 {
        match self {
            Self::Will => WILL,
            Self::Packet(packet) => bit(packet),
        }
    }
}

const WILL: u16 = 1;

const fn bit(packet: PacketType) -> u16 {
    1 << packet as u8
}

impl PropertyId {
    /// All properties, in the order of their numbers.
    pub const ALL: [Self; 27] = [
        Self::PayloadFormatIndicator,
        Self::MessageExpiryInterval,
        Self::ContentType,
        Self::ResponseTopic,
        Self::CorrelationData,
        Self::SubscriptionIdentifier,
        Self::SessionExpiryInterval,
        Self::AssignedClientIdentifier,
        Self::ServerKeepAlive,
        Self::AuthenticationMethod,
        Self::AuthenticationData,
        Self::RequestProblemInformation,
        Self::WillDelayInterval,
        Self::RequestResponseInformation,
        Self::ResponseInformation,
        Self::ServerReference,
        Self::ReasonString,
        Self::ReceiveMaximum,
        Self::TopicAliasMaximum,
        Self::TopicAlias,
        Self::MaximumQos,
        Self::RetainAvailable,
        Self::UserProperty,
        Self::MaximumPacketSize,
        Self::WildcardSubscriptionAvailable,
        Self::SubscriptionIdentifiersAvailable,
        Self::SharedSubscriptionAvailable,
    ];

    /// The property of a number, if it exists.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.binary_search_by_key(&number, |id| u32::from(id.number())).ok().map(|at| Self::ALL[at])
    }

    /// Its number on the wire: one byte for all properties.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Whether packets of a type may have the property (5.0, Table 2-4).
    pub const fn is_in_packet(self, packet: PacketType) -> bool {
        self.is_in(Place::Packet(packet))
    }

    /// Whether a will may have the property.
    pub const fn is_in_will(self) -> bool {
        self.is_in(Place::Will)
    }

    /// Whether the place may contain the property.
    pub(crate) const fn is_in(self, place: Place) -> bool {
        self.places() & place.bit() != 0
    }

    /// Whether the property may occur repeatedly in the place. A server's `PUBLISH` has one subscription identifier for each
    /// subscription that matches.
    pub(crate) const fn is_repeatable(self, place: Place) -> bool {
        match self {
            Self::UserProperty => true,
            Self::SubscriptionIdentifier => matches!(place, Place::Packet(PacketType::Publish)),
            _ => false,
        }
    }

    const fn places(self) -> u16 {
        use PacketType::{
            Auth, ConnAck, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe,
            UnsubAck,
        };
        match self {
            Self::PayloadFormatIndicator
            | Self::MessageExpiryInterval
            | Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData => WILL | bit(Publish),
            Self::SubscriptionIdentifier => bit(Publish) | bit(Subscribe),
            Self::SessionExpiryInterval => bit(Connect) | bit(ConnAck) | bit(Disconnect),
            Self::AssignedClientIdentifier
            | Self::ServerKeepAlive
            | Self::ResponseInformation
            | Self::MaximumQos
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifiersAvailable
            | Self::SharedSubscriptionAvailable => bit(ConnAck),
            Self::AuthenticationMethod | Self::AuthenticationData => bit(Connect) | bit(ConnAck) | bit(Auth),
            Self::RequestProblemInformation | Self::RequestResponseInformation => bit(Connect),
            Self::WillDelayInterval => WILL,
            Self::ServerReference => bit(ConnAck) | bit(Disconnect),
            Self::ReasonString => {
                bit(ConnAck)
                    | bit(PubAck)
                    | bit(PubRec)
                    | bit(PubRel)
                    | bit(PubComp)
                    | bit(SubAck)
                    | bit(UnsubAck)
                    | bit(Disconnect)
                    | bit(Auth)
            }
            Self::ReceiveMaximum | Self::TopicAliasMaximum | Self::MaximumPacketSize => {
                bit(Connect) | bit(ConnAck)
            }
            Self::TopicAlias => bit(Publish),
            Self::UserProperty => u16::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_found_by_its_number() {
        assert!(PropertyId::ALL.is_sorted());
        let found = (0..300).filter_map(PropertyId::from_number);
        assert!(found.eq(PropertyId::ALL));
    }
}
