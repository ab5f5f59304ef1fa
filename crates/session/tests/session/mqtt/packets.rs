//! Packets in pieces, and packets that break a rule.

use super::*;

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
            let mut fx = tidings_session::Effects::default();
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

#[test]
fn a_packet_that_begins_with_the_message_of_connect_continues_after_an_earlier_session() {
    let mut w = hub();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(60)).unwrap();
    let kept = Connect { clean_start: false, properties: properties.as_properties(), ..connect(V5) };
    let connect = bytes(&Packet::Connect(kept), V5);
    let ping = bytes(&Packet::PingReq, V5);
    for is_present in [false, true] {
        let mut fx = tidings_session::Effects::default();
        let slot = w.hub.open_as(named("websocket_mqtt_connecting").into(), None, &mut fx).slot;
        for part in [&[&connect[..], &ping[..1]].concat(), &ping[1..]] {
            let mut frame = Vec::new();
            ws::masked_frame(Opcode::Binary, part, [1, 2, 3, 4], &mut frame);
            w.input(slot, frame);
        }
        let sent = w.sent.remove(&slot).unwrap_or_default();
        let packets = packets(&unframed(&sent), V5);
        assert_eq!((packets.len(), &*packets[1]), (2, "PingResp"), "{is_present}: {packets:?}");
        assert_eq!(packets[0].contains("present"), is_present, "{packets:?}");
        w.close(slot);
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
