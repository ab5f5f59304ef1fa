//! Messages to clients.

use super::*;

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
        assert_eq!(topics("a/b"), 1, "once for all filters that match");
        assert_eq!(topics("a/c"), 1);
        assert_eq!(topics("a/b/c"), 1);
        assert_eq!(topics("z"), 1);
        assert_eq!(topics("$SYS/x"), 0);
        assert_eq!(topics("room#1"), 0, "no topic name");
    }
}

#[test]
fn a_message_that_several_subscriptions_match_arrives_once_with_all_their_identifiers() {
    let mut w = hub();
    let slot = connected(&mut w, V5, "c");
    for (filter, identifier, qos) in [("a/+", 5, Qos::AtMostOnce), ("a/b", 6, Qos::AtLeastOnce)] {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::SubscriptionIdentifier(identifier)).unwrap();
        subscribe_with(&mut w, slot, V5, &[(filter, options(qos))], properties.as_properties());
    }
    w.publish("a/b", "x");
    assert_eq!(
        received(&mut w, slot, V5),
        ["PUBLISH a/b=x q1:1 SubscriptionIdentifier(5) SubscriptionIdentifier(6)"]
    );
    w.publish("a/c", "x");
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH a/c=x SubscriptionIdentifier(5)"]);
    // A second SUBSCRIBE replaces the options.
    assert_eq!(subscribe(&mut w, slot, V5, "a/b", Qos::AtMostOnce), ["SUBACK 7 [Success]"]);
    w.publish("a/b", "y");
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH a/b=y SubscriptionIdentifier(5)"]);
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
fn the_server_uses_as_many_topic_aliases_as_the_client_accepts() {
    let mut w = hub();
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::TopicAliasMaximum(1)).unwrap();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    say(&mut w, slot, V5, &Packet::Connect(connect));
    for (filter, qos) in [("a", Qos::AtMostOnce), ("b/+", Qos::AtLeastOnce)] {
        subscribe(&mut w, slot, V5, filter, qos);
    }
    for topic in ["a", "a", "b/1", "a"] {
        w.publish(topic, "x");
    }
    assert_eq!(
        received(&mut w, slot, V5),
        [
            "PUBLISH a=x TopicAlias(1)",
            "PUBLISH =x TopicAlias(1)",
            "PUBLISH b/1=x q1:1",
            "PUBLISH =x TopicAlias(1)",
        ]
    );
    subscribe(&mut w, slot, V5, "a", Qos::AtLeastOnce);
    w.publish("a", "x");
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH =x q1:2 TopicAlias(1)"]);
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
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        subscribe(&mut w, slot, V5, "t", qos);
        w.publish("t", "a message that is longer than 20 bytes");
        w.publish("t", "short");
        let got = received(&mut w, slot, V5);
        assert!(got.len() == 1 && got[0].starts_with("PUBLISH t=short"), "{got:?}");
    }
}
