//! The arguments and the answers of the functions for sessions (the files in Lua of `tidings-mqtt-redis`).

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use tidings_mqtt::{PacketId, Qos};
use tidings_mqtt_redis::{QueuedEntry, entries};
use tidings_mqtt_session::{
    Acknowledgement, CloseSession, Combined, InFlight, Message, MessagePage, OpenSession, OpenedSession,
    QueuedMessage, SessionState, Step, StoredSubscription,
};
use tidings_wire::Publication;

use super::LEASE;
use crate::codec::{Decoder, Encoder};
use crate::sessions::SessionLimits;

pub(super) fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn number(number: impl ToString + Copy) -> Bytes {
    number.to_string().into()
}

pub(super) fn lease() -> Bytes {
    number(LEASE.as_millis())
}

/// The number at a place of an answer.
pub(super) fn read<N: FromStr>(answer: &[Bytes], at: usize) -> Option<N> {
    std::str::from_utf8(answer.get(at)?).ok()?.parse().ok()
}

/// The options of a subscription: its QoS and No Local as digits, then all of it.
fn options(subscription: &StoredSubscription) -> Bytes {
    let mut encoder = Encoder::default();
    let options = subscription.options;
    encoder.u8(b'0' + options.qos as u8).u8(b'0' + u8::from(options.no_local)).subscription(subscription);
    encoder.0.into()
}

/// A publication for the sessions.
pub(super) fn message(publication: &Publication) -> Bytes {
    let mut encoder = Encoder::default();
    encoder.publication(publication);
    encoder.0.into()
}

pub(super) fn open(node: &str, request: &OpenSession, limits: SessionLimits) -> Vec<Bytes> {
    let OpenSession { key, client, expiry, clean_start, is_kept, .. } = request;
    let flag = |on: bool| number(u8::from(on));
    vec![
        text(node),
        lease(),
        text(key),
        text(client),
        number(expiry),
        flag(*clean_start),
        flag(*is_kept),
        number(limits.sessions),
        number(limits.queue_bytes),
        number(limits.total_bytes),
    ]
}

/// The answer to the opening of a session; `Err` if there are as many as the limit.
pub(super) fn opened(answer: &[Bytes]) -> Option<Result<OpenedSession, ()>> {
    match read::<u8>(answer, 0)? {
        0 => return Some(Ok(OpenedSession::default())),
        1 => return Some(Ok(OpenedSession { is_stored: true, ..OpenedSession::default() })),
        2 => return Some(Err(())),
        _ => {}
    }
    let mut state = SessionState { dropped: read(answer, 2)?, ..SessionState::default() };
    let (sent, count) = (read(answer, 3)?, read::<usize>(answer, 4)?);
    let ids = 5 + count.checked_mul(2)?;
    for pair in answer.get(5..ids)?.chunks_exact(2) {
        // A subscription of another version ends.
        state.subscriptions.extend(Decoder(pair[1].get(2..)?).subscription());
    }
    for id in &answer[ids..] {
        let (kind, id) = (id.first()?, std::str::from_utf8(id.get(1..)?).ok()?.parse().ok()?);
        match kind {
            b'r' => state.received.push(id),
            _ => {
                let awaits = Acknowledgement::Complete;
                state.in_flight.push_back(InFlight { id: PacketId::new(id)?, awaits, message: None });
            }
        }
    }
    state.received.sort_unstable();
    Some(Ok(OpenedSession { is_stored: true, is_present: true, sent, state }))
}

/// Appends the arguments of a step.
pub(super) fn step(step: &Step, limits: SessionLimits, to: &mut Vec<Bytes>) {
    let mut with_id =
        |kind: &'static str, id: u16| to.extend([Bytes::from_static(kind.as_bytes()), number(id)]);
    match step {
        Step::Ended(id) => with_id("A", id.get()),
        Step::Released(id) => with_id("L", id.get()),
        Step::Received(id) => with_id("R", *id),
        Step::Completed(id) => with_id("C", *id),
        Step::Subscribed(subscription) => {
            to.extend([Bytes::from_static(b"S"), text(&subscription.filter), options(subscription)]);
        }
        Step::Unsubscribed(filter) => to.extend([Bytes::from_static(b"U"), text(filter)]),
        Step::Added(added) => to.extend([
            Bytes::from_static(b"M"),
            number(added.qos as u8),
            number(limits.queue_bytes),
            number(limits.total_bytes),
            single(added),
            message(&added.publication),
        ]),
        Step::Sent(_) | Step::Dropped(_) => {}
    }
}

/// The arguments for the end of a connection, with which a session of another connection does not end.
pub(super) fn close(node: &str, request: &CloseSession, limits: SessionLimits) -> Vec<Bytes> {
    let CloseSession { key, client, expiry, sent } = request;
    let sent = sent.map(number).unwrap_or_default();
    let limits = [number(limits.queue_bytes), number(limits.total_bytes)];
    [vec![text(node), text(key), text(client), number(expiry), sent], limits.to_vec()].concat()
}

/// The arguments of a renewal that reads the sessions of the node from a cursor on.
pub(super) fn sweep(node: &str, most: usize, limits: SessionLimits, cursor: &Bytes) -> Vec<Bytes> {
    let SessionLimits { queue_bytes, total_bytes, .. } = limits;
    vec![text(node), lease(), number(most), number(queue_bytes), number(total_bytes), cursor.clone()]
}

/// The sessions of this node in the answer to a renewal: key, connection and expiry of each, as the end of a connection.
pub(super) fn own_sessions(answer: &[Bytes]) -> Vec<CloseSession> {
    let text = |bytes: &Bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let entries = answer.get(10..).unwrap_or_default().chunks_exact(3);
    let sessions = entries.filter_map(|entry| {
        let (key, client) = (text(&entry[0])?.into(), text(&entry[1])?);
        Some(CloseSession { key, client, expiry: read(entry, 2)?, sent: None })
    });
    sessions.collect()
}

/// The options of a message for one client: no digits, then its own.
fn single(message: &Message) -> Bytes {
    let mut encoder = Encoder::default();
    let Message { retain, identifier, is_pattern, .. } = message;
    encoder.u8(b'M').u8(u8::from(*retain)).u32(*identifier).u8(u8::from(*is_pattern));
    encoder.0.into()
}

/// A page of messages: those of the answer behind its first values.
pub(super) fn page(answer: &[Bytes]) -> Option<MessagePage> {
    let (has_more, dropped) = (read::<u8>(answer, 1)? == 1, read(answer, 2)?);
    let messages = entries(answer.get(3..)?)?.iter().map(queued).collect();
    Some(MessagePage { messages, has_more, dropped })
}

fn queued(entry: &QueuedEntry) -> QueuedMessage {
    QueuedMessage { id: PacketId::new(entry.id), serial: entry.serial, message: decoded(entry) }
}

/// The options of all subscriptions that match a message.
fn combined(options: &[u8]) -> Option<Combined> {
    let (mut from, mut combined) = (Decoder(options), None);
    while !from.0.is_empty() {
        from.0 = from.0.get(2..)?;
        let options = from.subscription()?.options;
        match &mut combined {
            None => combined = Some(Combined::from(options)),
            Some(combined) => combined.add(options),
        }
    }
    combined
}

fn decoded(entry: &QueuedEntry) -> Option<Message> {
    let publication = Decoder(&entry.message).publication()?;
    let (retain, identifier, more_identifiers, is_pattern) = if entry.options.first() == Some(&b'M') {
        let mut from = Decoder(&entry.options[1..]);
        (from.flag()?, from.u32()?, Vec::new(), from.flag()?)
    } else {
        let Combined { options, more_identifiers } = combined(&entry.options)?;
        let properties = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
        let retain = options.retain_as_published && properties.is_some_and(|properties| properties.retain);
        (retain, options.identifier, more_identifiers, options.is_pattern)
    };
    Some(Message {
        publication: Arc::new(publication),
        qos: Qos::from_number(entry.qos)?,
        retain,
        identifier,
        more_identifiers: more_identifiers.into(),
        is_pattern,
        is_unchecked: true,
        received: entry.received,
    })
}
