//! MQTT 3.1.1 of bench subscribers and publishers. Subscribers have QoS 0, publishers QoS 1, so that each message is answered.

use tidings_mqtt::{
    Connect, Decoded, Decoder, Packet, PacketId, Properties, Publish, Qos, QosAndId, ReasonCode, Sensitive,
    Side, Subscribe, Subscription, SubscriptionOptions, SubscriptionsBuf, Version,
};

use super::dialect::Unit;

/// The longest packet in bytes.
const MAX_PACKET: usize = 32 << 20;

fn encode(packet: &Packet<'_>, out: &mut Vec<u8>) {
    packet.encode(Version::V3, out).expect("a channel name and a message of the bench fit into a packet");
}

/// Appends `CONNECT` of a session that ends with the connection.
pub(super) fn connect(secret: Option<&str>, out: &mut Vec<u8>) {
    let connect = Connect {
        version: Version::V3,
        clean_start: true,
        keep_alive: 0,
        client_id: "",
        will: None,
        user_name: secret.map(|_| "bench"),
        password: secret.map(|secret| Sensitive(secret.as_bytes())),
        properties: Properties::NONE,
    };
    encode(&Packet::Connect(connect), out);
}

/// Appends `SUBSCRIBE` with QoS 0.
pub(super) fn subscribe(channel: &str, out: &mut Vec<u8>) {
    let mut subscriptions = SubscriptionsBuf::default();
    let subscription = Subscription { filter: channel, options: SubscriptionOptions::new(Qos::AtMostOnce) };
    subscriptions.push(subscription).expect("a channel name is shorter than 65,535 bytes");
    let (packet_id, properties) = (PacketId::new(1).expect("above 0"), Properties::NONE);
    let subscriptions = subscriptions.as_subscriptions();
    encode(&Packet::Subscribe(Subscribe { packet_id, properties, subscriptions }), out);
}

/// Appends `PUBLISH`; with a packet identifier, with QoS 1.
pub(super) fn publish(channel: &str, id: Option<PacketId>, payload: &[u8], out: &mut Vec<u8>) {
    let qos = id.map_or(QosAndId::AtMostOnce, QosAndId::AtLeastOnce);
    let properties = Properties::NONE;
    encode(
        &Packet::Publish(Publish { dup: false, qos, retain: false, topic: channel, properties, payload }),
        out,
    );
}

/// The packet at the start of `buf`, and its length; `None` for an incomplete one.
///
/// # Errors
/// Bytes that are no packet, as text.
fn next<T>(buf: &[u8], read: impl FnOnce(&Packet<'_>) -> T) -> Result<Option<(T, usize)>, String> {
    let decoder = Decoder { side: Side::Client, version: Some(Version::V3), max_packet: MAX_PACKET };
    match decoder.decode(buf).map_err(|error| error.to_string())? {
        Decoded::Packet(packet, used) => Ok(Some((read(&packet), used))),
        Decoded::Partial { .. } => Ok(None),
    }
}

/// The packet at the start of a subscriber's input.
///
/// # Errors
/// Bytes that are no packet, as text.
pub(super) fn unit(buf: &[u8]) -> Result<Option<(Unit<'static>, usize)>, String> {
    next(buf, |packet| match packet {
        Packet::ConnAck(connack) if connack.reason != ReasonCode::Success => {
            Unit::Error(format!("{:?}", connack.reason))
        }
        Packet::SubAck(suback) => match suback.reasons.iter().next() {
            Some(reason) if reason < ReasonCode::UnspecifiedError => Unit::Subscribed,
            _ => Unit::Error("the subscription is refused".to_owned()),
        },
        _ => Unit::Other,
    })
}

/// The packets at the start of a publisher's input: the number of acknowledgements, and the length. A refused `CONNECT` is an
/// error.
///
/// # Errors
/// The reason code of a `CONNACK`, or bytes that are no packet, as text.
pub(super) fn answers(buf: &[u8]) -> Result<(Answers, usize), String> {
    let (mut found, mut used) = (Answers::default(), 0);
    while let Some((answer, length)) = next(&buf[used..], |packet| match packet {
        Packet::ConnAck(connack) if connack.reason != ReasonCode::Success => {
            Err(format!("{:?}", connack.reason))
        }
        Packet::ConnAck(_) => Ok((true, 0)),
        Packet::PubAck(_) => Ok((false, 1)),
        _ => Ok((false, 0)),
    })? {
        let (is_connected, published) = answer?;
        found.is_connected |= is_connected;
        found.published += published;
        used += length;
    }
    Ok((found, used))
}

/// The answers to a publisher.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// `CONNACK` of success.
    pub(super) is_connected: bool,
    /// The number of acknowledged messages.
    pub(super) published: u64,
}
