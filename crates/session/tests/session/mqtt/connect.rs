//! `CONNECT`, the end of a connection, wills.

use super::*;

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
    // All nodes get the commands in the same order: one that arrives before the own one is older.
    w.with(|hub, fx| hub.apply_session_command(&command("older".into()), fx));
    w.with(|hub, fx| hub.apply_session_command(&command(own), fx));
    assert!(!w.closed.contains(&second), "an older command or its own does not end it");
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
fn a_store_with_files_has_a_will_before_the_client_is_connected_and_until_it_is_published() {
    let mut w = with_mqtt(|mqtt| mqtt.has_files = true);
    let watcher = connected(&mut w, V5, "watcher");
    subscribe(&mut w, watcher, V5, "gone", Qos::AtMostOnce);
    let payload = b"bye";
    let will =
        Will { topic: "gone", payload, qos: Qos::AtMostOnce, retain: false, properties: Properties::NONE };
    let packets =
        [Packet::Connect(Connect { will: Some(will), client_id: "w", ..connect(V5) }), Packet::PingReq];
    let slot = w.open();
    w.input(slot, packets.map(|packet| bytes(&packet, V5)).concat());
    assert_eq!(w.wills, [(Some(payload[..].into()), 0)]);
    let connack = w.bytes(slot).len();
    assert!(connack > 0);
    w.close(slot);
    assert_eq!(received(&mut w, watcher, V5), ["PUBLISH gone=bye"]);
    assert_eq!(w.wills[1..], [(None, 0)]);
    // A client without a will has nothing in the files.
    let slot = connected(&mut w, V5, "x");
    w.close(slot);
    assert_eq!(w.wills.len(), 2);
}

fn disconnect(reason: ReasonCode) -> Packet<'static> {
    Packet::Disconnect(tidings_mqtt::Disconnect { reason, properties: Properties::NONE })
}

/// Connects with a will whose payload is `bye`, where the broker stores the wills.
fn open_with_shared_will(w: &mut TestHub) -> Slot {
    let payload = b"bye";
    let will =
        Will { topic: "gone", payload, qos: Qos::AtMostOnce, retain: false, properties: Properties::NONE };
    let slot = w.open();
    let packets =
        [Packet::Connect(Connect { will: Some(will), client_id: "w", ..connect(V5) }), Packet::PingReq];
    w.input(slot, packets.map(|packet| bytes(&packet, V5)).concat());
    slot
}

#[test]
fn the_broker_has_a_will_before_the_client_is_connected_and_publishes_it_at_the_end_of_the_connection() {
    let mut w = with_mqtt(|mqtt| (mqtt.has_shared_wills, mqtt.session_expiry_max) = (true, 0));
    w.set_broker(Broker::Slow);
    let slot = open_with_shared_will(&mut w);
    assert_eq!(w.shared_wills, [r#"open "\0w" Some("bye")"#]);
    assert_eq!(received(&mut w, slot, V5), [""; 0], "no answer before the broker has the will");
    w.answer_wills();
    assert_eq!(received(&mut w, slot, V5)[0], "CONNACK Success");
    w.close(slot);
    assert_eq!(w.shared_wills[1..], [r#"publish "\0w" 0"#]);
    // A clean end discards the will, and so does one before the answer.
    w.set_broker(Broker::Up);
    let slot = open_with_shared_will(&mut w);
    send(&mut w, slot, V5, &disconnect(ReasonCode::Success));
    assert_eq!(w.shared_wills[3..], [r#"discard "\0w" 0"#]);
    w.set_broker(Broker::Slow);
    let slot = open_with_shared_will(&mut w);
    w.close(slot);
    assert_eq!(w.shared_wills[5..], [r#"discard "\0w" 0"#]);
    w.answer_wills();
    assert_eq!(received(&mut w, slot, V5), [""; 0]);
}

#[test]
fn the_broker_gets_the_time_for_which_the_session_is_kept_at_the_end_of_a_connection_with_a_will() {
    let mut w = with_mqtt(|mqtt| mqtt.has_shared_wills = true);
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(100)).unwrap();
    let will = Will {
        topic: "gone",
        payload: b"bye",
        qos: Qos::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
    };
    let properties = properties.as_properties();
    let connect = Connect { will: Some(will), client_id: "w", properties, ..connect(V5) };
    send(&mut w, slot, V5, &Packet::Connect(connect));
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(7)).unwrap();
    let properties = properties.as_properties();
    let reason = ReasonCode::DisconnectWithWill;
    send(&mut w, slot, V5, &Packet::Disconnect(tidings_mqtt::Disconnect { reason, properties }));
    assert_eq!(w.shared_wills[1..], [r#"publish "\0w" 7"#]);
}

#[test]
fn a_client_whose_will_the_broker_does_not_have_is_refused_and_one_without_a_will_is_not() {
    let mut w = with_mqtt(|mqtt| (mqtt.has_shared_wills, mqtt.session_expiry_max) = (true, 0));
    w.set_broker(Broker::Down);
    let slot = open_with_shared_will(&mut w);
    assert_eq!(received(&mut w, slot, V5), ["CONNACK ServerUnavailable"]);
    assert_eq!(w.shared_wills.len(), 1, "the store discards it: {:?}", w.shared_wills);
    let slot = connected(&mut w, V5, "c");
    w.close(slot);
    assert_eq!(w.shared_wills[1..], [r#"open "\0c" None"#]);
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
    let mut w = with_mqtt(|mqtt| (mqtt.retain_available, mqtt.shared_available) = (false, false));
    let slot = connected(&mut w, V5, "c");
    let shared = subscribe(&mut w, slot, V5, "$share/group/t", Qos::AtMostOnce);
    assert_eq!(shared, ["SUBACK 7 [SharedSubscriptionsNotSupported]"]);
    let invalid = subscribe(&mut w, slot, V5, "a/#/b", Qos::AtMostOnce);
    assert_eq!(invalid, ["SUBACK 7 [TopicFilterInvalid]"]);
    let Packet::Publish(message) = publish("t", qos1(1), "x") else { unreachable!() };
    let retained = Packet::Publish(Publish { retain: true, ..message });
    assert_eq!(say(&mut w, slot, V5, &retained), ["DISCONNECT RetainNotSupported"]);
    let mut properties = PropertiesBuf::default();
    properties.push(Property::AuthenticationMethod("SCRAM")).unwrap();
    let slot = w.open();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    assert_eq!(say(&mut w, slot, V5, &Packet::Connect(connect)), ["CONNACK BadAuthenticationMethod"]);
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
