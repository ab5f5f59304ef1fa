//! The records of the files of sessions. A frame is a sequence of them.

use std::sync::Arc;

use tidings_mqtt::PacketId;
use tidings_mqtt_session::{InFlight, Message, StoredSubscription, WillMessage};

use crate::codec::{Decoder, Encoder, more_flag};

/// A change of the session with this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) session: u64,
    pub(super) change: Change,
}

/// A change of a session. A message that waits has a serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It begins. `expiry` is how long it outlives a connection, in seconds.
    Begun { key: Box<str>, expiry: u32 },
    /// It ends.
    Ended,
    /// A subscription is made, or its options are replaced.
    Subscribed(StoredSubscription),
    /// The subscription with this filter has ended.
    Unsubscribed(Box<str>),
    /// A message waits.
    Added(u64, Message),
    /// The message of an earlier record of the frame waits here as well, with these properties.
    AddedAgain(u64, Message),
    /// A message that waited is sent.
    Sent(u64, PacketId),
    /// Another message is sent.
    SentNew(InFlight),
    /// A message does not wait any more.
    Removed(u64),
    /// So many of the oldest messages that wait are dropped.
    Dropped(u32),
    /// The client has received a message with QoS 2.
    Released(PacketId),
    /// A message that was sent has ended.
    Acknowledged(PacketId),
    /// A message of the client with QoS 2 is published.
    Received(u16),
    /// The client has released it.
    Completed(u16),
    /// The connection has ended.
    Parked(ParkedState),
    /// All messages are replaced.
    Replaced(Messages),
    /// The client has returned. `expiry` is as in [`Change::Begun`].
    Resumed { expiry: u32 },
    /// The will is published.
    WillPublished,
    /// The will of the connection.
    Will(Box<WillMessage>),
}

/// The state of a session without a connection besides its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sessions) struct ParkedState {
    /// The id of the client of the former connection.
    pub(in crate::sessions) client: String,
    pub(in crate::sessions) subscriptions: Vec<StoredSubscription>,
    pub(in crate::sessions) will: Option<WillMessage>,
    /// When the will is due, in Unix seconds.
    pub(in crate::sessions) will_due: u64,
    /// When the session expires, in Unix seconds.
    pub(in crate::sessions) expires: u64,
}

/// The messages of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Messages {
    pub(super) in_flight: Vec<InFlight>,
    pub(super) waiting: Vec<(u64, Message)>,
    pub(super) received: Vec<u16>,
    pub(super) last_packet_id: u16,
    pub(super) dropped: u64,
}

impl Record {
    pub(super) fn encode(&self, to: &mut Encoder) {
        to.u64(self.session);
        match &self.change {
            Change::Begun { key, expiry } => to.u8(1).bytes(key.as_bytes()).u32(*expiry),
            Change::Ended => to.u8(2),
            Change::Subscribed(subscription) => to.u8(3).subscription(subscription),
            Change::Unsubscribed(filter) => to.u8(4).bytes(filter.as_bytes()),
            Change::Added(serial, message) => to.u8(5).u64(*serial).message(message),
            Change::AddedAgain(serial, message) => {
                let Message { qos, retain, identifier, more_identifiers, is_pattern, .. } = message;
                let flags = u8::from(*retain) | u8::from(*is_pattern) << 1 | (*qos as u8) << 2;
                let flags = flags | more_flag(more_identifiers) << 4;
                to.u8(6).u64(*serial).u8(flags).u32(*identifier).identifiers(more_identifiers)
            }
            Change::Sent(serial, id) => to.u8(7).u64(*serial).u16(id.get()),
            Change::SentNew(in_flight) => to.u8(8).in_flight(in_flight),
            Change::Removed(serial) => to.u8(9).u64(*serial),
            Change::Dropped(count) => to.u8(10).u32(*count),
            Change::Released(id) => to.u8(11).u16(id.get()),
            Change::Acknowledged(id) => to.u8(12).u16(id.get()),
            Change::Received(id) => to.u8(13).u16(*id),
            Change::Completed(id) => to.u8(14).u16(*id),
            Change::Parked(ParkedState { client, subscriptions, will, will_due, expires }) => {
                to.u8(15).bytes(client.as_bytes()).length(subscriptions.len());
                for subscription in subscriptions {
                    to.subscription(subscription);
                }
                to.optional(will.as_ref(), |to, will| _ = to.will(will)).u64(*will_due).u64(*expires)
            }
            Change::Replaced(Messages { in_flight, waiting, received, last_packet_id, dropped }) => {
                to.u8(16).length(in_flight.len());
                for message in in_flight {
                    to.in_flight(message);
                }
                to.length(waiting.len());
                for (serial, message) in waiting {
                    to.u64(*serial).message(message);
                }
                to.length(received.len());
                for id in received {
                    to.u16(*id);
                }
                to.u16(*last_packet_id).u64(*dropped)
            }
            Change::Resumed { expiry } => to.u8(17).u32(*expiry),
            Change::WillPublished => to.u8(18),
            Change::Will(will) => to.u8(19).will(will),
        };
    }

    /// Reads a record; `added` is the last message that was added in the frame.
    pub(super) fn decode(from: &mut Decoder<'_>, added: &mut Option<Message>) -> Option<Self> {
        let session = from.u64()?;
        let change = match from.u8()? {
            1 => Change::Begun { key: from.text()?.into(), expiry: from.u32()? },
            2 => Change::Ended,
            3 => Change::Subscribed(from.subscription()?),
            4 => Change::Unsubscribed(from.text()?.into()),
            5 => {
                let (serial, message) = (from.u64()?, from.message()?);
                *added = Some(message.clone());
                Change::Added(serial, message)
            }
            6 => {
                let (serial, flags, identifier) = (from.u64()?, from.u8()?, from.u32()?);
                let first = added.as_ref()?;
                let message = Message {
                    publication: Arc::clone(&first.publication),
                    qos: tidings_mqtt::Qos::from_number(flags >> 2 & 3)?,
                    retain: flags & 1 != 0,
                    identifier,
                    more_identifiers: from.identifiers(flags & 16 != 0)?,
                    is_pattern: flags & 2 != 0,
                    is_unchecked: first.is_unchecked,
                    received: first.received,
                };
                Change::AddedAgain(serial, message)
            }
            7 => Change::Sent(from.u64()?, from.packet_id()?),
            8 => Change::SentNew(from.in_flight()?),
            9 => Change::Removed(from.u64()?),
            10 => Change::Dropped(from.u32()?),
            11 => Change::Released(from.packet_id()?),
            12 => Change::Acknowledged(from.packet_id()?),
            13 => Change::Received(from.u16()?),
            14 => Change::Completed(from.u16()?),
            15 => Change::Parked(ParkedState {
                client: from.text()?.to_owned(),
                subscriptions: from.list(Decoder::subscription)?,
                will: from.optional(Decoder::will)?,
                will_due: from.u64()?,
                expires: from.u64()?,
            }),
            16 => Change::Replaced(Messages {
                in_flight: from.list(Decoder::in_flight)?,
                waiting: from.list(|from| Some((from.u64()?, from.message()?)))?,
                received: from.list(Decoder::u16)?,
                last_packet_id: from.u16()?,
                dropped: from.u64()?,
            }),
            17 => Change::Resumed { expiry: from.u32()? },
            18 => Change::WillPublished,
            19 => Change::Will(Box::new(from.will()?)),
            _ => return None,
        };
        Some(Self { session, change })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_mqtt::Qos;
    use tidings_mqtt_session::Acknowledgement;
    use tidings_wire::{Channel, Publication};

    use super::*;

    fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
        let (mut from, mut added, mut records) = (Decoder(bytes), None, Vec::new());
        while !from.0.is_empty() {
            records.push(Record::decode(&mut from, &mut added)?);
        }
        Some(records)
    }

    fn message(identifier: u32, qos: Qos) -> Message {
        Message {
            publication: Arc::new(Publication::new(Channel::new("t").unwrap(), "x")),
            qos,
            retain: true,
            identifier,
            more_identifiers: (1..identifier).collect(),
            is_pattern: identifier > 1,
            is_unchecked: true,
            received: 9,
        }
    }

    #[test]
    fn each_record_is_decoded_as_it_was_encoded_and_none_without_its_end() {
        let id = PacketId::new(7).unwrap();
        let channel = Channel::new("gone").unwrap();
        let will = WillMessage { channel, body: "w".into(), extra: None, delay: 3 };
        let sent = message(3, Qos::ExactlyOnce);
        let in_flight = InFlight { id, awaits: Acknowledgement::Receive, message: Some(Box::new(sent)) };
        let messages = Messages {
            in_flight: vec![in_flight.clone()],
            waiting: vec![(5, message(1, Qos::AtLeastOnce))],
            received: vec![1, 2],
            last_packet_id: 7,
            dropped: 4,
        };
        let parked = ParkedState {
            client: "c".into(),
            subscriptions: Vec::new(),
            will: Some(will.clone()),
            will_due: 10,
            expires: 20,
        };
        let changes = [
            Change::Begun { key: "k".into(), expiry: 60 },
            Change::Unsubscribed("t".into()),
            Change::Added(1, message(1, Qos::AtLeastOnce)),
            Change::AddedAgain(2, message(2, Qos::ExactlyOnce)),
            Change::Sent(1, id),
            Change::SentNew(in_flight),
            Change::Removed(2),
            Change::Dropped(3),
            Change::Released(id),
            Change::Acknowledged(id),
            Change::Received(8),
            Change::Completed(8),
            Change::Parked(parked),
            Change::Replaced(messages),
            Change::Resumed { expiry: 30 },
            Change::WillPublished,
            Change::Will(Box::new(will)),
            Change::Ended,
        ];
        let records: Vec<_> = changes.into_iter().map(|change| Record { session: 1 << 40, change }).collect();
        let (mut encoder, mut ends) = (Encoder::default(), vec![0]);
        for record in &records {
            record.encode(&mut encoder);
            ends.push(encoder.0.len());
        }
        for length in 0..=encoder.0.len() {
            let decoded = decode(&encoder.0[..length]);
            match ends.binary_search(&length) {
                Ok(complete) => assert_eq!(decoded.as_deref(), Some(&records[..complete])),
                Err(_) => assert_eq!(decoded, None, "{length} bytes"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(session in any::<u64>(), kind in 0..24_u8, rest in any::<Vec<u8>>()) {
            let _ = decode(&[&session.to_le_bytes()[..], &[kind], &rest].concat());
        }
    }
}
