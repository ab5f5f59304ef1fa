//! The packets: their fields, read from a body and written to a buffer.

mod ack;
mod auth;
mod connack;
mod connect;
mod filters;
mod publish;
mod start;
mod suback;
mod subscribe;

pub use ack::Ack;
pub use auth::{Auth, Disconnect};
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use filters::{
    RetainHandling, Subscription, SubscriptionOptions, Subscriptions, SubscriptionsBuf, TopicFilters,
    TopicFiltersBuf,
};
pub(crate) use publish::{DUP as PUBLISH_DUP, QOS as PUBLISH_QOS, first_byte as publish_first_byte};
pub use publish::{Publish, QosAndId};
pub use suback::{ReasonCodes, SubAck, UnsubAck};
pub use subscribe::{Subscribe, Unsubscribe};

use crate::error::{EncodeError, Violation};
use crate::header::Header;
use crate::properties::{Properties, PropertiesBuf};
use crate::property_id::PropertyId;
use crate::read::Reader;
use crate::types::{PacketType, Side, Version};
use crate::write;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client requests a connection.
    Connect(Connect<'a>),
    /// The answer to `CONNECT`.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// Acknowledges a message of QoS 1.
    PubAck(Ack<'a>),
    /// The first acknowledgement of a message of QoS 2.
    PubRec(Ack<'a>),
    /// Releases the packet identifier of a message of QoS 2.
    PubRel(Ack<'a>),
    /// The last acknowledgement of a message of QoS 2.
    PubComp(Ack<'a>),
    /// Requests subscriptions.
    Subscribe(Subscribe<'a>),
    /// The answer to `SUBSCRIBE`.
    SubAck(SubAck<'a>),
    /// Ends subscriptions.
    Unsubscribe(Unsubscribe<'a>),
    /// The answer to `UNSUBSCRIBE`.
    UnsubAck(UnsubAck<'a>),
    /// Requests `PINGRESP`.
    PingReq,
    /// The answer to `PINGREQ`.
    PingResp,
    /// Announces the end of the connection.
    Disconnect(Disconnect<'a>),
    /// A step of enhanced authentication; 5.0 only.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Its type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet in a version. In 3.1.1, properties are left out, and so are reason codes except those of `CONNACK`
    /// and `SUBACK`. A `CONNECT` is written in its own version.
    ///
    /// # Errors
    /// [`EncodeError`] when a field or the packet is too long, or does not exist in the version; `out` is unchanged then.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let packet = self.packet_type();
        let first = (packet as u8) << 4 | packet.flags();
        match self {
            Self::Publish(publish) => publish.encode(version, out),
            Self::Auth(_) if version == Version::V3 => Err(EncodeError::NotInVersion),
            _ => write::packet(first, out, |out| match self {
                Self::Connect(connect) => connect.write(out),
                Self::ConnAck(connack) => connack.write(version, out),
                Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                    ack.write(packet, version, out)
                }
                Self::Subscribe(subscribe) => subscribe.write(version, out),
                Self::SubAck(suback) => suback.write(version, out),
                Self::Unsubscribe(unsubscribe) => unsubscribe.write(version, out),
                Self::UnsubAck(unsuback) => unsuback.write(version, out),
                Self::Disconnect(disconnect) => disconnect.write(version, out),
                Self::Auth(auth) => auth.write(out),
                Self::Publish(_) | Self::PingReq | Self::PingResp => Ok(()),
            }),
        }
    }

    /// As [`encode`](Self::encode), for a receiver that accepts at most `limit` bytes. If the packet is larger, its user
    /// properties are left out, then its reason string; a message and `CONNECT` keep theirs.
    ///
    /// # Errors
    /// [`EncodeError::PacketTooLarge`] when the rest is still larger, and as [`encode`](Self::encode).
    pub fn encode_within(
        &self,
        limit: usize,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        self.encode(version, out)?;
        let mut size = out.len() - start;
        for dropped in
            [&[PropertyId::UserProperty][..], &[PropertyId::UserProperty, PropertyId::ReasonString]]
        {
            let Some(properties) = self.optional_properties().filter(|_| size > limit) else { break };
            let mut kept = PropertiesBuf::default();
            for property in properties.iter().filter(|property| !dropped.contains(&property.id())) {
                kept.push(property)?;
            }
            out.truncate(start);
            self.clone().with_properties(kept.as_properties()).encode(version, out)?;
            size = out.len() - start;
        }
        if size > limit {
            out.truncate(start);
            return Err(EncodeError::PacketTooLarge(size));
        }
        Ok(())
    }

    /// The properties of a packet whose sender may leave out explanations.
    const fn optional_properties(&self) -> Option<Properties<'a>> {
        match self {
            Self::ConnAck(packet) => Some(packet.properties),
            Self::PubAck(packet) | Self::PubRec(packet) | Self::PubRel(packet) | Self::PubComp(packet) => {
                Some(packet.properties)
            }
            Self::SubAck(packet) => Some(packet.properties),
            Self::UnsubAck(packet) => Some(packet.properties),
            Self::Disconnect(packet) => Some(packet.properties),
            Self::Auth(packet) => Some(packet.properties),
            _ => None,
        }
    }

    fn with_properties(mut self, properties: Properties<'a>) -> Self {
        match &mut self {
            Self::ConnAck(packet) => packet.properties = properties,
            Self::PubAck(packet) | Self::PubRec(packet) | Self::PubRel(packet) | Self::PubComp(packet) => {
                packet.properties = properties;
            }
            Self::SubAck(packet) => packet.properties = properties,
            Self::UnsubAck(packet) => packet.properties = properties,
            Self::Disconnect(packet) => packet.properties = properties,
            Self::Auth(packet) => packet.properties = properties,
            _ => {}
        }
        self
    }

    /// Reads the body of a packet. `version` becomes that of a `CONNECT` once it is known, also if the rest is invalid.
    pub(crate) fn read(
        header: &Header,
        body: &'a [u8],
        receiver: Side,
        version: &mut Option<Version>,
    ) -> Result<Self, Violation> {
        let mut from = Reader::new(body);
        if header.packet == PacketType::Connect {
            let connect = Connect::read(&mut from, version)?;
            check_length(header, connect.version)?;
            return from.end().map(|()| Self::Connect(connect));
        }
        let known = (*version).ok_or(Violation::NotConnect)?;
        check_length(header, known)?;
        let from = &mut from;
        let packet = match header.packet {
            PacketType::ConnAck => Self::ConnAck(ConnAck::read(from, known)?),
            PacketType::Publish => Self::Publish(Publish::read(header.flags, from, receiver, known)?),
            PacketType::PubAck => Self::PubAck(Ack::read(header.packet, from, receiver, known)?),
            PacketType::PubRec => Self::PubRec(Ack::read(header.packet, from, receiver, known)?),
            PacketType::PubRel => Self::PubRel(Ack::read(header.packet, from, receiver, known)?),
            PacketType::PubComp => Self::PubComp(Ack::read(header.packet, from, receiver, known)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::read(from, known)?),
            PacketType::SubAck => Self::SubAck(SubAck::read(from, known)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::read(from, known)?),
            PacketType::UnsubAck => Self::UnsubAck(UnsubAck::read(from, known)?),
            PacketType::PingReq => Self::PingReq,
            PacketType::PingResp => Self::PingResp,
            PacketType::Disconnect => Self::Disconnect(Disconnect::read(from, receiver, known)?),
            PacketType::Auth => Self::Auth(Auth::read(from, receiver)?),
            PacketType::Connect => return Err(Violation::SecondConnect),
        };
        from.end().map(|()| packet)
    }
}

/// 5.0 requires the shortest form of the remaining length (MQTT-1.5.5-1); 3.1.1 does not (§2.2.3).
const fn check_length(header: &Header, version: Version) -> Result<(), Violation> {
    match version {
        Version::V5 if !header.is_shortest => Err(Violation::LengthNotShortest),
        _ => Ok(()),
    }
}
