//! MQTT 3.1.1 and 5.0, packet by packet.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use tidings_hub::{
    Flow, Namespace, NamespaceOptions, Namespaces, Rejection, Response, SessionAction, SessionCommand, Slot,
    Timer,
};
use tidings_mqtt::{
    Ack, ConnAck, Connect, Decoded, Decoder, Packet, PacketId, Properties, PropertiesBuf, Property,
    PropertyId, Publish, Qos, QosAndId, ReasonCode, RetainHandling, Sensitive, Side, Subscribe, Subscription,
    SubscriptionOptions, SubscriptionsBuf, TopicFiltersBuf, Unsubscribe, Version, Will,
};
use tidings_session::{MqttSettings, ProtocolSettings};
use tidings_wire::ws::{self, Opcode};
use tidings_wire::{Channel, Extra, MessageProperties, Publication, code};

use crate::test_hub::{Broker, TestHub, named, settings, with_key};

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
        Packet::ConnAck(ConnAck { reason, .. }) => format!("CONNACK {reason:?}"),
        Packet::Publish(publish) => {
            let qos = match publish.qos {
                QosAndId::AtMostOnce => String::new(),
                QosAndId::AtLeastOnce(id) => format!(" q1:{id}"),
                QosAndId::ExactlyOnce(id) => format!(" q2:{id}"),
            };
            let retain = if publish.retain { " retain" } else { "" };
            let payload = String::from_utf8_lossy(publish.payload);
            format!("PUBLISH {}={payload}{qos}{retain}{}", publish.topic, users(&publish.properties))
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

#[test]
fn a_message_reaches_subscribers_with_the_lower_of_both_qualities() {
    for version in [V3, V5] {
        let mut w = hub();
        let publisher = connected(&mut w, version, "p");
        let slots = Qos::ALL.map(|qos| {
            let client_id = ["zero", "one", "two"][qos as usize];
            let slot = connected(&mut w, version, client_id);
            let granted = ["Success", "GrantedQos1", "GrantedQos2"][qos as usize];
            assert_eq!(subscribe(&mut w, slot, version, "a/b", qos), [format!("SUBACK 7 [{granted}]")]);
            slot
        });
        assert_eq!(say(&mut w, publisher, version, &publish("a/b", QOS0, "0")), [""; 0]);
        assert_eq!(say(&mut w, publisher, version, &publish("a/b", qos1(3), "1")), ["PUBACK 3 Success"]);
        assert_eq!(say(&mut w, publisher, version, &publish("a/b", qos2(4), "2")), ["PUBREC 4 Success"]);
        let pubrel = Packet::PubRel(Ack::success(id(4)));
        assert_eq!(say(&mut w, publisher, version, &pubrel), ["PUBCOMP 4 Success"]);
        let expected = [
            ["PUBLISH a/b=0", "PUBLISH a/b=1", "PUBLISH a/b=2"],
            ["PUBLISH a/b=0", "PUBLISH a/b=1 q1:1", "PUBLISH a/b=2 q1:2"],
            ["PUBLISH a/b=0", "PUBLISH a/b=1 q1:1", "PUBLISH a/b=2 q2:2"],
        ];
        for (slot, expected) in slots.into_iter().zip(expected) {
            assert_eq!(received(&mut w, slot, version), expected, "{version:?}");
        }
    }
}

#[test]
fn a_publication_of_another_protocol_arrives_with_at_most_the_default_qos() {
    let mut w = hub();
    let slot = connected(&mut w, V5, "c");
    subscribe(&mut w, slot, V5, "news", Qos::ExactlyOnce);
    w.publish("news", "hi");
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH news=hi q1:1"]);
}

#[test]
fn a_message_with_qos_2_is_published_once_however_often_it_is_sent() {
    let mut w = hub();
    let (slot, watcher) = (connected(&mut w, V5, "a"), connected(&mut w, V5, "b"));
    subscribe(&mut w, watcher, V5, "t", Qos::AtMostOnce);
    for _ in 0..2 {
        assert_eq!(say(&mut w, slot, V5, &publish("t", qos2(9), "once")), ["PUBREC 9 Success"]);
    }
    for reason in ["Success", "PacketIdentifierNotFound"] {
        let pubrel = Packet::PubRel(Ack::success(id(9)));
        assert_eq!(say(&mut w, slot, V5, &pubrel), [format!("PUBCOMP 9 {reason}")]);
    }
    assert_eq!(say(&mut w, slot, V5, &publish("t", qos2(9), "again")), ["PUBREC 9 Success"]);
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH t=once", "PUBLISH t=again"]);
}

#[test]
fn nothing_is_acknowledged_before_the_broker_has_it() {
    let mut w = hub();
    w.respond_at_once = false;
    let slot = connected(&mut w, V5, "c");
    assert_eq!(say(&mut w, slot, V5, &publish("t", qos1(1), "x")), [""; 0]);
    assert_eq!(say(&mut w, slot, V5, &publish("t", qos2(2), "y")), [""; 0]);
    w.respond_next(Response::Published(0));
    assert_eq!(received(&mut w, slot, V5), ["PUBACK 1 Success"]);
    w.respond_next(Response::Failed(tidings_hub::Failure::Unavailable));
    assert_eq!(received(&mut w, slot, V5), ["PUBREC 2 UnspecifiedError"]);
    // The packet identifier is free again.
    send(&mut w, slot, V5, &publish("t", qos2(2), "y"));
    w.respond_next(Response::Published(0));
    assert_eq!(received(&mut w, slot, V5), ["PUBREC 2 Success"]);
}

#[test]
fn a_client_of_3_1_1_whose_message_is_not_kept_is_disconnected() {
    let mut w = hub();
    w.respond_at_once = false;
    let slot = connected(&mut w, V3, "c");
    send(&mut w, slot, V3, &publish("t", qos1(1), "x"));
    w.respond_next(Response::Failed(tidings_hub::Failure::Unavailable));
    assert_eq!(received(&mut w, slot, V3), [""; 0]);
    assert!(w.closed.contains(&slot));
}

#[test]
fn messages_wait_while_the_client_has_as_many_unacknowledged_ones_as_it_accepts() {
    let mut w = hub();
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::ReceiveMaximum(NonZeroU16::new(2).unwrap())).unwrap();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    say(&mut w, slot, V5, &Packet::Connect(connect));
    subscribe(&mut w, slot, V5, "t", Qos::ExactlyOnce);
    let publisher = connected(&mut w, V5, "p");
    for (number, payload) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let qos = if number % 2 == 0 { qos1(number as u16 + 1) } else { qos2(number as u16 + 1) };
        send(&mut w, publisher, V5, &publish("t", qos, payload));
    }
    send(&mut w, publisher, V5, &publish("t", QOS0, "e"));
    // QoS 0 is not subject to the maximum.
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH t=a q1:1", "PUBLISH t=b q2:2", "PUBLISH t=e"]);
    let mut ack = |packet| say(&mut w, slot, V5, &packet);
    assert_eq!(ack(Packet::PubAck(Ack::success(id(1)))), ["PUBLISH t=c q1:3"]);
    assert_eq!(ack(Packet::PubRec(Ack::success(id(2)))), ["PUBREL 2 Success"]);
    assert_eq!(ack(Packet::PubRec(Ack::success(id(2)))), ["PUBREL 2 Success"], "again");
    assert_eq!(ack(Packet::PubComp(Ack::success(id(2)))), ["PUBLISH t=d q2:4"]);
    // A negative PUBREC ends the message.
    let refused = Ack { reason: ReasonCode::QuotaExceeded, ..Ack::success(id(4)) };
    assert_eq!(ack(Packet::PubRec(refused)), [""; 0]);
    assert_eq!(ack(Packet::PubRec(Ack::success(id(4)))), ["PUBREL 4 PacketIdentifierNotFound"]);
    assert_eq!(ack(Packet::PubAck(Ack::success(id(99)))), [""; 0], "no message awaits it");
}

#[test]
fn a_client_that_does_not_acknowledge_is_disconnected_at_the_bound_of_waiting_messages() {
    let mut w = with_mqtt(|mqtt| {
        mqtt.max_in_flight = 1;
        mqtt.queue_bytes = 1_000;
    });
    let slot = connected(&mut w, V5, "c");
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    let mut sent = 0;
    while !w.overflowed.contains(&slot) {
        w.publish("t", "x");
        sent += 1;
        assert!(sent < 100, "the bound");
    }
    assert!(sent > 5, "{sent}");
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH t=x q1:1"]);
}

#[test]
fn a_client_that_sends_more_than_the_receive_maximum_is_disconnected() {
    let mut w = with_mqtt(|mqtt| mqtt.receive_maximum = 2);
    let slot = connected(&mut w, V5, "c");
    for number in 1..3 {
        send(&mut w, slot, V5, &publish("t", qos2(number), "x"));
    }
    received(&mut w, slot, V5);
    let answer = say(&mut w, slot, V5, &publish("t", qos2(3), "x"));
    assert_eq!(answer, ["DISCONNECT ReceiveMaximumExceeded"]);
    assert!(w.closed.contains(&slot));
}

#[test]
fn filters_with_wildcards_get_what_they_match_and_not_the_first_level_with_a_dollar() {
    for version in [V3, V5] {
        let mut w = hub();
        let slot = connected(&mut w, version, "c");
        for filter in ["#", "a/+", "+/b/#"] {
            assert_eq!(subscribe(&mut w, slot, version, filter, Qos::AtMostOnce), ["SUBACK 7 [Success]"]);
        }
        let mut topics = |topic: &str| {
            w.publish(topic, "x");
            received(&mut w, slot, version).len()
        };
        assert_eq!(topics("a/b"), 3, "once for each filter that matches");
        assert_eq!(topics("a/c"), 2);
        assert_eq!(topics("a/b/c"), 2);
        assert_eq!(topics("z"), 1);
        assert_eq!(topics("$SYS/x"), 0);
        assert_eq!(topics("room#1"), 0, "no topic name");
    }
}

#[test]
fn each_delivery_has_the_identifier_and_options_of_its_subscription() {
    let mut w = hub();
    let slot = connected(&mut w, V5, "c");
    for (filter, identifier) in [("a/+", 5), ("a/b", 6)] {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::SubscriptionIdentifier(identifier)).unwrap();
        subscribe_with(&mut w, slot, V5, &[(filter, options(Qos::AtLeastOnce))], properties.as_properties());
    }
    w.publish("a/b", "x");
    let mut all = received(&mut w, slot, V5);
    all.sort();
    assert_eq!(
        all,
        ["PUBLISH a/b=x q1:1 SubscriptionIdentifier(6)", "PUBLISH a/b=x q1:2 SubscriptionIdentifier(5)",]
    );
    // A second SUBSCRIBE replaces the options.
    assert_eq!(subscribe(&mut w, slot, V5, "a/b", Qos::AtMostOnce), ["SUBACK 7 [Success]"]);
    w.publish("a/b", "y");
    let mut all = received(&mut w, slot, V5);
    all.sort();
    assert_eq!(all, ["PUBLISH a/b=y", "PUBLISH a/b=y q1:3 SubscriptionIdentifier(5)"]);
}

#[test]
fn a_client_does_not_get_its_own_messages_with_no_local() {
    let mut w = hub();
    let (slot, other) = (connected(&mut w, V5, "a"), connected(&mut w, V5, "b"));
    let no_local = SubscriptionOptions { no_local: true, ..options(Qos::AtMostOnce) };
    let filters = [("t", no_local), ("x/+", no_local), ("y", options(Qos::AtMostOnce))];
    subscribe_with(&mut w, slot, V5, &filters, Properties::NONE);
    for topic in ["t", "x/1", "y"] {
        send(&mut w, slot, V5, &publish(topic, QOS0, "own"));
        send(&mut w, other, V5, &publish(topic, QOS0, "other"));
    }
    assert_eq!(
        received(&mut w, slot, V5),
        ["PUBLISH t=other", "PUBLISH x/1=other", "PUBLISH y=own", "PUBLISH y=other"]
    );
}

#[test]
fn properties_of_a_message_reach_clients_of_5_0_and_its_user_properties_are_tags() {
    let mut w = hub();
    let (publisher, slot, old) =
        (connected(&mut w, V5, "p"), connected(&mut w, V5, "c"), connected(&mut w, V3, "o"));
    subscribe(&mut w, slot, V5, "t", Qos::AtMostOnce);
    subscribe(&mut w, old, V3, "t", Qos::AtMostOnce);
    let mut properties = PropertiesBuf::default();
    let all = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("answers"),
        Property::CorrelationData(b"\x01"),
        Property::UserProperty("a", "1"),
        Property::UserProperty("b", "2"),
    ];
    for property in all {
        properties.push(property).unwrap();
    }
    let Packet::Publish(message) = publish("t", QOS0, "x") else { unreachable!() };
    let message = Publish { properties: properties.as_properties(), ..message };
    send(&mut w, publisher, V5, &Packet::Publish(message));
    let got = received(&mut w, slot, V5);
    for property in all {
        assert!(got[0].contains(&format!("{property:?}")), "{property:?} in {got:?}");
    }
    assert_eq!(received(&mut w, old, V3), ["PUBLISH t=x"]);
    assert_eq!(w.tags, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
}

#[test]
fn a_topic_alias_stands_for_its_topic() {
    let mut w = hub();
    let (slot, watcher) = (connected(&mut w, V5, "a"), connected(&mut w, V5, "b"));
    subscribe(&mut w, watcher, V5, "a/long/topic", Qos::AtMostOnce);
    let send_alias = |w: &mut TestHub, topic: &'static str, alias: u16| {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::TopicAlias(id(alias))).unwrap();
        let Packet::Publish(message) = publish(topic, QOS0, "x") else { unreachable!() };
        let message = Publish { properties: properties.as_properties(), ..message };
        say(w, slot, V5, &Packet::Publish(message))
    };
    assert_eq!(send_alias(&mut w, "a/long/topic", 16), [""; 0]);
    assert_eq!(send_alias(&mut w, "", 16), [""; 0]);
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH a/long/topic=x", "PUBLISH a/long/topic=x"]);
    assert_eq!(send_alias(&mut w, "", 15), ["DISCONNECT ProtocolError"]);
    let slot = connected(&mut w, V5, "a");
    let mut properties = PropertiesBuf::default();
    properties.push(Property::TopicAlias(id(17))).unwrap();
    let Packet::Publish(message) = publish("t", QOS0, "x") else { unreachable!() };
    let message = Publish { properties: properties.as_properties(), ..message };
    assert_eq!(say(&mut w, slot, V5, &Packet::Publish(message)), ["DISCONNECT TopicAliasInvalid"]);
}

#[test]
fn the_server_uses_as_many_topic_aliases_as_the_client_accepts() {
    let mut w = hub();
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::TopicAliasMaximum(1)).unwrap();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    say(&mut w, slot, V5, &Packet::Connect(connect));
    for filter in ["a/+", "b/+"] {
        subscribe(&mut w, slot, V5, filter, Qos::AtLeastOnce);
    }
    for topic in ["a/1", "a/1", "b/1", "a/1"] {
        w.publish(topic, "x");
    }
    assert_eq!(
        received(&mut w, slot, V5),
        [
            "PUBLISH a/1=x q1:1 TopicAlias(1)",
            "PUBLISH =x q1:2 TopicAlias(1)",
            "PUBLISH b/1=x q1:3",
            "PUBLISH =x q1:4 TopicAlias(1)",
        ]
    );
}

#[test]
fn a_message_larger_than_the_client_accepts_is_not_sent() {
    let mut w = hub();
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::MaximumPacketSize(NonZeroU32::new(20).unwrap())).unwrap();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    send(&mut w, slot, V5, &Packet::Connect(connect));
    received(&mut w, slot, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    w.publish("t", "a message that is longer than 20 bytes");
    w.publish("t", "short");
    let got = received(&mut w, slot, V5);
    assert!(got.len() == 1 && got[0].starts_with("PUBLISH t=short"), "{got:?}");
}

#[test]
fn a_client_id_belongs_to_the_newest_connection() {
    let mut w = hub();
    let first = connected(&mut w, V5, "c");
    let second = connected(&mut w, V5, "c");
    assert_eq!(received(&mut w, first, V5), ["DISCONNECT SessionTakenOver"]);
    assert!(w.closed.contains(&first) && !w.closed.contains(&second));
    // From another shard or node: the command that the new connection causes there.
    let command = |client: String| {
        let action = SessionAction::TakeOver { name: "c".into(), client };
        SessionCommand { user: String::new(), client: None, session: None, action }
    };
    let own = w.hub.client_id(w.hub.session_id(second));
    w.with(|hub, fx| hub.apply_session_command(&command(own), fx));
    assert!(!w.closed.contains(&second), "its own command does not end it");
    w.with(|hub, fx| hub.apply_session_command(&command("other".into()), fx));
    assert_eq!(received(&mut w, second, V5), ["DISCONNECT SessionTakenOver"]);
}

#[test]
fn a_client_without_an_id_gets_one() {
    let mut w = hub();
    let slot = w.open();
    let connect = Connect { client_id: "", ..connect(V5) };
    send(&mut w, slot, V5, &Packet::Connect(connect.clone()));
    let bytes = w.sent.remove(&slot).unwrap();
    let decoder = Decoder { side: Side::Client, version: Some(V5), max_packet: 1 << 20 };
    let Ok(Decoded::Packet(Packet::ConnAck(connack), _)) = decoder.decode(&bytes) else { panic!() };
    let own = w.hub.client_id(w.hub.session_id(slot));
    assert_eq!(
        connack.properties.get(PropertyId::AssignedClientIdentifier),
        Some(Property::AssignedClientIdentifier(&own))
    );
    // 3.1.1: with a clean session only.
    let slot = w.open();
    let connect = Connect { version: V3, clean_start: false, ..connect };
    assert_eq!(say(&mut w, slot, V3, &Packet::Connect(connect)), ["CONNACK ClientIdentifierNotValid"]);
    assert!(w.closed.contains(&slot));
}

#[test]
fn the_password_is_an_api_key_or_a_token() {
    let options = NamespaceOptions { allow_publish_for_client: true, ..NamespaceOptions::default() };
    let open = NamespaceOptions { allow_subscribe_for_client: true, ..NamespaceOptions::default() };
    let namespaces = Namespaces::new(options, [Namespace { name: "open".into(), options: open }]);
    let mut settings = with_key(namespaces);
    settings.access.tokens = true;
    let mut w = TestHub::without_auto_subscribe(settings);
    w.authority = |request| match request {
        tidings_hub::AuthorizationRequest::Connect { token, .. } if token == "good" => {
            let connected = tidings_hub::Connected { user: "42".into(), ..Default::default() };
            Response::Connected(Box::new(connected))
        }
        _ => Response::Failed(Rejection::from(code::UNAUTHORIZED).into()),
    };
    let mut connect_with = |version, password: Option<&'static [u8]>| {
        let slot = w.open();
        let connect =
            Connect { user_name: Some("any"), password: password.map(Sensitive), ..connect(version) };
        (slot, say(&mut w, slot, version, &Packet::Connect(connect)))
    };
    for version in [V3, V5] {
        assert_eq!(connect_with(version, Some(b"wrong")).1, ["CONNACK BadUserNameOrPassword"]);
        assert_eq!(connect_with(version, None).1, ["CONNACK NotAuthorized"]);
    }
    let (backend, answer) = connect_with(V5, Some(b"sesame"));
    assert_eq!(answer, ["CONNACK Success"]);
    let (client, answer) = connect_with(V5, Some(b"good"));
    assert_eq!(answer, ["CONNACK Success"]);
    assert_eq!(subscribe(&mut w, backend, V5, "#", Qos::AtLeastOnce), ["SUBACK 7 [GrantedQos1]"]);
    let filters = ["closed/t", "open:t", "#", "open:a/+", "none:t", "tidings.x"];
    let filters = filters.map(|filter| (filter, self::options(Qos::AtMostOnce)));
    assert_eq!(
        subscribe_with(&mut w, client, V5, &filters, Properties::NONE),
        ["SUBACK 7 [NotAuthorized, Success, NotAuthorized, Success, TopicFilterInvalid, NotAuthorized]"]
    );
    assert_eq!(say(&mut w, client, V5, &publish("t", qos1(1), "x")), ["PUBACK 1 Success"]);
    assert_eq!(say(&mut w, client, V5, &publish("open:t", qos1(1), "x")), ["PUBACK 1 NotAuthorized"]);
    assert_eq!(received(&mut w, backend, V5), ["PUBLISH t=x q1:1"]);
}

#[test]
fn a_will_is_published_unless_the_client_disconnects_normally() {
    let mut w = hub();
    let watcher = connected(&mut w, V5, "watcher");
    subscribe(&mut w, watcher, V5, "gone", Qos::AtLeastOnce);
    let with_will = |w: &mut TestHub| {
        let slot = w.open();
        let will = Will {
            topic: "gone",
            payload: b"bye",
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::NONE,
        };
        let connect = Connect { will: Some(will), client_id: "w", ..connect(V5) };
        assert_eq!(say(w, slot, V5, &Packet::Connect(connect)), ["CONNACK Success"]);
        slot
    };
    let disconnect =
        |reason| Packet::Disconnect(tidings_mqtt::Disconnect { reason, properties: Properties::NONE });
    let slot = with_will(&mut w);
    send(&mut w, slot, V5, &disconnect(ReasonCode::Success));
    assert_eq!(received(&mut w, watcher, V5), [""; 0]);
    let slot = with_will(&mut w);
    send(&mut w, slot, V5, &disconnect(ReasonCode::DisconnectWithWill));
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH gone=bye q1:1"]);
    // The connection breaks.
    let slot = with_will(&mut w);
    w.with(|hub, fx| hub.closed(slot, fx));
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH gone=bye q1:2"]);
    // Another connection takes over.
    with_will(&mut w);
    with_will(&mut w);
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH gone=bye q1:3"]);
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alive_times() {
    let mut w = hub();
    let slot = w.open();
    let connect = Connect { keep_alive: 10, ..connect(V5) };
    send(&mut w, slot, V5, &Packet::Connect(connect));
    let tick = |w: &mut TestHub| {
        let at = w.timers.iter().position(|(_, timer, _)| *timer == Timer::KeepAlive).expect("a timer");
        let (id, timer, after) = w.timers.remove(at);
        assert_eq!(after.as_secs(), 5);
        w.with(|hub, fx| hub.expired(id, timer, fx));
    };
    for _ in 0..3 {
        tick(&mut w);
    }
    assert_eq!(say(&mut w, slot, V5, &Packet::PingReq), ["CONNACK Success", "PingResp"]);
    for _ in 0..4 {
        assert!(!w.closed.contains(&slot));
        tick(&mut w);
    }
    assert_eq!(received(&mut w, slot, V5), ["DISCONNECT KeepAliveTimeout"]);
}

#[test]
fn the_server_can_shorten_the_keep_alive_time() {
    let mut w = with_mqtt(|mqtt| mqtt.max_keep_alive = 30);
    for (asked, expected) in [(0, Some(30)), (60, Some(30)), (20, None)] {
        let slot = w.open();
        let connect = Connect { keep_alive: asked, ..connect(V5) };
        send(&mut w, slot, V5, &Packet::Connect(connect));
        let bytes = w.sent.remove(&slot).unwrap();
        let decoder = Decoder { side: Side::Client, version: Some(V5), max_packet: 1 << 20 };
        let Ok(Decoded::Packet(Packet::ConnAck(connack), _)) = decoder.decode(&bytes) else { panic!() };
        let expected = expected.map(Property::ServerKeepAlive);
        assert_eq!(connack.properties.get(PropertyId::ServerKeepAlive), expected, "{asked}");
    }
}

#[test]
fn what_is_not_available_is_refused_with_its_reason_code() {
    let mut w = with_mqtt(|mqtt| mqtt.retain_available = false);
    let slot = connected(&mut w, V5, "c");
    let shared = subscribe(&mut w, slot, V5, "$share/group/t", Qos::AtMostOnce);
    assert_eq!(shared, ["SUBACK 7 [SharedSubscriptionsNotSupported]"]);
    let invalid = subscribe(&mut w, slot, V5, "a/#/b", Qos::AtMostOnce);
    assert_eq!(invalid, ["SUBACK 7 [TopicFilterInvalid]"]);
    let Packet::Publish(message) = publish("t", qos1(1), "x") else { unreachable!() };
    let retained = Packet::Publish(Publish { retain: true, ..message });
    assert_eq!(say(&mut w, slot, V5, &retained), ["DISCONNECT RetainNotSupported"]);
    let slot = w.open();
    let kept = Connect { clean_start: false, ..connect(V3) };
    assert_eq!(say(&mut w, slot, V3, &Packet::Connect(kept)), ["CONNACK ServerUnavailable"]);
    let mut properties = PropertiesBuf::default();
    properties.push(Property::AuthenticationMethod("SCRAM")).unwrap();
    let slot = w.open();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    assert_eq!(say(&mut w, slot, V5, &Packet::Connect(connect)), ["CONNACK BadAuthenticationMethod"]);
}

fn retained(topic: &str, payload: &str, qos: Qos) -> Arc<Publication> {
    let message = MessageProperties { qos, retain: true, ..MessageProperties::default() };
    let mut publication = Publication::new(Channel::new(topic).unwrap(), payload.to_owned());
    publication.extra = Some(Box::new(Extra { message: Some(Box::new(message)), ..Extra::default() }));
    Arc::new(publication)
}

#[test]
fn a_new_subscription_gets_the_retained_messages_with_the_retain_flag() {
    for version in [V3, V5] {
        let mut w = hub();
        w.retained = vec![retained("a/1", "x", Qos::ExactlyOnce), retained("b", "y", Qos::AtMostOnce)];
        let slot = connected(&mut w, version, "c");
        assert_eq!(
            subscribe(&mut w, slot, version, "a/+", Qos::AtLeastOnce),
            ["SUBACK 7 [GrantedQos1]", "PUBLISH a/1=x q1:1 retain"]
        );
        let shared_form = connected(&mut w, version, "d");
        assert_eq!(
            subscribe(&mut w, shared_form, version, "b", Qos::AtMostOnce),
            ["SUBACK 7 [Success]", "PUBLISH b=y retain"]
        );
        // A live message has no retain flag.
        let Packet::Publish(message) = publish("b", QOS0, "z") else { unreachable!() };
        send(&mut w, slot, version, &Packet::Publish(Publish { retain: true, ..message }));
        assert_eq!(received(&mut w, shared_form, version), ["PUBLISH b=z"]);
    }
}

#[test]
fn the_options_of_a_subscription_decide_about_retained_messages() {
    let mut w = hub();
    w.retained = vec![retained("t", "x", Qos::AtMostOnce)];
    let slot = connected(&mut w, V5, "c");
    let mut count = |handling| {
        let options = SubscriptionOptions { retain_handling: handling, ..options(Qos::AtMostOnce) };
        subscribe_with(&mut w, slot, V5, &[("t", options)], Properties::NONE).len() - 1
    };
    assert_eq!(count(RetainHandling::DoNotSend), 0);
    assert_eq!(count(RetainHandling::SendIfNew), 0, "it exists");
    assert_eq!(count(RetainHandling::Send), 1);
    assert_eq!(count(RetainHandling::Send), 1, "with every SUBSCRIBE");
    let new = connected(&mut w, V5, "d");
    let as_published = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        retain_as_published: true,
        ..options(Qos::AtMostOnce)
    };
    let got = subscribe_with(&mut w, new, V5, &[("t", as_published)], Properties::NONE);
    assert_eq!(got, ["SUBACK 7 [Success]", "PUBLISH t=x retain"]);
    let Packet::Publish(message) = publish("t", QOS0, "z") else { unreachable!() };
    send(&mut w, slot, V5, &Packet::Publish(Publish { retain: true, ..message }));
    assert_eq!(received(&mut w, new, V5), ["PUBLISH t=z retain"]);
}

#[test]
fn a_packet_that_breaks_a_rule_ends_the_connection_with_its_reason_code() {
    let connect_5 = bytes(&Packet::Connect(connect(V5)), V5);
    let cases: [(&[u8], &str); 8] = [
        (&connect_5, "DISCONNECT ProtocolError"),
        (&[0xF1, 0], "DISCONNECT MalformedPacket"),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "DISCONNECT MalformedPacket"),
        (&[0x30, 0xFF, 0xFF, 0x7F], "DISCONNECT PacketTooLarge"),
        (&[0x36, 5, 0, 1, b't', 0, 1], "DISCONNECT MalformedPacket"),
        (&[0x30, 4, 0, 1, b'+', 0], "DISCONNECT TopicNameInvalid"),
        (&[0x82, 6, 0, 1, 0, 0, 1, b't'], "DISCONNECT MalformedPacket"),
        (&[0x20, 3, 0, 0, 0], "DISCONNECT ProtocolError"),
    ];
    for (input, expected) in cases {
        let mut w = hub();
        let slot = connected(&mut w, V5, "c");
        w.input(slot, input);
        assert_eq!(received(&mut w, slot, V5), [expected], "{input:?}");
        assert!(w.closed.contains(&slot));
        let mut w = hub();
        let slot = connected(&mut w, V3, "c");
        w.input(slot, input);
        assert_eq!(received(&mut w, slot, V3), [""; 0], "3.1.1 has no DISCONNECT of a server");
        assert!(w.closed.contains(&slot), "{input:?}");
    }
}

#[test]
fn a_version_that_is_not_spoken_gets_the_connack_of_its_client() {
    let mut w = hub();
    let slot = w.open();
    w.input(slot, b"\x10\x0d\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00");
    assert_eq!(received(&mut w, slot, V3), ["CONNACK UnsupportedProtocolVersion"]);
    assert!(w.closed.contains(&slot));
    let slot = w.open();
    w.input(slot, b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00");
    assert_eq!(received(&mut w, slot, V5), ["CONNACK UnsupportedProtocolVersion"]);
}

#[test]
fn packets_may_be_split_and_joined_anywhere() {
    for version in [V3, V5] {
        let mut all = bytes(&Packet::Connect(connect(version)), version);
        let mut buffer = SubscriptionsBuf::default();
        buffer.push(Subscription { filter: "t", options: options(Qos::AtMostOnce) }).unwrap();
        let subscriptions = buffer.as_subscriptions();
        let subscribe = Subscribe { packet_id: id(1), properties: Properties::NONE, subscriptions };
        all.extend(bytes(&Packet::Subscribe(subscribe), version));
        all.extend(bytes(&publish("t", qos1(2), "x"), version));
        all.extend(bytes(&Packet::PingReq, version));
        let expected =
            ["CONNACK Success", "SUBACK 1 [Success]", "PUBLISH t=x", "PUBACK 2 Success", "PingResp"];
        for size in 1..all.len() {
            let mut w = hub();
            let slot = w.open();
            all.chunks(size).for_each(|chunk| _ = w.input(slot, chunk));
            assert_eq!(received(&mut w, slot, version), expected, "{size}");
            // The same over WebSocket, in messages that end within packets.
            let mut fx = tidings_hub::Effects::default();
            let slot = w.hub.open_as(named("websocket_mqtt_connecting").into(), None, &mut fx).slot;
            for chunk in all.chunks(size) {
                let mut frame = Vec::new();
                ws::masked_frame(Opcode::Binary, chunk, [1, 2, 3, 4], &mut frame);
                w.input(slot, frame);
            }
            let sent = w.sent.remove(&slot).unwrap_or_default();
            assert_eq!(packets(&unframed(&sent), version), expected, "{size}");
        }
    }
}

/// The contents of binary frames of a WebSocket.
fn unframed(bytes: &[u8]) -> Vec<u8> {
    let rules = ws::Rules { role: ws::Role::Client, max_message: 1 << 20 };
    let (mut reader, mut message, mut rest) = (ws::Reader::default(), Vec::new(), bytes);
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (used, event) = reader.read(rest, &rules, &mut message).expect("frames");
        assert_eq!(event, ws::Event::Message(ws::Kind::Binary));
        all.append(&mut message);
        rest = &rest[used..];
    }
    all
}

#[test]
fn a_subscription_waits_for_the_broker_and_ends_with_unsubscribe() {
    let mut w = hub();
    w.broker = Broker::Slow;
    let slot = connected(&mut w, V5, "c");
    let filters =
        [("a", options(Qos::AtMostOnce)), ("b/+", options(Qos::AtLeastOnce)), ("", options(Qos::AtMostOnce))];
    assert_eq!(subscribe_with(&mut w, slot, V5, &filters, Properties::NONE), [""; 0]);
    w.set_broker(Broker::Up);
    assert_eq!(received(&mut w, slot, V5), ["SUBACK 7 [Success, GrantedQos1, TopicFilterInvalid]"]);
    let mut buffer = TopicFiltersBuf::default();
    for filter in ["a", "b/+", "c"] {
        buffer.push(filter).unwrap();
    }
    let filters = buffer.as_filters();
    let unsubscribe = Unsubscribe { packet_id: id(8), properties: Properties::NONE, filters };
    assert_eq!(
        say(&mut w, slot, V5, &Packet::Unsubscribe(unsubscribe)),
        ["UNSUBACK 8 [Success, Success, NoSubscriptionExisted]"]
    );
    assert!(w.subscribed_topics.is_empty());
    w.publish("a", "x");
    assert_eq!(received(&mut w, slot, V5), [""; 0]);
}

#[test]
fn a_failed_subscription_has_a_reason_code() {
    let mut w = hub();
    w.broker = Broker::Down;
    let slot = connected(&mut w, V3, "c");
    assert_eq!(subscribe(&mut w, slot, V3, "a", Qos::AtMostOnce), ["SUBACK 7 [UnspecifiedError]"]);
    assert_eq!(subscribe(&mut w, slot, V3, "a/+", Qos::AtMostOnce), ["SUBACK 7 [UnspecifiedError]"]);
    w.broker = Broker::Up;
    assert_eq!(subscribe(&mut w, slot, V3, "a", Qos::AtMostOnce), ["SUBACK 7 [Success]"]);
}
