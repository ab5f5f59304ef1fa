//! MQTT 3.1.1 and 5.0, packet by packet.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use tidings_hub::{
    Flow, Namespace, NamespaceOptions, Namespaces, Rejection, SessionAction, SessionCommand, Slot, Timer,
};
use tidings_mqtt::{
    Ack, ConnAck, Connect, Decoded, Decoder, Packet, PacketId, Properties, PropertiesBuf, Property,
    PropertyId, Publish, Qos, QosAndId, ReasonCode, RetainHandling, Sensitive, Side, Subscribe, Subscription,
    SubscriptionOptions, SubscriptionsBuf, TopicFiltersBuf, Unsubscribe, Version, Will,
};
use tidings_session::Response;
use tidings_session::{MqttSettings, ProtocolSettings};
use tidings_wire::ws::{self, Opcode};
use tidings_wire::{Channel, Extra, MessageProperties, Publication, code};

use crate::test_hub::{Broker, TestHub, named, settings, with_key};

mod connect;
mod deliver;
mod packets;
mod publish;
mod sessions;
mod shared;
mod stored;
mod subscribe;

const V3: Version = Version::V3;
const V5: Version = Version::V5;

fn hub() -> TestHub {
    TestHub::without_auto_subscribe(settings())
}

fn with_mqtt(change: impl FnOnce(&mut MqttSettings)) -> TestHub {
    let mut mqtt = MqttSettings::workbench();
    change(&mut mqtt);
    let protocols = ProtocolSettings { mqtt: Some(mqtt), ..ProtocolSettings::workbench() };
    TestHub::with_protocols(settings(), protocols)
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: "c",
        will: None,
        user_name: None,
        password: None,
        properties: Properties::NONE,
    }
}

fn bytes(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out).unwrap();
    out
}

fn send(w: &mut TestHub, slot: Slot, version: Version, packet: &Packet<'_>) -> Flow {
    w.input(slot, bytes(packet, version))
}

/// The packets that were sent, as text.
fn received(w: &mut TestHub, slot: Slot, version: Version) -> Vec<String> {
    let bytes = w.sent.remove(&slot).unwrap_or_default();
    packets(&bytes, version)
}

fn packets(bytes: &[u8], version: Version) -> Vec<String> {
    let decoder = Decoder { side: Side::Client, version: Some(version), max_packet: 1 << 20 };
    let (mut rest, mut all) = (bytes, Vec::new());
    while !rest.is_empty() {
        match decoder.decode(rest) {
            Ok(Decoded::Packet(packet, length)) => {
                all.push(text(&packet));
                rest = &rest[length..];
            }
            other => panic!("{other:?} in {rest:?}"),
        }
    }
    all
}

fn text(packet: &Packet<'_>) -> String {
    let users = |properties: &Properties<'_>| -> String {
        let kept = properties.iter().filter(|p| p.id() != PropertyId::ReasonString);
        kept.map(|property| format!(" {property:?}")).collect()
    };
    match packet {
        Packet::ConnAck(ConnAck { session_present, reason, properties }) => {
            let present = if *session_present { " present" } else { "" };
            let shown = [PropertyId::SessionExpiryInterval, PropertyId::UserProperty];
            let shown = properties.iter().filter(|property| shown.contains(&property.id()));
            let shown: String = shown.map(|property| format!(" {property:?}")).collect();
            format!("CONNACK {reason:?}{present}{shown}")
        }
        Packet::Publish(publish) => {
            let qos = match publish.qos {
                QosAndId::AtMostOnce => String::new(),
                QosAndId::AtLeastOnce(id) => format!(" q1:{id}"),
                QosAndId::ExactlyOnce(id) => format!(" q2:{id}"),
            };
            let retain = if publish.retain { " retain" } else { "" };
            let payload = String::from_utf8_lossy(publish.payload);
            let dup = if publish.dup { " dup" } else { "" };
            format!("PUBLISH {}={payload}{qos}{retain}{dup}{}", publish.topic, users(&publish.properties))
        }
        Packet::PubAck(ack) => format!("PUBACK {} {:?}", ack.packet_id, ack.reason),
        Packet::PubRec(ack) => format!("PUBREC {} {:?}", ack.packet_id, ack.reason),
        Packet::PubRel(ack) => format!("PUBREL {} {:?}", ack.packet_id, ack.reason),
        Packet::PubComp(ack) => format!("PUBCOMP {} {:?}", ack.packet_id, ack.reason),
        Packet::SubAck(ack) => format!("SUBACK {} {:?}", ack.packet_id, ack.reasons),
        Packet::UnsubAck(ack) => format!("UNSUBACK {} {:?}", ack.packet_id, ack.reasons),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason),
        other => format!("{:?}", other.packet_type()),
    }
}

fn say(w: &mut TestHub, slot: Slot, version: Version, packet: &Packet<'_>) -> Vec<String> {
    send(w, slot, version, packet);
    received(w, slot, version)
}

fn connected(w: &mut TestHub, version: Version, client_id: &'static str) -> Slot {
    let slot = w.open();
    let connect = Connect { client_id, ..connect(version) };
    assert_eq!(say(w, slot, version, &Packet::Connect(connect)), ["CONNACK Success"]);
    slot
}

fn options(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    }
}

fn subscribe_with(
    w: &mut TestHub,
    slot: Slot,
    version: Version,
    filters: &[(&str, SubscriptionOptions)],
    properties: Properties<'_>,
) -> Vec<String> {
    let mut buffer = SubscriptionsBuf::default();
    for (filter, options) in filters {
        buffer.push(Subscription { filter, options: *options }).unwrap();
    }
    let subscribe = Subscribe { packet_id: id(7), properties, subscriptions: buffer.as_subscriptions() };
    say(w, slot, version, &Packet::Subscribe(subscribe))
}

fn subscribe(w: &mut TestHub, slot: Slot, version: Version, filter: &str, qos: Qos) -> Vec<String> {
    subscribe_with(w, slot, version, &[(filter, options(qos))], Properties::NONE)
}

fn publish(topic: &'static str, qos: QosAndId, payload: &'static str) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        properties: Properties::NONE,
        payload: payload.as_bytes(),
    })
}

const QOS0: QosAndId = QosAndId::AtMostOnce;

fn qos1(number: u16) -> QosAndId {
    QosAndId::AtLeastOnce(id(number))
}

fn qos2(number: u16) -> QosAndId {
    QosAndId::ExactlyOnce(id(number))
}
