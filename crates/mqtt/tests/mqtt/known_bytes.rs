//! Packets whose bytes are known from the figures of the specification, or written by hand from its tables.

use tidings_mqtt::{
    Ack, Decoded, Decoder, Packet, PacketId, PropertiesBuf, Property, Publish, Qos, QosAndId, ReasonCode,
    ReasonCodes, Side, SubAck, Subscribe, Subscription, SubscriptionOptions, SubscriptionsBuf, UnsubAck,
    Version,
};

fn decoder(side: Side, version: impl Into<Option<Version>>) -> Decoder {
    Decoder { side, version: version.into(), max_packet: 1000 }
}

fn packet(decoder: Decoder, bytes: &[u8]) -> Packet<'_> {
    match decoder.decode(bytes) {
        Ok(Decoded::Packet(packet, used)) if used == bytes.len() => packet,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_connect_of_3_1_1_has_the_fields_that_its_flags_announce() {
    let bytes = b"\x10\x23\0\x04MQTT\x04\xEE\0\x0A\0\x03dev\0\x01t\0\x02\xFF\0\0\x04name\0\x05p\0w\xFFd";
    let Packet::Connect(connect) = packet(decoder(Side::Server, None), bytes) else { panic!("a CONNECT") };
    assert_eq!((connect.version, connect.clean_start, connect.keep_alive), (Version::V3, true, 10));
    assert_eq!((connect.client_id, connect.user_name), ("dev", Some("name")));
    assert_eq!(connect.password.map(|password| password.0), Some(&b"p\0w\xFFd"[..]));
    let will = connect.will.as_ref().unwrap();
    assert_eq!(
        (will.topic, will.payload, will.qos, will.retain),
        ("t", &b"\xFF\0"[..], Qos::AtLeastOnce, true)
    );
    assert!(!format!("{connect:?}").contains("p\\0w"), "a password is not shown");
    let mut again = Vec::new();
    Packet::Connect(connect).encode(Version::V3, &mut again).unwrap();
    assert_eq!(again, bytes);
}

#[test]
fn the_connect_of_5_0_has_properties() {
    // The variable header of the specification's example (5.0, Figure 3-6), and a client identifier.
    let bytes = b"\x10\x15\0\x04MQTT\x05\x02\0\x0A\x05\x11\0\0\0\x0A\0\x03dev";
    let Packet::Connect(connect) = packet(decoder(Side::Server, None), bytes) else { panic!("a CONNECT") };
    assert_eq!(connect.properties.iter().collect::<Vec<_>>(), [Property::SessionExpiryInterval(10)]);
    assert_eq!((connect.client_id, connect.will, connect.user_name), ("dev", None, None));
}

#[test]
fn a_publish_has_its_topic_identifier_and_payload() {
    // The specification's example (3.1.1, Figure 3.11) with a payload.
    let bytes = b"\x32\x09\0\x03a/b\0\x0Ahi";
    for side in [Side::Server, Side::Client] {
        let Packet::Publish(publish) = packet(decoder(side, Version::V3), bytes) else { panic!("a PUBLISH") };
        assert_eq!((publish.topic, publish.payload), ("a/b", &b"hi"[..]));
        assert_eq!(publish.qos, QosAndId::AtLeastOnce(PacketId::new(10).unwrap()));
        assert!(!publish.dup && !publish.retain);
        assert_eq!(publish.payload.as_ptr(), bytes[9..].as_ptr(), "a slice of the input");
    }
    let with_alias = b"\x3D\x0E\0\0\0\x01\x05\x23\0\x07\x01\x01body";
    let Packet::Publish(publish) = packet(decoder(Side::Server, Version::V5), with_alias) else {
        panic!("a PUBLISH")
    };
    assert!(publish.dup && publish.retain && publish.topic.is_empty());
    assert_eq!(publish.qos.qos(), Qos::ExactlyOnce);
    assert_eq!(publish.properties.iter().count(), 2);
}

#[test]
fn a_byte_order_mark_is_a_character_of_the_topic() {
    let Packet::Publish(publish) = packet(decoder(Side::Server, Version::V3), b"\x30\x06\0\x04\xEF\xBB\xBFa")
    else {
        panic!("a PUBLISH")
    };
    assert_eq!(publish.topic, "\u{feff}a");
}

#[test]
fn acknowledgements_take_their_shortest_form() {
    let id = PacketId::new(0x0102).unwrap();
    let encoded = |reason, properties: &PropertiesBuf, version| {
        let mut out = Vec::new();
        let ack = Ack { packet_id: id, reason, properties: properties.as_properties() };
        Packet::PubRel(ack).encode(version, &mut out).unwrap();
        out
    };
    let (none, mut some) = (PropertiesBuf::default(), PropertiesBuf::default());
    some.push(Property::ReasonString("no")).unwrap();
    let not_found = ReasonCode::PacketIdentifierNotFound;
    assert_eq!(encoded(ReasonCode::Success, &none, Version::V5), b"\x62\x02\x01\x02");
    assert_eq!(encoded(not_found, &none, Version::V5), b"\x62\x03\x01\x02\x92");
    assert_eq!(encoded(not_found, &some, Version::V5), b"\x62\x09\x01\x02\x92\x05\x1F\0\x02no");
    assert_eq!(encoded(ReasonCode::Success, &some, Version::V5), b"\x62\x09\x01\x02\0\x05\x1F\0\x02no");
    assert_eq!(encoded(not_found, &some, Version::V3), b"\x62\x02\x01\x02");
    // The long form of success is read too.
    let long = packet(decoder(Side::Server, Version::V5), b"\x62\x04\x01\x02\0\0");
    assert_eq!(long, Packet::PubRel(Ack::success(id)));
}

#[test]
fn a_subscription_has_options_and_an_answer() {
    // The payload of the specification's example (3.1.1, Figure 3.23).
    let bytes = b"\x82\x0E\0\x0A\0\x03a/b\x01\0\x03c/d\x02";
    let Packet::Subscribe(subscribe) = packet(decoder(Side::Server, Version::V3), bytes) else {
        panic!("a SUBSCRIBE")
    };
    let filters: Vec<_> = subscribe.subscriptions.iter().map(|s| (s.filter, s.options.qos)).collect();
    assert_eq!(filters, [("a/b", Qos::AtLeastOnce), ("c/d", Qos::ExactlyOnce)]);

    let reasons = [ReasonCode::GrantedQos1, ReasonCode::TopicFilterInvalid].map(ReasonCode::number);
    let reasons = ReasonCodes::from_numbers(&reasons).unwrap();
    let (packet_id, properties) = (subscribe.packet_id, subscribe.properties);
    let suback = Packet::SubAck(SubAck { packet_id, properties, reasons });
    let unsuback = Packet::UnsubAck(UnsubAck { packet_id, properties, reasons: ReasonCodes::NONE });
    let encoded = |packet: &Packet<'_>, version| {
        let mut out = Vec::new();
        packet.encode(version, &mut out).unwrap();
        out
    };
    assert_eq!(encoded(&suback, Version::V3), b"\x90\x04\0\x0A\x01\x80");
    assert_eq!(encoded(&suback, Version::V5), b"\x90\x05\0\x0A\0\x01\x8F");
    assert_eq!(encoded(&unsuback, Version::V3), b"\xB0\x02\0\x0A");

    let mut subscriptions = SubscriptionsBuf::default();
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(Qos::AtLeastOnce) };
    subscriptions.push(Subscription { filter: "a", options }).unwrap();
    let subscriptions = subscriptions.as_subscriptions();
    let subscribe = Packet::Subscribe(Subscribe { packet_id, properties, subscriptions });
    assert_eq!(encoded(&subscribe, Version::V5), b"\x82\x07\0\x0A\0\0\x01a\x05");
    assert_eq!(encoded(&subscribe, Version::V3), b"\x82\x06\0\x0A\0\x01a\x01", "3.1.1 has no other options");
}

#[test]
fn the_remaining_length_takes_one_to_four_bytes() {
    let payload = vec![0; 2_097_152];
    for (length, header) in [
        (127, &b"\x30\x7F"[..]),
        (128, b"\x30\x80\x01"),
        (16_383, b"\x30\xFF\x7F"),
        (16_384, b"\x30\x80\x80\x01"),
        (2_097_151, b"\x30\xFF\xFF\x7F"),
        (2_097_152, b"\x30\x80\x80\x80\x01"),
    ] {
        let properties = PropertiesBuf::default();
        let publish = Publish {
            dup: false,
            qos: QosAndId::AtMostOnce,
            retain: false,
            topic: "t",
            properties: properties.as_properties(),
            payload: &payload[..length - 3],
        };
        let mut out = Vec::new();
        publish.encode(Version::V3, &mut out).unwrap();
        assert!(out.starts_with(header) && out.len() == header.len() + length, "{length}");
        let decoder = Decoder { max_packet: 3_000_000, ..decoder(Side::Client, Version::V3) };
        assert_eq!(packet(decoder, &out), Packet::Publish(publish));
    }
}

#[test]
fn a_length_with_padding_is_read_in_3_1_1() {
    assert_eq!(packet(decoder(Side::Server, Version::V3), b"\xC0\x80\0"), Packet::PingReq);
}
