//! Shared subscriptions.

use super::*;

/// The payloads that a session has received.
fn payloads(w: &mut TestHub, slot: Slot) -> Vec<String> {
    let packets = received(w, slot, V5).into_iter();
    packets.filter_map(|packet| Some(packet.split_once('=')?.1.split(' ').next()?.to_owned())).collect()
}

fn member(w: &mut TestHub, client_id: &'static str) -> Slot {
    let slot = connected(w, V5, client_id);
    assert_eq!(subscribe(w, slot, V5, "$share/g/a/+", Qos::AtLeastOnce), ["SUBACK 7 [GrantedQos1]"]);
    slot
}

#[test]
fn each_message_goes_to_one_member_of_each_group_in_turn() {
    for version in [V3, V5] {
        let mut w = hub();
        let slots = ["x", "y"].map(|client_id| {
            let slot = connected(&mut w, version, client_id);
            subscribe(&mut w, slot, version, "$share/g/a/+", Qos::AtLeastOnce);
            slot
        });
        let other = connected(&mut w, version, "z");
        subscribe(&mut w, other, version, "$share/h/a/#", Qos::AtMostOnce);
        let all = connected(&mut w, version, "all");
        subscribe(&mut w, all, version, "a/+", Qos::AtMostOnce);
        for body in ["1", "2", "3", "4"] {
            w.publish("a/b", body);
        }
        w.publish("c", "5");
        assert_eq!(received(&mut w, slots[0], version), ["PUBLISH a/b=1 q1:1", "PUBLISH a/b=3 q1:2"]);
        assert_eq!(received(&mut w, slots[1], version), ["PUBLISH a/b=2 q1:1", "PUBLISH a/b=4 q1:2"]);
        for slot in [other, all] {
            assert_eq!(received(&mut w, slot, version).len(), 4);
        }
    }
}

#[test]
fn a_member_that_leaves_gets_nothing_and_the_others_get_all() {
    let mut w = hub();
    let slots = ["x", "y", "z"].map(|client_id| member(&mut w, client_id));
    let mut filters = TopicFiltersBuf::default();
    filters.push("$share/g/a/+").unwrap();
    let unsubscribe =
        Unsubscribe { packet_id: id(9), properties: Properties::NONE, filters: filters.as_filters() };
    assert_eq!(say(&mut w, slots[0], V5, &Packet::Unsubscribe(unsubscribe)), ["UNSUBACK 9 [Success]"]);
    w.close(slots[1]);
    for body in ["1", "2"] {
        w.publish("a/b", body);
    }
    assert_eq!(payloads(&mut w, slots[0]), [""; 0]);
    assert_eq!(payloads(&mut w, slots[2]), ["1", "2"]);
    w.close(slots[2]);
    assert!(w.session_topics.is_empty(), "{:?}", w.session_topics);
}

#[test]
fn a_message_whose_member_has_ended_goes_to_another_one() {
    let mut w = hub();
    let slots = ["x", "y"].map(|client_id| member(&mut w, client_id));
    w.is_shared_held = true;
    w.publish("a/b", "1");
    w.close(slots[0]);
    w.deliver_shared();
    assert_eq!(payloads(&mut w, slots[1]), ["1"]);
}

#[test]
fn an_absent_member_gets_what_no_connected_one_can_get() {
    let mut w = hub();
    let join = |w: &mut TestHub| {
        let slot = w.open();
        let mut properties = PropertiesBuf::default();
        properties.push(Property::SessionExpiryInterval(60)).unwrap();
        let connect = Connect { clean_start: false, properties: properties.as_properties(), ..connect(V5) };
        send(w, slot, V5, &Packet::Connect(connect));
        slot
    };
    let kept = join(&mut w);
    subscribe(&mut w, kept, V5, "$share/g/a/+", Qos::AtLeastOnce);
    let other = member(&mut w, "x");
    w.close(kept);
    for body in ["1", "2"] {
        w.publish("a/b", body);
    }
    assert_eq!(payloads(&mut w, other), ["1", "2"]);
    w.close(other);
    w.publish("a/b", "3");
    let kept = join(&mut w);
    assert_eq!(received(&mut w, kept, V5), ["CONNACK Success present", "PUBLISH a/b=3 q1:1"]);
    w.publish("a/b", "4");
    assert_eq!(payloads(&mut w, kept), ["4"], "it is a member still");
}

#[test]
fn a_shared_subscription_gets_no_retained_messages_and_has_no_no_local() {
    let mut w = hub();
    w.retained = vec![subscribe::retained("a/b", "old", Qos::AtLeastOnce)];
    let slot = member(&mut w, "x");
    assert_eq!(payloads(&mut w, slot), [""; 0]);
    let no_local = SubscriptionOptions { no_local: true, ..options(Qos::AtMostOnce) };
    let answer = subscribe_with(&mut w, slot, V5, &[("$share/g/t", no_local)], Properties::NONE);
    assert_eq!(answer, ["DISCONNECT ProtocolError"]);
}

#[test]
fn a_shared_subscription_needs_the_permission_for_its_filter() {
    let mut w = TestHub::without_auto_subscribe(with_key(Namespaces::default()));
    w.authority = |_| Response::Connected(Box::default());
    let slot = w.open();
    let connect = Connect { user_name: Some("u"), password: Some(Sensitive(b"sesame")), ..connect(V5) };
    say(&mut w, slot, V5, &Packet::Connect(connect));
    assert_eq!(subscribe(&mut w, slot, V5, "$share/g/t", Qos::AtMostOnce), ["SUBACK 7 [Success]"]);
    let mut settings = with_key(Namespaces::default());
    settings.access.anonymous_connect = true;
    let mut w = TestHub::without_auto_subscribe(settings);
    let slot = connected(&mut w, V5, "c");
    for filter in ["$share/g/t", "$share/g/a/#"] {
        assert_eq!(subscribe(&mut w, slot, V5, filter, Qos::AtMostOnce), ["SUBACK 7 [NotAuthorized]"]);
    }
}
