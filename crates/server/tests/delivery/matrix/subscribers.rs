//! The subscribers: what each protocol shows of a message.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidings_mqtt::{
    Ack, Packet, Properties, Property, Qos, Subscribe, Subscription, SubscriptionOptions, SubscriptionsBuf,
    Version,
};
use tidings_testkit::{LineClient, Reply, RespClient};
use tidings_wire::client::push::{Event, Publication};
use tidings_wire::client::reply::{self, Outcome};
use tidings_wire::client::{Encoding, request};

use super::clients::{MqttClient, ONE, PusherClient, StompClient, WebSocketClient};
use super::{CHANNEL, Place};
use crate::support::TestServer;
use crate::support::stream::{Stream, escaped, get, post};

/// A body in the form of the protocol.
#[derive(Debug)]
pub(super) enum Body {
    /// The bytes that were published.
    Bytes(Vec<u8>),
    /// A JSON value.
    Json(Value),
    /// Text, or JSON as text.
    Text(String),
    /// A plain line.
    Line(Vec<u8>),
}

/// The tags in the form of the protocol.
#[derive(Debug)]
pub(super) enum Tags {
    /// The protocol has none.
    None,
    /// The name of the event alone.
    Event(String),
    /// All of them.
    All(BTreeMap<String, String>),
}

/// A received message.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) body: Body,
    pub(super) tags: Tags,
}

/// Waits for the next message.
type Subscriber = Box<dyn FnMut() -> Received>;

/// Connects a subscriber; returns when it is subscribed.
type Open = fn(&Place<'_>) -> Subscriber;

pub(super) const SUBSCRIBERS: [(&str, Open); 12] = [
    ("MQTT 3.1.1 with QoS 0", |place| mqtt(place, Version::V3, Qos::AtMostOnce)),
    ("MQTT 5 with QoS 0", |place| mqtt(place, Version::V5, Qos::AtMostOnce)),
    ("MQTT 5 with QoS 1", |place| mqtt(place, Version::V5, Qos::AtLeastOnce)),
    ("RESP", resp),
    ("plain lines", lines),
    ("STOMP", stomp),
    ("Pusher", pusher),
    ("client protocol in JSON", |place| websocket(place, Encoding::Json)),
    ("client protocol in Protobuf", |place| websocket(place, Encoding::Protobuf)),
    ("client protocol over server-sent events", client_events),
    ("client protocol over HTTP streaming", http_stream),
    ("/events", events),
];

fn mqtt(place: &Place<'_>, version: Version, qos: Qos) -> Subscriber {
    let mut client = MqttClient::connect(place.receiving, version);
    let mut subscriptions = SubscriptionsBuf::default();
    let options = SubscriptionOptions::new(qos);
    subscriptions.push(Subscription { filter: CHANNEL, options }).expect("a filter");
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: ONE,
        properties: Properties::NONE,
        subscriptions: subscriptions.as_subscriptions(),
    }));
    client.wait_for(|packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    Box::new(move || {
        let (received, id) = client.wait_for(|packet| {
            let Packet::Publish(publish) = packet else { return None };
            assert_eq!((publish.topic, publish.qos.qos()), (CHANNEL, qos));
            let tag = |property| match property {
                Property::UserProperty(name, value) => Some((name.to_owned(), value.to_owned())),
                _ => None,
            };
            let all = publish.properties.iter().filter_map(tag).collect();
            let tags = if version == Version::V5 { Tags::All(all) } else { Tags::None };
            Some((Received { body: Body::Bytes(publish.payload.to_vec()), tags }, publish.qos.packet_id()))
        });
        if let Some(id) = id {
            client.send(&Packet::PubAck(Ack::success(id)));
        }
        received
    })
}

fn resp(place: &Place<'_>) -> Subscriber {
    let mut client = RespClient::connect(place.receiving.tcp());
    client.command(&["SUBSCRIBE", CHANNEL]);
    Box::new(move || {
        let Reply::Array(mut message) = client.reply() else { panic!("a message was expected") };
        let Some(Reply::Bulk(body)) = message.pop() else { panic!("{message:?}") };
        Received { body: Body::Bytes(body), tags: Tags::None }
    })
}

fn lines(place: &Place<'_>) -> Subscriber {
    let mut client: LineClient = place.receiving.subscriber(CHANNEL);
    Box::new(move || {
        let line = client.line_bytes_within(tidings_testkit::PATIENCE).expect("a line in time");
        let body = line.strip_prefix(format!("MESSAGE {CHANNEL} ").as_bytes()).expect("a message");
        Received { body: Body::Line(body.to_vec()), tags: Tags::None }
    })
}

fn stomp(place: &Place<'_>) -> Subscriber {
    /// The headers of `MESSAGE` that are no tags.
    const OWN: [&str; 5] = ["subscription", "message-id", "destination", "content-type", "content-length"];
    let mut client = StompClient::connect(place.receiving);
    client.send("SUBSCRIBE", &[("id", "1"), ("destination", CHANNEL), ("receipt", "1")], b"");
    assert_eq!(client.frame().0, "RECEIPT");
    Box::new(move || {
        let (command, headers, body) = client.frame();
        assert_eq!(command, "MESSAGE");
        let tags = headers.into_iter().filter(|(name, _)| !OWN.contains(&&**name));
        Received { body: Body::Bytes(body), tags: Tags::All(tags.collect()) }
    })
}

fn pusher(place: &Place<'_>) -> Subscriber {
    let mut client = PusherClient::subscribed(place.receiving);
    Box::new(move || {
        let message = client.message();
        let text = |name: &str| message[name].as_str().unwrap_or_else(|| panic!("{message}")).to_owned();
        assert_eq!(message["channel"], CHANNEL);
        Received { body: Body::Text(text("data")), tags: Tags::Event(text("event")) }
    })
}

/// A publication of the client protocol.
fn publication(encoding: Encoding, publication: &Publication<'_>) -> Received {
    let bytes = publication.data.bytes.to_vec();
    let body = match encoding {
        Encoding::Json => Body::Json(serde_json::from_slice(&bytes).expect("a JSON value")),
        Encoding::Protobuf => Body::Bytes(bytes),
    };
    let tags = publication.tags.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Received { body, tags: Tags::All(tags.collect()) }
}

fn push(encoding: Encoding, reply: &reply::Reply<'_>) -> Option<Received> {
    match &reply.outcome {
        Outcome::Push(push) if push.channel == CHANNEL => match &push.event {
            Event::Publication(event) => Some(publication(encoding, event)),
            _ => None,
        },
        _ => None,
    }
}

fn websocket(place: &Place<'_>, encoding: Encoding) -> Subscriber {
    let mut client = WebSocketClient::connect(place.receiving, encoding);
    let subscribe = request::Subscribe { channel: CHANNEL.into(), ..request::Subscribe::default() };
    client.request(request::Request::Subscribe(subscribe));
    Box::new(move || client.wait_for(|reply| push(encoding, reply)))
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// Subscribes over a stream of HTTP, whose next message `next` reads.
fn streamed(server: &TestServer, request: &str, next: fn(&mut Stream) -> Value) -> Subscriber {
    let mut stream = Stream::open(server, request);
    let connected = next(&mut stream);
    let (node, session) = (&connected["connect"]["node"], &connected["connect"]["session"]);
    let data = json!({"id": 2, "subscribe": {"channel": CHANNEL}}).to_string();
    let body = json!({"session": session, "node": node, "data": data}).to_string();
    let headers = "Content-Type: application/json\r\nConnection: close\r\n";
    assert_eq!(server.send(post("/emulation", headers, &body)).status, 204);
    assert_eq!(next(&mut stream)["id"], 2);
    Box::new(move || {
        loop {
            let message = next(&mut stream).to_string();
            let reply = Encoding::Json.parse_reply(message.as_bytes()).expect("a reply");
            if let Some(received) = push(Encoding::Json, &reply) {
                return received;
            }
        }
    })
}

fn client_events(place: &Place<'_>) -> Subscriber {
    let path = format!("/connection/sse?cf_connect={}", escaped(CONNECT));
    streamed(place.receiving, &get(&path, ""), Stream::event)
}

fn http_stream(place: &Place<'_>) -> Subscriber {
    let headers = "Content-Type: application/json\r\n";
    streamed(place.receiving, &post("/connection/http_stream", headers, CONNECT), Stream::line)
}

fn events(place: &Place<'_>) -> Subscriber {
    let mut stream = Stream::open(place.receiving, &get(&format!("/events?channel={CHANNEL}"), ""));
    stream.until(":ok\n\n");
    Box::new(move || {
        let event = stream.until("\n\n");
        let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = data.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        Received { body: Body::Text(data.join("\n")), tags: Tags::None }
    })
}
