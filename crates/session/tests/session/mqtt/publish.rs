//! Messages of clients.

use super::*;

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
fn a_message_with_qos_2_that_is_repeated_while_it_is_published_is_published_once() {
    let mut w = hub();
    w.respond_at_once = false;
    let slot = connected(&mut w, V5, "c");
    w.input(slot, bytes(&publish("t", qos2(1), "x"), V5).repeat(2));
    assert_eq!((received(&mut w, slot, V5).len(), w.pending_publishes.len()), (0, 1));
    w.respond_next(Response::Published(0));
    w.input(slot, []);
    assert_eq!(received(&mut w, slot, V5), ["PUBREC 1 Success"; 2]);
    assert!(w.pending_publishes.is_empty());
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
