//! The publishers: what each protocol makes of a body, and which tags it adds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Request;
use prost::Message as _;
use serde_json::{Value, json};
use tidings_grpc::messages::api;
use tidings_mqtt::{Packet, PropertiesBuf, Property, Publish, QosAndId, Version};
use tidings_outbound::GrpcOutbound;
use tidings_pusher::Key;
use tidings_testkit::{LineClient, PATIENCE, RespClient};
use tidings_wire::client::Encoding;
use tidings_wire::client::request;

use super::clients::{MqttClient, ONE, PusherClient, StompClient, WebSocketClient, base64};
use super::{CHANNEL, Place, TAGS};

/// A message as it is in the channel.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) body: Vec<u8>,
    pub(super) tags: Vec<(String, String)>,
}

impl Published {
    fn new(body: impl AsRef<[u8]>, tags: &[(&str, &str)]) -> Option<Self> {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some(Self { body: body.as_ref().to_vec(), tags })
    }
}

/// Publishes a body. Returns the message in the channel, or `None` if the protocol cannot carry the body.
type Publisher = Box<dyn FnMut(&[u8]) -> Option<Published>>;

/// Connects a publisher; `None` where its protocol does not exist.
type Open = fn(&Place<'_>) -> Option<Publisher>;

pub(super) const PUBLISHERS: [(&str, Open); 13] = [
    ("MQTT 3.1.1", |place| mqtt(place, Version::V3)),
    ("MQTT 5", |place| mqtt(place, Version::V5)),
    ("RESP", |place| Some(redis(RespClient::connect(place.publishing.tcp())))),
    ("plain lines", lines),
    ("STOMP", stomp),
    ("HTTP API", http_api),
    ("HTTP API in base64", http_api_in_base64),
    ("gRPC API", grpc_api),
    ("Pusher's HTTP API", pusher_api),
    ("client events of Pusher", client_events),
    ("client protocol in JSON", |place| client_protocol(place, Encoding::Json)),
    ("client protocol in Protobuf", |place| client_protocol(place, Encoding::Protobuf)),
    ("Redis", |place| place.redis.map(|server| redis(server.client()))),
];

/// Any bytes; user properties are tags.
fn mqtt(place: &Place<'_>, version: Version) -> Option<Publisher> {
    let mut client = MqttClient::connect(place.publishing, version);
    Some(Box::new(move |body| {
        let tags = if version == Version::V5 { &TAGS[..] } else { &[] };
        let mut properties = PropertiesBuf::default();
        for (name, value) in tags {
            properties.push(Property::UserProperty(name, value)).expect("a property");
        }
        client.send(&Packet::Publish(Publish {
            dup: false,
            qos: QosAndId::AtLeastOnce(ONE),
            retain: false,
            topic: CHANNEL,
            properties: properties.as_properties(),
            payload: body,
        }));
        client.wait_for(|packet| matches!(packet, Packet::PubAck(_)).then_some(()));
        Published::new(body, tags)
    }))
}

/// Any bytes, without tags.
fn redis(mut client: RespClient) -> Publisher {
    Box::new(move |body| {
        client.command(&[b"PUBLISH", CHANNEL.as_bytes(), body]).int();
        Published::new(body, &[])
    })
}

/// Text without line breaks.
fn lines(place: &Place<'_>) -> Option<Publisher> {
    let mut client = LineClient::connect(place.publishing.tcp());
    Some(Box::new(move |body| {
        let text = std::str::from_utf8(body).ok().filter(|text| !text.contains(['\r', '\n']))?;
        client.send(&format!("PUBLISH {CHANNEL} {text}"));
        client.expect("CONFIRMED");
        Published::new(body, &[])
    }))
}

/// Any bytes; headers are tags.
fn stomp(place: &Place<'_>) -> Option<Publisher> {
    let mut client = StompClient::connect(place.publishing);
    Some(Box::new(move |body| {
        let length = body.len().to_string();
        let own = [("destination", CHANNEL), ("content-length", &*length), ("receipt", "1")];
        client.send("SEND", &[&own[..], &TAGS[..]].concat(), body);
        assert_eq!(client.frame().0, "RECEIPT");
        Published::new(body, &TAGS)
    }))
}

/// The JSON value that a program in JSON publishes for a body: a text that is not JSON is a string.
fn json_value(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let is_json = serde_json::from_str::<Value>(text).is_ok();
    Some(if is_json { text.to_owned() } else { Value::from(text).to_string() })
}

/// Any JSON value, byte for byte, with tags.
fn http_api(place: &Place<'_>) -> Option<Publisher> {
    let (address, tags) = (place.publishing.http(), tags_object());
    Some(Box::new(move |body| {
        let data = json_value(body)?;
        let request = format!(r#"{{"channel":"{CHANNEL}","data":{data},"tags":{tags}}}"#);
        call_api(address, &request);
        Published::new(data, &TAGS)
    }))
}

/// Any bytes, with tags.
fn http_api_in_base64(place: &Place<'_>) -> Option<Publisher> {
    let (address, tags) = (place.publishing.http(), tags_object());
    Some(Box::new(move |body| {
        let request = json!({"channel": CHANNEL, "b64data": base64(body), "tags": tags});
        call_api(address, &request.to_string());
        Published::new(body, &TAGS)
    }))
}

fn tags_object() -> Value {
    TAGS.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

fn call_api(address: std::net::SocketAddr, request: &str) {
    let headers = ["Content-Type: application/json"];
    let response = tidings_testkit::post_http(address, "/api/publish", &headers, request);
    assert!(response.status == 200 && response.body.contains("result"), "{response:?}");
}

/// Any bytes but none, with tags: in Protobuf, an empty field is no field.
fn grpc_api(place: &Place<'_>) -> Option<Publisher> {
    let address = format!("http://{}", place.publishing.announced("grpc")).parse().expect("an address");
    let handle = place.publishing.runtime.handle().clone();
    let client = {
        let _in_runtime = handle.enter();
        GrpcOutbound::new(&address, None, Duration::from_secs(1))
    };
    Some(Box::new(move |body| {
        if body.is_empty() {
            return None;
        }
        let request = api::PublishRequest {
            channel: CHANNEL.to_owned(),
            data: body.to_vec().into(),
            tags: TAGS.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..api::PublishRequest::default()
        };
        let head = Request::builder().body(()).expect("a request");
        let path = "/centrifugal.centrifugo.api.CentrifugoApi/Publish";
        let message = request.encode_to_vec();
        let call = client.call(path, head, &message, PATIENCE, 1 << 20);
        let reply = handle.block_on(call).expect("a reply");
        let reply = api::PublishResponse::decode(reply).expect("a reply");
        assert!(reply.error.is_none(), "{reply:?}");
        Published::new(body, &TAGS)
    }))
}

/// Text; the name of the event is the tag `event`.
fn pusher_api(place: &Place<'_>) -> Option<Publisher> {
    const PATH: &str = "/apps/app/events";
    let address = place.publishing.http();
    Some(Box::new(move |body| {
        let data = std::str::from_utf8(body).ok()?;
        let request = json!({"name": "created", "channel": CHANNEL, "data": data}).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let query = Key::new("secret").sign_request("key", "POST", PATH, request.as_bytes(), now);
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let target = format!("{PATH}?{}", query.join("&"));
        let response = tidings_testkit::post_http(address, &target, &[], request);
        assert_eq!(response.status, 200, "{response:?}");
        Published::new(body, &[("event", "created")])
    }))
}

/// JSON or text, as `pusher-js` sends it; the name of the event is the tag `event`.
fn client_events(place: &Place<'_>) -> Option<Publisher> {
    let mut client = PusherClient::subscribed(place.publishing);
    Some(Box::new(move |body| {
        let text = std::str::from_utf8(body).ok()?;
        let data: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        client.send(&json!({"event": "client-moved", "channel": CHANNEL, "data": data}));
        // A client in JavaScript writes the value of its own, without white space.
        let body = if data.is_string() { text.to_owned() } else { data.to_string() };
        Published::new(body, &[("event", "client-moved")])
    }))
}

/// In JSON a JSON value, in Protobuf any bytes; without tags.
fn client_protocol(place: &Place<'_>, encoding: Encoding) -> Option<Publisher> {
    let mut client = WebSocketClient::connect(place.publishing, encoding);
    Some(Box::new(move |body| {
        let body = match encoding {
            // The messages of a frame are separated by line breaks.
            Encoding::Json => json_value(body)?.replace('\n', " ").into_bytes(),
            Encoding::Protobuf => body.to_vec(),
        };
        client.request(request::Request::Publish(request::Publish {
            channel: CHANNEL.into(),
            data: Some(body[..].into()),
            ..request::Publish::default()
        }));
        Published::new(body, &[])
    }))
}
