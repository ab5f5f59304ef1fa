//! One message for many subscribers: `PUBLISH` is encoded once per version, and each subscriber gets a copy with its own parts.
//!
//! [`Publish::encode`](crate::Publish::encode) with QoS 0 gives the shared packet. It is complete: a subscriber with QoS 0, without subscription
//! identifiers and topic aliases, gets these bytes unchanged. For other subscribers, [`address`] makes their packet from it. It
//! copies topic, properties and payload, and writes what differs: the flags, the length, the packet identifier, the
//! subscription identifiers, and a topic alias in place of the topic.
//!
//! A packet that is stored for a session keeps its place for later changes: [`Offsets`] locates them.

use crate::error::EncodeError;
use crate::packet::{self, QosAndId};
use crate::property::Property;
use crate::property_id::PropertyId;
use crate::read::{Reader, Varint, varint};
use crate::types::{MAX_REMAINING_LENGTH, PacketId, PacketType, Qos, Version};
use crate::write;

/// The parts of a `PUBLISH` that belong to one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriber<'a> {
    /// The quality of service and the packet identifier of this delivery.
    pub qos: QosAndId,
    /// The retain flag.
    pub retain: bool,
    /// The identifiers of the subscriptions that matched; 5.0 only.
    pub subscription_ids: &'a [u32],
    /// The topic alias; 5.0 only.
    pub topic_alias: Option<TopicAlias>,
}

/// A topic alias of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicAlias {
    /// The receiver does not have the alias yet: the topic is sent with it.
    New(PacketId),
    /// The receiver has the alias: it replaces the topic.
    Known(PacketId),
}

/// Appends the packet of a subscriber.
///
/// # Errors
/// [`EncodeError::PacketTooLarge`] when the packet is above the limit of the protocol; `out` is unchanged then.
///
/// # Panics
/// When `shared` is not a `PUBLISH` of this version without a packet identifier.
pub fn address(
    shared: &[u8],
    version: Version,
    subscriber: &Subscriber<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let parts = Parts::parse(shared).filter(|parts| parts.qos == Qos::AtMostOnce);
    let parts = parts.expect("a shared PUBLISH with QoS 0");
    let first = packet::publish_first_byte(false, subscriber.qos.qos(), subscriber.retain);
    let mut own = Own::default();
    if version == Version::V5 {
        own.add(subscriber);
    }
    if subscriber.qos == QosAndId::AtMostOnce && own.len == 0 {
        let start = out.len();
        out.extend_from_slice(shared);
        out[start] = first;
        return Ok(());
    }
    let topic = if own.replaces_topic { &[0, 0][..] } else { parts.topic };
    let id = subscriber.qos.packet_id();
    let (length_field, properties_len) = match version {
        Version::V3 => (0, 0),
        Version::V5 => match varint(parts.rest) {
            Varint::Number { value, length, .. } => (length, value as usize),
            Varint::Partial | Varint::Invalid => panic!("a PUBLISH of 5.0 has properties"),
        },
    };
    let properties_len = properties_len + own.len;
    let new_length_field = if length_field == 0 { 0 } else { write::varint_len(properties_len) };
    let rest = &parts.rest[length_field..];
    let id_len = if id.is_some() { 2 } else { 0 };
    let remaining = topic.len() + id_len + new_length_field + own.len + rest.len();
    let remaining = write::checked(remaining)?;
    out.reserve(5 + remaining);
    out.push(first);
    write::varint(remaining, out);
    out.extend_from_slice(topic);
    if let Some(id) = id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    if length_field != 0 {
        write::varint(properties_len, out);
        own.write(subscriber, out);
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The properties of one subscriber.
#[derive(Default)]
struct Own {
    len: usize,
    replaces_topic: bool,
}

impl Own {
    fn add(&mut self, subscriber: &Subscriber<'_>) {
        let id_len = |id: &u32| 1 + write::varint_len((*id as usize).min(MAX_REMAINING_LENGTH));
        self.len = subscriber.subscription_ids.iter().map(id_len).sum();
        if let Some(alias) = subscriber.topic_alias {
            self.len += 3;
            self.replaces_topic = matches!(alias, TopicAlias::Known(_));
        }
    }

    fn write(&self, subscriber: &Subscriber<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        if let Some(TopicAlias::New(alias) | TopicAlias::Known(alias)) = subscriber.topic_alias {
            // A number cannot fail to be written.
            let _ = Property::TopicAlias(alias).write(out);
        }
        for id in subscriber.subscription_ids {
            let _ = Property::SubscriptionIdentifier(*id).write(out);
        }
        debug_assert_eq!(out.len() - start, self.len);
    }
}

/// The parts of an encoded `PUBLISH`.
struct Parts<'a> {
    qos: Qos,
    /// The topic with its length.
    topic: &'a [u8],
    /// Where the topic ends in the packet.
    topic_end: usize,
    /// Everything behind the topic.
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let first = *packet.first()?;
        if first >> 4 != PacketType::Publish as u8 {
            return None;
        }
        let qos = Qos::from_number(first >> packet::PUBLISH_QOS & 3)?;
        let Varint::Number { length, .. } = varint(&packet[1..]) else { return None };
        let start = 1 + length;
        let (bytes, _) = packet.get(start..)?.split_first_chunk()?;
        let topic_end = start + 2 + usize::from(u16::from_be_bytes(*bytes));
        let topic = packet.get(start..topic_end)?;
        Some(Self { qos, topic, topic_end, rest: &packet[topic_end..] })
    }
}

/// The places in an encoded `PUBLISH` that change when it is sent later or again, counted from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The two bytes of the packet identifier.
    pub packet_id: Option<usize>,
    /// The four bytes of the message expiry interval.
    pub message_expiry: Option<usize>,
}

impl Offsets {
    /// The places in a packet that [`address`] or [`Publish::encode`](crate::Publish::encode) wrote; `None` if the bytes are not a `PUBLISH`.
    pub fn find(packet: &[u8], version: Version) -> Option<Self> {
        let parts = Parts::parse(packet)?;
        let packet_id = (parts.qos != Qos::AtMostOnce).then_some(parts.topic_end);
        let mut offsets = Self { packet_id, message_expiry: None };
        let at = parts.topic_end + if packet_id.is_some() { 2 } else { 0 };
        packet.get(..at)?;
        if version == Version::V3 {
            return Some(offsets);
        }
        let Varint::Number { value, length, .. } = varint(packet.get(at..)?) else { return None };
        let start = at + length;
        let properties = packet.get(start..start + value as usize)?;
        let mut rest = Reader::new(properties);
        while !rest.is_empty() {
            let id = PropertyId::from_number(rest.varint().ok()?)?;
            let at = start + properties.len() - rest.len();
            Property::read(id, &mut rest).ok()?;
            if id == PropertyId::MessageExpiryInterval {
                offsets.message_expiry = Some(at);
            }
        }
        Some(offsets)
    }

    /// Writes the packet identifier.
    pub fn set_packet_id(&self, packet: &mut [u8], id: PacketId) {
        if let Some(at) = self.packet_id {
            packet[at..at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
    }

    /// Writes the message expiry interval: the rest of the lifetime in seconds (MQTT-3.3.2-6).
    pub fn set_message_expiry(&self, packet: &mut [u8], seconds: u32) {
        if let Some(at) = self.message_expiry {
            packet[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
        }
    }

    /// Sets the DUP flag, if the packet has QoS 1 or 2: it is sent again (MQTT-3.3.1-1).
    pub fn set_dup(&self, packet: &mut [u8]) {
        if let (Some(_), Some(first)) = (self.packet_id, packet.first_mut()) {
            *first |= packet::PUBLISH_DUP;
        }
    }
}
