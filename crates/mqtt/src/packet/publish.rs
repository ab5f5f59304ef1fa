//! `PUBLISH` (MQTT 3.1.1 and 5.0 §3.3).

use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::property_id::{Place, PropertyId};
use crate::read::Reader;
use crate::types::{PacketId, PacketType, Qos, Side, Version};
use crate::write;

pub(crate) const RETAIN: u8 = 1;
pub(crate) const QOS: u8 = 1;
pub(crate) const DUP: u8 = 1 << 3;

/// The quality of service of a message, with the packet identifier that it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QosAndId {
    /// QoS 0.
    #[default]
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce(PacketId),
    /// QoS 2.
    ExactlyOnce(PacketId),
}

impl QosAndId {
    /// The quality with an identifier, which QoS 0 does not use.
    pub const fn new(qos: Qos, id: PacketId) -> Self {
        match qos {
            Qos::AtMostOnce => Self::AtMostOnce,
            Qos::AtLeastOnce => Self::AtLeastOnce(id),
            Qos::ExactlyOnce => Self::ExactlyOnce(id),
        }
    }

    /// The quality of service.
    pub const fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce(_) => Qos::AtLeastOnce,
            Self::ExactlyOnce(_) => Qos::ExactlyOnce,
        }
    }

    /// The packet identifier.
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce(id) | Self::ExactlyOnce(id) => Some(id),
        }
    }
}

/// `PUBLISH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether an earlier attempt may have arrived; `false` with QoS 0.
    pub dup: bool,
    /// The quality of service and the packet identifier.
    pub qos: QosAndId,
    /// To a server: the message replaces the retained message of its topic. To a client: it is a retained message, or was
    /// published as one.
    pub retain: bool,
    /// The topic name. Empty if a topic alias stands for it.
    pub topic: &'a str,
    /// The properties.
    pub properties: Properties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// The bytes of the encoded packet.
    pub fn encoded_len(&self, version: Version) -> usize {
        let remaining = self.remaining_len(version);
        1 + write::varint_len(remaining) + remaining
    }

    fn remaining_len(&self, version: Version) -> usize {
        let id = if self.qos.packet_id().is_some() { 2 } else { 0 };
        let properties = match version {
            Version::V3 => 0,
            Version::V5 => {
                let length = self.properties.as_bytes().len();
                write::varint_len(length) + length
            }
        };
        2 + self.topic.len() + id + properties + self.payload.len()
    }

    /// Appends the packet, as [`Packet::encode`](crate::Packet::encode).
    ///
    /// # Errors
    /// [`EncodeError`] when the topic or the packet is too long; `out` is unchanged then.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = write::checked(self.remaining_len(version))?;
        let start = out.len();
        out.reserve(5 + remaining);
        out.push(first_byte(self.dup, self.qos.qos(), self.retain));
        write::varint(remaining, out);
        if let Err(error) = write::string(self.topic, out) {
            out.truncate(start);
            return Err(error);
        }
        if let Some(id) = self.qos.packet_id() {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if version == Version::V5 {
            // The length of the packet has been checked.
            self.properties.write(Place::Packet(PacketType::Publish), out)?;
        }
        out.extend_from_slice(self.payload);
        Ok(())
    }

    pub(super) fn read(
        flags: u8,
        from: &mut Reader<'a>,
        receiver: Side,
        version: Version,
    ) -> Result<Self, Violation> {
        let qos = Qos::from_number(flags >> QOS & 3).ok_or(Violation::Qos)?;
        let dup = flags & DUP != 0;
        if dup && qos == Qos::AtMostOnce {
            return Err(Violation::DupWithoutQos);
        }
        let topic = from.string()?;
        let qos = match qos {
            Qos::AtMostOnce => QosAndId::AtMostOnce,
            qos => QosAndId::new(qos, from.packet_id()?),
        };
        let properties = match version {
            Version::V3 => Properties::NONE,
            Version::V5 => Properties::read(from, Place::Packet(PacketType::Publish), receiver)?,
        };
        if !(topic.is_empty() && properties.get(PropertyId::TopicAlias).is_some()) {
            check_topic(topic)?;
        }
        Ok(Self { dup, qos, retain: flags & RETAIN != 0, topic, properties, payload: from.rest() })
    }
}

/// The first byte of a packet.
pub(crate) const fn first_byte(dup: bool, qos: Qos, retain: bool) -> u8 {
    let dup = if dup { DUP } else { 0 };
    let retain = if retain { RETAIN } else { 0 };
    (PacketType::Publish as u8) << 4 | dup | (qos as u8) << QOS | retain
}

/// Checks a topic name that is a string of the protocol already.
pub(super) fn check_topic(topic: &str) -> Result<(), Violation> {
    if topic.is_empty() {
        return Err(Violation::EmptyTopic);
    }
    if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        Err(Violation::WildcardInTopic)
    } else {
        Ok(())
    }
}
