//! Subscriptions and retained messages.

use super::*;

pub(super) fn retained(topic: &str, payload: &str, qos: Qos) -> Arc<Publication> {
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
