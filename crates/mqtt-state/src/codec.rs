//! The encoding of values in journals: numbers little-endian, texts and lists behind their length in 32 bits.
//!
//! Invariant: [`Decoder`] accepts any bytes. It never panics, and allocates no more than the input has bytes.

use std::sync::Arc;

use bytes::Bytes;
use tidings_mqtt::{PacketId, Qos, RetainHandling};
use tidings_mqtt_session::{Acknowledgement, InFlight, Message, Options, StoredSubscription, WillMessage};
use tidings_wire::{Channel, ClientInfo, Extra, MessageProperties, Pattern, Publication, Topic};

/// Appends values to a record.
#[derive(Debug, Default)]
pub(crate) struct Encoder(pub(crate) Vec<u8>);

impl Encoder {
    pub(crate) fn u8(&mut self, number: u8) -> &mut Self {
        self.0.push(number);
        self
    }

    pub(crate) fn u16(&mut self, number: u16) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn length(&mut self, length: usize) -> &mut Self {
        self.u32(u32::try_from(length).expect("packets and lists are shorter than 4 GiB"))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    /// A publication without its position, which messages of MQTT do not have.
    pub(crate) fn publication(&mut self, publication: &Publication) -> &mut Self {
        self.bytes(publication.channel.as_str().as_bytes()).bytes(&publication.body);
        self.optional(publication.extra.as_deref(), Self::extra)
    }

    fn extra(&mut self, extra: &Extra) {
        let Extra { info, tags, origin, message, delta, map: _ } = extra;
        self.optional(info.as_ref(), |to, info| {
            to.bytes(info.user.as_bytes()).bytes(info.client.as_bytes());
            for part in [&info.conn_info, &info.chan_info] {
                to.optional(part.as_ref(), |to, part| _ = to.bytes(part));
            }
        });
        self.length(tags.len());
        for (name, value) in tags {
            self.bytes(name.as_bytes()).bytes(value.as_bytes());
        }
        self.optional(origin.as_deref(), |to, origin| _ = to.bytes(origin.as_bytes()));
        self.optional(message.as_deref(), |to, message| {
            to.u8(message.qos as u8).u8(u8::from(message.retain));
            to.optional(message.expiry, |to, expiry| _ = to.u32(expiry)).bytes(&message.properties);
        });
        self.u8(u8::from(*delta));
    }

    pub(crate) fn message(&mut self, message: &Message) -> &mut Self {
        let Message { publication, qos, retain, identifier, more_identifiers, .. } = message;
        let Message { is_pattern, is_unchecked, received, .. } = message;
        self.publication(publication).u8(*qos as u8).u8(u8::from(*retain)).u32(*identifier);
        self.u8(u8::from(*is_pattern) | more_flag(more_identifiers) << 1).identifiers(more_identifiers);
        self.u8(u8::from(*is_unchecked)).u64(*received)
    }

    /// Further identifiers, whose flag is written before. Without any, it writes nothing.
    pub(crate) fn identifiers(&mut self, more: &[u32]) -> &mut Self {
        if !more.is_empty() {
            self.length(more.len());
            for identifier in more {
                self.u32(*identifier);
            }
        }
        self
    }

    pub(crate) fn in_flight(&mut self, in_flight: &InFlight) -> &mut Self {
        let awaits = match in_flight.awaits {
            Acknowledgement::Acknowledge => 0,
            Acknowledgement::Receive => 1,
            Acknowledgement::Complete => 2,
        };
        self.u16(in_flight.id.get()).u8(awaits);
        self.optional(in_flight.message.as_deref(), |to, message| _ = to.message(message))
    }

    pub(crate) fn topic(&mut self, topic: &Topic) -> &mut Self {
        self.u8(u8::from(matches!(topic, Topic::Pattern(_)))).bytes(topic.as_str().as_bytes())
    }

    pub(crate) fn subscription(&mut self, subscription: &StoredSubscription) -> &mut Self {
        let StoredSubscription { filter, topic, options } = subscription;
        let Options { qos, no_local, retain_as_published, is_pattern, identifier, retain_handling } =
            *options;
        self.bytes(filter.as_bytes()).topic(topic).u8(qos as u8).u32(identifier);
        let flags = [no_local, retain_as_published, is_pattern].map(u8::from);
        let handling = match retain_handling {
            RetainHandling::Send => 0,
            RetainHandling::SendIfNew => 1,
            RetainHandling::DoNotSend => 2,
        };
        self.u8(flags[0] | flags[1] << 1 | flags[2] << 2 | handling << 3)
    }

    pub(crate) fn will(&mut self, will: &WillMessage) -> &mut Self {
        let WillMessage { channel, body, extra, delay } = will;
        self.bytes(channel.as_str().as_bytes()).bytes(body);
        self.optional(extra.as_deref(), Self::extra).u32(*delay)
    }
}

/// The flag of further identifiers.
pub(crate) fn more_flag(more_identifiers: &[u32]) -> u8 {
    u8::from(!more_identifiers.is_empty())
}

/// Reads values of a record; `None` where it is invalid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder<'a>(pub(crate) &'a [u8]);

impl<'a> Decoder<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[number]| number)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.u8().map(|number| number != 0)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A list; each item takes at least one byte, which bounds its number.
    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.u32()? as usize;
        (0..length).map(|_| read(self)).collect()
    }

    pub(crate) fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    fn shared(&mut self) -> Option<Bytes> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    fn qos(&mut self) -> Option<Qos> {
        Qos::from_number(self.u8()?)
    }

    fn channel(&mut self) -> Option<Channel> {
        Channel::new(self.bytes()?).ok()
    }

    pub(crate) fn publication(&mut self) -> Option<Publication> {
        let mut publication = Publication::new(self.channel()?, self.shared()?);
        publication.extra = self.optional(Self::extra)?;
        Some(publication)
    }

    fn extra(&mut self) -> Option<Box<Extra>> {
        let info = self.optional(|from| {
            Some(ClientInfo {
                user: from.text()?.to_owned(),
                client: from.text()?.to_owned(),
                conn_info: from.optional(Self::shared)?,
                chan_info: from.optional(Self::shared)?,
            })
        })?;
        let tags = self.list(|from| Some((from.text()?.to_owned(), from.text()?.to_owned())))?;
        let origin = self.optional(|from| from.text().map(Box::from))?;
        let message = self.optional(|from| {
            Some(Box::new(MessageProperties {
                qos: from.qos()?,
                retain: from.flag()?,
                expiry: from.optional(Self::u32)?,
                properties: from.shared()?,
            }))
        })?;
        let delta = self.flag()?;
        Some(Box::new(Extra { info, tags, origin, message, delta, map: None }))
    }

    pub(crate) fn message(&mut self) -> Option<Message> {
        let publication = Arc::new(self.publication()?);
        let (qos, retain, identifier, flags) = (self.qos()?, self.flag()?, self.u32()?, self.u8()?);
        Some(Message {
            publication,
            qos,
            retain,
            identifier,
            more_identifiers: self.identifiers(flags & 2 != 0)?,
            is_pattern: flags & 1 != 0,
            is_unchecked: self.flag()?,
            received: self.u64()?,
        })
    }

    /// Further identifiers, if their flag is set.
    pub(crate) fn identifiers(&mut self, has_more: bool) -> Option<Box<[u32]>> {
        if !has_more {
            return Some(Box::default());
        }
        self.list(Self::u32).map(Vec::into_boxed_slice)
    }

    pub(crate) fn packet_id(&mut self) -> Option<PacketId> {
        PacketId::new(self.u16()?)
    }

    pub(crate) fn in_flight(&mut self) -> Option<InFlight> {
        let id = self.packet_id()?;
        let awaits = match self.u8()? {
            0 => Acknowledgement::Acknowledge,
            1 => Acknowledgement::Receive,
            2 => Acknowledgement::Complete,
            _ => return None,
        };
        let message = self.optional(|from| from.message().map(Box::new))?;
        Some(InFlight { id, awaits, message })
    }

    pub(crate) fn topic(&mut self) -> Option<Topic> {
        if self.flag()? {
            Some(Topic::Pattern(Pattern::new(self.text()?).ok()?))
        } else {
            self.channel().map(Topic::Channel)
        }
    }

    pub(crate) fn subscription(&mut self) -> Option<StoredSubscription> {
        let (filter, topic) = (Box::from(self.text()?), self.topic()?);
        let (qos, identifier, flags) = (self.qos()?, self.u32()?, self.u8()?);
        let options = Options {
            qos,
            no_local: flags & 1 != 0,
            retain_as_published: flags & 2 != 0,
            is_pattern: flags & 4 != 0,
            identifier,
            retain_handling: match flags >> 3 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        };
        Some(StoredSubscription { filter, topic, options })
    }

    pub(crate) fn will(&mut self) -> Option<WillMessage> {
        Some(WillMessage {
            channel: self.channel()?,
            body: self.shared()?,
            extra: self.optional(Self::extra)?,
            delay: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(
        tags: Vec<(String, String)>,
        expiry: Option<u32>,
        body: Vec<u8>,
        qos: u8,
        more: Vec<u32>,
    ) -> Message {
        let qos = Qos::from_number(qos).expect("below 3");
        let properties =
            MessageProperties { qos, retain: true, expiry, properties: Bytes::from_static(b"\x01\x01") };
        let info = ClientInfo { user: "u".into(), conn_info: Some("{}".into()), ..ClientInfo::default() };
        let origin = Some("o".into());
        let message = Some(Box::new(properties));
        let extra = Extra { info: Some(info), tags, origin, message, delta: true, map: None };
        let mut publication = Publication::new(Channel::new("a/b").unwrap(), body);
        publication.extra = Some(Box::new(extra));
        Message {
            publication: Arc::new(publication),
            qos,
            retain: true,
            identifier: 7,
            more_identifiers: more.into(),
            is_pattern: true,
            is_unchecked: false,
            received: 1 << 40,
        }
    }

    proptest! {
        #[test]
        fn encoded_values_are_decoded_and_every_beginning_of_them_is_refused(
            tags in prop::collection::vec(any::<(String, String)>(), 0..3),
            expiry in any::<Option<u32>>(),
            body in any::<Vec<u8>>(),
            qos in 0..3_u8,
            awaits in 0..3_u8,
            pattern in any::<bool>(),
            more in prop::collection::vec(any::<u32>(), 0..3),
        ) {
            let message = message(tags, expiry, body, qos, more);
            let awaits = [Acknowledgement::Acknowledge, Acknowledgement::Receive, Acknowledgement::Complete]
                [usize::from(awaits)];
            let id = PacketId::new(9).expect("above 0");
            let in_flight = InFlight { id, awaits, message: Some(Box::new(message.clone())) };
            let topic = if pattern {
                Topic::Pattern(Pattern::new("a/*").expect("a pattern"))
            } else {
                Topic::Channel(Channel::new("a/b").expect("a name"))
            };
            let options = Options {
                qos: message.qos,
                no_local: true,
                retain_as_published: false,
                is_pattern: pattern,
                identifier: 3,
                retain_handling: RetainHandling::DoNotSend,
            };
            let subscription = StoredSubscription { filter: "a/+".into(), topic, options };
            let will = WillMessage {
                channel: message.publication.channel.clone(),
                body: message.publication.body.clone(),
                extra: message.publication.extra.clone(),
                delay: 5,
            };
            let mut encoder = Encoder::default();
            encoder.in_flight(&in_flight).subscription(&subscription).will(&will);
            let read = |bytes: &[u8]| {
                let mut from = Decoder(bytes);
                Some((from.in_flight()?, from.subscription()?, from.will()?, from.0.len()))
            };
            prop_assert_eq!(read(&encoder.0), Some((in_flight, subscription, will, 0)));
            for length in 0..encoder.0.len() {
                prop_assert_eq!(read(&encoder.0[..length]), None);
            }
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = (Decoder(&bytes).in_flight(), Decoder(&bytes).subscription(), Decoder(&bytes).will());
        }
    }
}
