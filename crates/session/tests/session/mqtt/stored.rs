//! Sessions that the broker stores, and the shared subscriptions of others there.

use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{
    CloseSession, Message, MessagePage, OpenedSession, QueuedMessage, ReadMessages, SessionChange, Step,
    StoreSteps,
};
use tidings_session::Request;

use super::*;

fn at_broker() -> TestHub {
    let mut w = with_mqtt(|mqtt| (mqtt.has_shared_sessions, mqtt.has_shared_groups) = (true, true));
    w.is_at_broker = true;
    w
}

fn respond(w: &mut TestHub, response: mqtt::Response) -> mqtt::Request {
    let (id, ticket, request) = w.pending_requests.pop_front().expect("a request");
    w.with(|hub, fx| hub.respond(id, ticket, Response::Protocol(response), fx));
    match request {
        Request::Protocol(request) => request,
        other => panic!("{other:?}"),
    }
}

/// Connects a client whose session is kept or not.
fn connect_to(w: &mut TestHub, is_kept: bool, receive_maximum: u16) -> Slot {
    let slot = w.open();
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(if is_kept { 60 } else { 0 })).unwrap();
    properties.push(Property::ReceiveMaximum(NonZeroU16::new(receive_maximum).unwrap())).unwrap();
    let connect = Connect { properties: properties.as_properties(), ..connect(V5) };
    send(w, slot, V5, &Packet::Connect(connect));
    respond(w, mqtt::Response::Opened(Box::new(OpenedSession { is_stored: is_kept, ..Default::default() })));
    assert!(received(w, slot, V5)[0].starts_with("CONNACK Success"));
    if is_kept {
        respond(w, page(&[], false));
    }
    slot
}

fn page(messages: &[(u16, Qos, &'static str)], has_more: bool) -> mqtt::Response {
    let message = |(id, qos, body): &(u16, Qos, &'static str)| QueuedMessage {
        id: PacketId::new(*id).filter(|_| *qos != Qos::AtMostOnce),
        serial: u64::from(*id),
        message: Some(Message {
            publication: Arc::new(Publication::new(Channel::new("a").unwrap(), *body)),
            qos: *qos,
            retain: false,
            identifier: 0,
            more_identifiers: Box::default(),
            is_pattern: false,
            is_unchecked: true,
            received: 1_000_000,
        }),
    };
    let messages = messages.iter().map(message).collect();
    mqtt::Response::Messages(Box::new(MessagePage { messages, has_more, dropped: 0 }))
}

fn steps(request: mqtt::Request) -> StoreSteps {
    match request {
        mqtt::Request::StoreSteps(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn read(request: mqtt::Request) -> ReadMessages {
    match request {
        mqtt::Request::ReadMessages(request) => *request,
        other => panic!("{other:?}"),
    }
}

/// The identifiers of the broker that were passed as ended.
fn ended(w: &mut TestHub) -> Vec<u16> {
    let changes = std::mem::take(&mut w.changes).into_iter();
    let steps = changes.flat_map(|change| match change {
        SessionChange::StoreSteps(request) => request.steps,
        _ => Vec::new(),
    });
    steps.map(|step| if let Step::Ended(id) = step { id.get() } else { panic!("{step:?}") }).collect()
}

#[test]
fn a_client_without_a_session_that_is_kept_has_one_at_the_broker_for_its_shared_subscriptions() {
    let mut w = at_broker();
    let slot = connect_to(&mut w, false, 2);
    subscribe(&mut w, slot, V5, "own", Qos::AtLeastOnce);
    while !w.pending_requests.is_empty() {
        respond(&mut w, mqtt::Response::Retained(Vec::new()));
    }
    assert!(received(&mut w, slot, V5).is_empty());
    assert_eq!(subscribe(&mut w, slot, V5, "$share/g/a", Qos::ExactlyOnce), [""; 0], "SUBACK waits");
    let begin = steps(respond(&mut w, mqtt::Response::Stored(1)));
    assert!(begin.begins.is_some() && begin.key.starts_with("\u{2}\0"), "{begin:?}");
    let [Step::Subscribed(made)] = &begin.steps[..] else { panic!("{begin:?}") };
    assert_eq!(&*made.filter, "$share/g/a", "the other subscription is not at the broker");
    assert_eq!(received(&mut w, slot, V5), ["SUBACK 7 [GrantedQos2]"]);
    // While the messages are read, the connection sends one of its own.
    w.publish("own", "live");
    let first =
        page(&[(1, Qos::AtLeastOnce, "1"), (2, Qos::ExactlyOnce, "2"), (3, Qos::AtMostOnce, "3")], false);
    assert_eq!(read(respond(&mut w, first)).most, 2);
    assert_eq!(
        received(&mut w, slot, V5),
        ["PUBLISH own=live q1:1", "PUBLISH a=1 q1:2"],
        "identifiers of the connection, and as many messages as the client accepts"
    );
    send(&mut w, slot, V5, &Packet::PubAck(Ack::success(id(1))));
    assert_eq!(received(&mut w, slot, V5), ["PUBLISH a=2 q2:3", "PUBLISH a=3"]);
    assert_eq!(ended(&mut w), [0; 0], "that message is not at the broker");
    send(&mut w, slot, V5, &Packet::PubAck(Ack::success(id(2))));
    assert_eq!(ended(&mut w), [1]);
    send(&mut w, slot, V5, &Packet::PubRec(Ack::success(id(3))));
    assert_eq!(received(&mut w, slot, V5), [""; 0], "PUBREL waits for the broker");
    assert_eq!(steps(respond(&mut w, mqtt::Response::Stored(3))).steps, [Step::Ended(id(2))]);
    assert_eq!(received(&mut w, slot, V5), ["PUBREL 3 Success"]);
    send(&mut w, slot, V5, &Packet::PubComp(Ack::success(id(3))));
    assert_eq!(ended(&mut w), [0; 0]);
    w.close(slot);
    let closed = w.changes.iter().find_map(|change| match change {
        SessionChange::CloseSession(closed) => Some((**closed).clone()),
        _ => None,
    });
    let CloseSession { key, expiry, sent, .. } = closed.expect("the end of the session");
    assert_eq!((&key, expiry, sent), (&begin.key, 0, Some(3)));
}

#[test]
fn messages_that_were_read_and_not_sent_are_named_when_the_connection_ends() {
    let mut w = at_broker();
    let slot = connect_to(&mut w, false, 1);
    subscribe(&mut w, slot, V5, "$share/g/a", Qos::AtLeastOnce);
    respond(&mut w, mqtt::Response::Stored(1));
    received(&mut w, slot, V5);
    // One is on its way while the client accepts no more.
    w.pending_requests.clear();
    let subscribed = subscribe(&mut w, slot, V5, "$share/h/a", Qos::AtLeastOnce);
    assert_eq!(subscribed, [""; 0]);
    w.close(slot);
    let sent = w.changes.iter().find_map(|change| match change {
        SessionChange::CloseSession(closed) => Some(closed.sent),
        _ => None,
    });
    assert_eq!(sent, Some(Some(0)), "nothing was sent");
}

#[test]
fn a_message_of_an_ended_subscription_does_not_arrive_twice() {
    for replaces in [false, true] {
        let mut w = at_broker();
        let slot = connect_to(&mut w, true, 10);
        for (filter, qos) in [("a/+", Qos::AtMostOnce), ("a/b", Qos::AtLeastOnce)] {
            subscribe(&mut w, slot, V5, filter, qos);
            answer_all(&mut w);
            assert!(received(&mut w, slot, V5).iter().any(|packet| packet.starts_with("SUBACK")));
        }
        let publication = || {
            let properties = MessageProperties {
                qos: Qos::AtLeastOnce,
                retain: false,
                expiry: None,
                properties: Default::default(),
            };
            let extra = Extra { message: Some(Box::new(properties)), ..Extra::default() };
            Publication {
                extra: Some(Box::new(extra)),
                ..Publication::new(Channel::new("a/b").unwrap(), "x")
            }
        };
        w.publish_with(publication());
        assert_eq!(received(&mut w, slot, V5), [""; 0], "the session has it");
        if replaces {
            subscribe(&mut w, slot, V5, "a/b", Qos::AtMostOnce);
        } else {
            let mut filters = TopicFiltersBuf::default();
            filters.push("a/b").unwrap();
            let filters = filters.as_filters();
            let unsubscribe = Unsubscribe { packet_id: id(9), properties: Properties::NONE, filters };
            assert_eq!(say(&mut w, slot, V5, &Packet::Unsubscribe(unsubscribe)), [""; 0]);
        }
        w.publish_with(publication());
        assert_eq!(received(&mut w, slot, V5), [""; 0], "the session may have it still");
        answer_all(&mut w);
        w.publish_with(publication());
        assert_eq!(received(&mut w, slot, V5).last().map(|packet| &**packet), Some("PUBLISH a/b=x"));
    }
}

/// Answers all requests, as a broker without messages.
fn answer_all(w: &mut TestHub) {
    while let Some((.., request)) = w.pending_requests.front() {
        let response = match request {
            Request::Protocol(mqtt::Request::StoreSteps(request)) => mqtt::Response::Stored(request.number),
            Request::Protocol(mqtt::Request::ReadMessages(_)) => page(&[], false),
            _ => mqtt::Response::Retained(Vec::new()),
        };
        respond(w, response);
    }
}
