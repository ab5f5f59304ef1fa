//! Sessions that outlive their connection.

use tidings_hub::CloseReason;
use tidings_mqtt_session::Step;

use super::*;

/// The parameters of a connection whose session is kept for a minute.
fn kept(properties: &mut PropertiesBuf) -> Connect<'_> {
    properties.clear();
    properties.push(Property::SessionExpiryInterval(60)).unwrap();
    Connect { clean_start: false, properties: properties.as_properties(), ..connect(V5) }
}

/// Connects with a session that is kept; returns the slot, and the packets from `CONNACK` on.
fn join(w: &mut TestHub, version: Version) -> (Slot, Vec<String>) {
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    let connect = match version {
        V3 => Connect { clean_start: false, ..connect(V3) },
        V5 => kept(&mut properties),
    };
    let answer = say(w, slot, version, &Packet::Connect(connect));
    (slot, answer)
}

fn pubrel(number: u16) -> Packet<'static> {
    Packet::PubRel(Ack::success(id(number)))
}

#[test]
fn messages_for_an_absent_client_arrive_when_it_returns() {
    for version in [V3, V5] {
        let mut w = hub();
        let (slot, answer) = join(&mut w, version);
        assert_eq!(answer, ["CONNACK Success"]);
        for (filter, qos) in [("a/b", Qos::AtLeastOnce), ("c/#", Qos::ExactlyOnce)] {
            subscribe(&mut w, slot, version, filter, qos);
        }
        w.close(slot);
        let publisher = connected(&mut w, version, "p");
        for (topic, qos, payload) in
            [("a/b", qos1(1), "1"), ("c/d", qos2(2), "2"), ("x", qos1(3), "3"), ("a/b", QOS0, "4")]
        {
            send(&mut w, publisher, version, &publish(topic, qos, payload));
        }
        let (slot, answer) = join(&mut w, version);
        let expected =
            ["CONNACK Success present", "PUBLISH a/b=1 q1:1", "PUBLISH c/d=2 q2:2", "PUBLISH a/b=4"];
        assert_eq!(answer, expected, "{version:?}");
        // The subscriptions continue.
        send(&mut w, publisher, version, &publish("c", qos1(4), "5"));
        assert_eq!(received(&mut w, slot, version), ["PUBLISH c=5 q1:3"]);
        assert!(w.subscribed_topics.len() == 2, "{:?}", w.subscribed_topics);
    }
}

#[test]
fn a_clean_start_discards_the_session() {
    let mut w = hub();
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    w.close(slot);
    w.publish("t", "lost");
    let clean = connected(&mut w, V5, "c");
    w.publish("t", "lost");
    assert_eq!(received(&mut w, clean, V5), [""; 0]);
    w.close(clean);
    assert_eq!(join(&mut w, V5).1, ["CONNACK Success"]);
}

#[test]
fn a_session_of_one_client_is_not_that_of_another_user() {
    let mut w = TestHub::new(with_key(Namespaces::default()));
    w.authority =
        |_| Response::Connected(Box::new(tidings_hub::Connected { user: "u".into(), ..Default::default() }));
    let mut join = |password: &'static [u8]| {
        let slot = w.open();
        let mut properties = PropertiesBuf::default();
        let connect =
            Connect { user_name: Some("x"), password: Some(Sensitive(password)), ..kept(&mut properties) };
        let answer = say(&mut w, slot, V5, &Packet::Connect(connect));
        w.close(slot);
        answer
    };
    assert_eq!(join(b"sesame"), ["CONNACK Success"]);
    assert_eq!(join(b"sesame"), ["CONNACK Success present"]);
}

#[test]
fn unacknowledged_messages_are_sent_again_with_the_dup_flag_and_in_their_order() {
    for version in [V3, V5] {
        let mut w = hub();
        let (slot, _) = join(&mut w, version);
        subscribe(&mut w, slot, version, "t", Qos::ExactlyOnce);
        let publisher = connected(&mut w, version, "p");
        for (number, payload) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let number = number as u16 + 1;
            let qos = if number < 3 { qos1(number) } else { qos2(number) };
            send(&mut w, publisher, version, &publish("t", qos, payload));
        }
        received(&mut w, slot, version);
        send(&mut w, slot, version, &Packet::PubAck(Ack::success(id(1))));
        send(&mut w, slot, version, &Packet::PubRec(Ack::success(id(3))));
        // Nothing is sent again within the connection.
        assert_eq!(received(&mut w, slot, version), ["PUBREL 3 Success"]);
        w.close(slot);
        let (slot, answer) = join(&mut w, version);
        let expected =
            ["CONNACK Success present", "PUBLISH t=b q1:2 dup", "PUBREL 3 Success", "PUBLISH t=d q2:4 dup"];
        assert_eq!(answer, expected, "{version:?}");
        let mut ack = |packet| say(&mut w, slot, version, &packet);
        assert_eq!(ack(Packet::PubAck(Ack::success(id(2)))), [""; 0]);
        assert_eq!(ack(Packet::PubComp(Ack::success(id(3)))), [""; 0]);
        assert_eq!(ack(Packet::PubRec(Ack::success(id(4)))), ["PUBREL 4 Success"]);
        assert_eq!(ack(Packet::PubComp(Ack::success(id(4)))), [""; 0]);
        w.close(slot);
        assert_eq!(join(&mut w, version).1, ["CONNACK Success present"]);
    }
}

#[test]
fn a_client_that_accepts_fewer_messages_gets_them_again_as_it_acknowledges() {
    let mut w = hub();
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    for body in ["a", "b"] {
        w.publish("t", body);
    }
    received(&mut w, slot, V5);
    w.close(slot);
    w.publish("t", "c");
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    let connect = kept(&mut properties);
    let mut own = PropertiesBuf::default();
    own.extend(&connect.properties);
    own.push(Property::ReceiveMaximum(NonZeroU16::new(1).unwrap())).unwrap();
    let connect = Connect { properties: own.as_properties(), ..connect };
    let answer = say(&mut w, slot, V5, &Packet::Connect(connect));
    assert_eq!(answer, ["CONNACK Success present", "PUBLISH t=a q1:1 dup"]);
    let mut ack = |number| say(&mut w, slot, V5, &Packet::PubAck(Ack::success(id(number))));
    assert_eq!(ack(1), ["PUBLISH t=b q1:2 dup"]);
    assert_eq!(ack(2), ["PUBLISH t=c q1:3"]);
}

#[test]
fn a_message_with_qos_2_is_not_published_again_after_a_reconnect() {
    let mut w = hub();
    let watcher = connected(&mut w, V5, "w");
    subscribe(&mut w, watcher, V5, "t", Qos::AtMostOnce);
    let (slot, _) = join(&mut w, V5);
    send(&mut w, slot, V5, &publish("t", qos2(9), "once"));
    w.close(slot);
    let (slot, _) = join(&mut w, V5);
    assert_eq!(say(&mut w, slot, V5, &publish("t", qos2(9), "once")), ["PUBREC 9 Success"]);
    assert_eq!(say(&mut w, slot, V5, &pubrel(9)), ["PUBCOMP 9 Success"]);
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH t=once"]);
}

#[test]
fn a_message_that_is_published_while_the_connection_ends_is_known_afterwards() {
    let mut w = hub();
    w.respond_at_once = false;
    let (slot, _) = join(&mut w, V5);
    send(&mut w, slot, V5, &publish("t", qos2(9), "once"));
    w.is_parking_held = true;
    w.close(slot);
    w.respond_next(Response::Published(0));
    w.finish_parking();
    let (slot, _) = join(&mut w, V5);
    assert_eq!(say(&mut w, slot, V5, &publish("t", qos2(9), "once")), ["PUBREC 9 Success"]);
    assert!(w.pending_publishes.is_empty());
}

#[test]
fn a_take_over_continues_the_session() {
    let mut w = hub();
    let (first, _) = join(&mut w, V5);
    subscribe(&mut w, first, V5, "t", Qos::AtLeastOnce);
    w.publish("t", "a");
    received(&mut w, first, V5);
    let (second, answer) = join(&mut w, V5);
    assert_eq!(received(&mut w, first, V5), ["DISCONNECT SessionTakenOver"]);
    assert_eq!(answer, ["CONNACK Success present", "PUBLISH t=a q1:1 dup"]);
    w.publish("t", "b");
    assert_eq!(received(&mut w, second, V5), ["PUBLISH t=b q1:2"]);
    w.close(first);
    w.publish("t", "c");
    assert_eq!(received(&mut w, second, V5), ["PUBLISH t=c q1:3"]);
}

#[test]
fn publications_during_the_move_of_a_session_arrive_once() {
    let mut w = hub();
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    // Between the end of the connection and the last message of its shard, both get publications: those of the shard are
    // earlier.
    w.is_parking_held = true;
    w.close(slot);
    w.publish_to_shard("t", "a");
    w.publish_to_store("t", "b");
    let (slot, answer) = join(&mut w, V5);
    assert_eq!(answer, [""; 0], "the session is not complete");
    w.finish_parking();
    let answer = received(&mut w, slot, V5);
    assert_eq!(answer, ["CONNACK Success present", "PUBLISH t=a q1:1", "PUBLISH t=b q1:2"]);
}

#[test]
fn a_connection_that_ends_before_its_session_arrives_loses_nothing() {
    let mut w = hub();
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    w.is_parking_held = true;
    w.close(slot);
    w.publish_to_shard("t", "a");
    let (second, _) = join(&mut w, V5);
    w.close(second);
    w.finish_parking();
    // The state has come to the second connection, which has ended.
    w.publish_to_shard("t", "b");
    w.finish_parking();
    let (_, answer) = join(&mut w, V5);
    assert_eq!(answer, ["CONNACK Success present", "PUBLISH t=a q1:1", "PUBLISH t=b q1:2"]);
}

#[test]
fn a_session_ends_with_its_expiry_and_a_client_can_change_it() {
    let mut w = hub();
    let (slot, _) = join(&mut w, V5);
    w.close(slot);
    w.advance(59);
    let (slot, answer) = join(&mut w, V5);
    assert_eq!(answer, ["CONNACK Success present"]);
    w.close(slot);
    w.advance(61);
    let (slot, answer) = join(&mut w, V5);
    assert_eq!(answer, ["CONNACK Success"]);
    let disconnect = |seconds, reason| {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::SessionExpiryInterval(seconds)).unwrap();
        let properties = properties.as_properties();
        bytes(&Packet::Disconnect(tidings_mqtt::Disconnect { reason, properties }), V5)
    };
    w.input(slot, disconnect(0, ReasonCode::Success));
    w.close(slot);
    assert_eq!(join(&mut w, V5).1, ["CONNACK Success"], "it has ended with the connection");
    let clean = connected(&mut w, V5, "other");
    w.input(clean, disconnect(10, ReasonCode::Success));
    assert_eq!(received(&mut w, clean, V5), ["DISCONNECT ProtocolError"]);
}

#[test]
fn the_server_states_the_expiry_that_it_grants() {
    let mut w = with_mqtt(|mqtt| mqtt.session_expiry_max = 10);
    let (_, answer) = join(&mut w, V5);
    assert_eq!(answer, ["CONNACK Success SessionExpiryInterval(10)"]);
    let mut w = with_mqtt(|mqtt| mqtt.session_expiry_max = 0);
    assert_eq!(join(&mut w, V5).1, ["CONNACK Success SessionExpiryInterval(0)"]);
    assert_eq!(join(&mut w, V3).1, ["CONNACK ServerUnavailable"]);
}

#[test]
fn a_session_that_drops_messages_informs_its_client() {
    let mut w = hub();
    w.set_session_limits(|limits| limits.queue_bytes = 1_000);
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    w.close(slot);
    let publisher = connected(&mut w, V5, "p");
    for number in 1..=20 {
        send(&mut w, publisher, V5, &publish("t", qos1(number), "x"));
    }
    let (_, answer) = join(&mut w, V5);
    let arrived = answer.len() - 1;
    assert!((1..10).contains(&arrived), "{answer:?}");
    let dropped = format!("CONNACK Success present UserProperty(\"dropped\", \"{}\")", 20 - arrived);
    assert_eq!(answer[0], dropped);
}

#[test]
fn a_kept_session_whose_client_does_not_acknowledge_is_disconnected_and_keeps_the_newest_messages() {
    let mut w = with_mqtt(|mqtt| {
        mqtt.max_in_flight = 1;
        mqtt.queue_bytes = 1_000;
    });
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    let mut sent = 0;
    while !w.overflowed.contains(&slot) {
        w.publish("t", &sent.to_string());
        sent += 1;
        assert!(sent < 100, "the bound");
    }
    w.with(|hub, fx| hub.end(slot, &CloseReason::Slow(1), fx));
    let answer = received(&mut w, slot, V5);
    assert_eq!(answer, ["PUBLISH t=0 q1:1", "DISCONNECT QuotaExceeded"]);
    let (slot, answer) = join(&mut w, V5);
    let connack = "CONNACK Success present UserProperty(\"dropped\", \"1\")";
    assert_eq!(answer, [connack, "PUBLISH t=0 q1:1 dup"]);
    let ack = say(&mut w, slot, V5, &Packet::PubAck(Ack::success(id(1))));
    assert_eq!(ack, ["PUBLISH t=2 q1:2"], "the oldest that waited was dropped");
}

#[test]
fn an_expired_message_is_not_sent_and_the_rest_of_a_lifetime_is() {
    let mut w = hub();
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::AtLeastOnce);
    w.close(slot);
    let publisher = connected(&mut w, V5, "p");
    for (seconds, payload) in [(5, "short"), (50, "long")] {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::MessageExpiryInterval(seconds)).unwrap();
        let properties = properties.as_properties();
        let publish = Publish {
            dup: false,
            qos: qos1(1),
            retain: false,
            topic: "t",
            properties,
            payload: payload.as_bytes(),
        };
        send(&mut w, publisher, V5, &Packet::Publish(publish));
    }
    w.advance(10);
    let (_, answer) = join(&mut w, V5);
    assert_eq!(answer, ["CONNACK Success present", "PUBLISH t=long q1:1 MessageExpiryInterval(40)"]);
}

#[test]
fn a_client_that_has_lost_the_permission_gets_nothing_of_its_session() {
    let open = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..NamespaceOptions::default()
    };
    let namespaces = |options: &NamespaceOptions| Namespaces::new(options.clone(), Vec::new());
    let settings = |options| {
        let mut settings = with_key(namespaces(options));
        settings.access.anonymous_connect = true;
        settings
    };
    let mut w = TestHub::without_auto_subscribe(settings(&open));
    let (slot, _) = join(&mut w, V5);
    for filter in ["t", "a/#"] {
        assert_eq!(subscribe(&mut w, slot, V5, filter, Qos::AtLeastOnce), ["SUBACK 7 [GrantedQos1]"]);
    }
    w.close(slot);
    w.publish("t", "secret");
    w.publish("a/b", "secret");
    let closed = settings(&NamespaceOptions::default());
    w.with(|hub, fx| hub.set_settings(Arc::new(closed), fx));
    let (slot, answer) = join(&mut w, V5);
    assert_eq!(answer, ["CONNACK Success present"]);
    w.publish("t", "secret");
    assert_eq!(received(&mut w, slot, V5), [""; 0]);
    assert!(w.subscribed_topics.is_empty(), "{:?}", w.subscribed_topics);
}

#[test]
fn a_will_waits_for_its_delay_or_the_end_of_the_session() {
    let mut w = hub();
    let watcher = connected(&mut w, V5, "w");
    subscribe(&mut w, watcher, V5, "gone", Qos::AtMostOnce);
    let will_of = |w: &mut TestHub, clean_start| {
        let slot = w.open();
        let (mut own, mut properties) = (PropertiesBuf::default(), PropertiesBuf::default());
        own.push(Property::WillDelayInterval(30)).unwrap();
        let will = Will {
            topic: "gone",
            payload: b"c",
            qos: Qos::AtMostOnce,
            retain: false,
            properties: own.as_properties(),
        };
        let connect = Connect { will: Some(will), clean_start, ..kept(&mut properties) };
        assert!(say(w, slot, V5, &Packet::Connect(connect))[0].starts_with("CONNACK Success"));
        slot
    };
    let slot = will_of(&mut w, true);
    w.close(slot);
    w.advance(29);
    assert_eq!(received(&mut w, watcher, V5), [""; 0]);
    // The client returns in time.
    let slot = will_of(&mut w, false);
    w.advance(60);
    assert_eq!(received(&mut w, watcher, V5), [""; 0]);
    w.close(slot);
    w.advance(31);
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH gone=c"]);
    w.advance(60);
    assert_eq!(received(&mut w, watcher, V5), [""; 0], "once");
    // A clean start ends the session, and with it the delay.
    let slot = will_of(&mut w, true);
    w.close(slot);
    connected(&mut w, V5, "c");
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH gone=c"]);
}

#[test]
fn there_are_as_many_sessions_as_the_limit() {
    let mut w = hub();
    w.set_session_limits(|limits| limits.sessions = 1);
    let (slot, _) = join(&mut w, V5);
    w.close(slot);
    for (version, refusal) in [(V5, "CONNACK QuotaExceeded"), (V3, "CONNACK ServerUnavailable")] {
        let slot = w.open();
        let mut properties = PropertiesBuf::default();
        let connect = Connect { client_id: "d", version, ..kept(&mut properties) };
        let connect =
            if version == V3 { Connect { properties: Properties::NONE, ..connect } } else { connect };
        assert_eq!(say(&mut w, slot, version, &Packet::Connect(connect)), [refusal]);
    }
    connected(&mut w, V5, "d");
    assert_eq!(join(&mut w, V5).1, ["CONNACK Success present"]);
}

#[test]
fn a_store_with_files_has_each_step_before_the_client_can_notice_it() {
    let mut w = with_mqtt(|mqtt| mqtt.has_files = true);
    let (slot, _) = join(&mut w, V5);
    subscribe(&mut w, slot, V5, "t", Qos::ExactlyOnce);
    assert!(matches!(&w.steps[..], [(Step::Subscribed(made), 0)] if &*made.filter == "t"), "{:?}", w.steps);
    w.steps.clear();
    // The response to the first packet must not take the later ones along.
    let input = [bytes(&Packet::PingReq, V5), bytes(&publish("t", qos2(9), "x"), V5)].concat();
    w.input(slot, input);
    let output = w.bytes(slot);
    let sent = packets(&output, V5);
    assert_eq!(sent, ["PingResp", "PUBLISH t=x q2:1", "PUBREC 9 Success"]);
    let pubrec = output.len() - 4;
    let steps = std::mem::take(&mut w.steps);
    let [(Step::Sent(message), 2), (Step::Received(9), before)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((message.id, *before), (id(1), pubrec));
    let input = [Packet::PingReq, Packet::PubRec(Ack::success(id(1))), pubrel(9)].map(|one| bytes(&one, V5));
    w.input(slot, input.concat());
    assert_eq!(received(&mut w, slot, V5), ["PingResp", "PUBREL 1 Success", "PUBCOMP 9 Success"]);
    let steps = std::mem::take(&mut w.steps);
    assert_eq!(steps, [(Step::Released(id(1)), 2), (Step::Completed(9), 6)]);
    send(&mut w, slot, V5, &Packet::PubComp(Ack::success(id(1))));
    let mut filters = TopicFiltersBuf::default();
    filters.push("t").unwrap();
    let packet_id = id(3);
    let unsubscribe = Unsubscribe { packet_id, properties: Properties::NONE, filters: filters.as_filters() };
    send(&mut w, slot, V5, &Packet::Unsubscribe(unsubscribe));
    let steps = std::mem::take(&mut w.steps);
    assert_eq!(steps, [(Step::Ended(id(1)), 0), (Step::Unsubscribed("t".into()), 0)]);
}

#[test]
fn sessions_that_end_with_their_connection_have_no_steps() {
    let mut w = with_mqtt(|mqtt| mqtt.has_files = true);
    let slot = connected(&mut w, V5, "c");
    subscribe(&mut w, slot, V5, "t", Qos::ExactlyOnce);
    send(&mut w, slot, V5, &publish("t", qos2(1), "x"));
    assert!(w.steps.is_empty(), "{:?}", w.steps);
}
