//! Wire forms: the different byte sequences of one publication at the output of a shard.
//!
//! A shard encodes a publication once per form that has subscribers, independent of their number.

use std::borrow::Cow;

use crate::body::DataFormat;
use crate::channel::Topic;
use crate::client::Encoding;
use crate::framing::Framing;
use crate::plain::Escape;
use crate::publication::{Position, Publication};
use crate::ws::Opcode;
use crate::ws::deflate::Deflater;
use crate::{mqtt, plain, resp, sse, stomp};

/// The byte form of publications for a session: the message, and its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// How a message is delimited.
    pub framing: Framing,
    /// The message.
    pub message: Message,
}

/// The encoding of a publication as a message of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A plain line: the bare body in the default channel, `MESSAGE channel body` elsewhere.
    Plain,
    /// A RESP `message` or `pmessage`: an array in version 2, a push in version 3.
    Resp(resp::Version),
    /// A reply of the client protocol that contains a push.
    Reply(Encoding),
    /// A push of the client protocol without a reply around it, as one-way transports have it.
    Push(Encoding),
    /// A server-sent event with the publication's body as its data.
    Event,
    /// A `MESSAGE` frame of STOMP.
    Stomp,
    /// An event of the Pusher protocol.
    Pusher,
    /// A `PUBLISH` of MQTT.
    Mqtt {
        /// The version.
        version: tidings_mqtt::Version,
        /// Whether the session adds its own parts. Without, all subscribers get the same packet with QoS 0.
        is_addressed: bool,
    },
}

impl Form {
    /// Plain lines.
    pub const PLAIN: Self = Self::new(Framing::Line, Message::Plain);
    /// RESP, version 2.
    pub const RESP2: Self = Self::new(Framing::Raw, Message::Resp(resp::Version::V2));
    /// RESP, version 3.
    pub const RESP3: Self = Self::new(Framing::Raw, Message::Resp(resp::Version::V3));
    /// The client protocol in JSON, one reply per line.
    pub const JSON_LINE: Self = Self::new(Framing::Line, Message::Reply(Encoding::Json));
    /// Server-sent events that are the publications' data.
    pub const EVENT: Self = Self::new(Framing::SseEvent, Message::Event);

    /// A message in a framing. The framing of plain lines, RESP and plain events is part of the message.
    pub const fn new(framing: Framing, message: Message) -> Self {
        Self { framing, message }
    }

    /// Whether messages for several subscribers are compressed: they are written with [`encode_packed`].
    pub const fn is_packed(self) -> bool {
        self.framing.is_deflated()
    }

    /// Whether a message contains a part of its subscriber, such as the id of a subscription. [`encode`] then writes what all
    /// subscribers share, and the subscriber's session makes the message from it.
    pub const fn is_addressed(self) -> bool {
        matches!(self.message, Message::Stomp | Message::Mqtt { is_addressed: true, .. })
    }
}

/// What the encoding of a publication depends on besides its form; the same for all of a topic's subscribers.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The topic of the subscription.
    pub topic: &'a Topic,
    /// Whether this is the default channel of the line protocol, where bodies are sent without a channel name.
    pub default_channel: bool,
    /// How JSON forms show the body.
    pub data_format: DataFormat,
    /// Which bodies are escaped on plain lines.
    pub escape: Escape,
}

/// Appends `publication` to `out` in `form`. The message is never compressed, also in a compressed form: each message
/// has a bit that marks it as compressed (RFC 7692 §6), and compression does not pay for one subscriber.
pub fn encode(form: Form, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    let channel = publication.channel.as_str();
    let body = &publication.body[..];
    match form.message {
        Message::Plain => plain::message(context.default_channel, channel, body, context.escape, out),
        Message::Resp(version) => match context.topic {
            Topic::Channel(_) => resp::message(version, channel, body, out),
            Topic::Pattern(pattern) => resp::pmessage(version, pattern.as_str(), channel, body, out),
        },
        Message::Reply(encoding) => {
            form.framing.frame_with(encoding.opcode(), expected(publication), out, |out| {
                reply(encoding, context, publication, out);
            });
        }
        Message::Push(encoding) => {
            form.framing.frame_with(encoding.opcode(), expected(publication), out, |out| {
                push(encoding, context, publication, out);
            });
        }
        Message::Event => event(publication, out),
        Message::Stomp => stomp::shared_message(publication, out),
        Message::Pusher => {
            form.framing.frame_with(Opcode::Text, expected(publication), out, |out| {
                pusher_event(publication, out);
            });
        }
        Message::Mqtt { version, is_addressed: true } => mqtt::publish(version, publication, out),
        Message::Mqtt { version, is_addressed: false } => {
            form.framing.frame_with(Opcode::Binary, expected(publication), out, |out| {
                mqtt::publish(version, publication, out);
            });
        }
    }
}

/// As [`encode`]; in a compressed form, `deflater` compresses the message if that makes it shorter.
pub fn encode_packed(
    form: Form,
    context: &Context<'_>,
    publication: &Publication,
    deflater: &mut Deflater,
    out: &mut Vec<u8>,
) {
    match form.message {
        Message::Reply(encoding) if form.is_packed() => {
            deflater.frame_with(encoding.opcode(), out, |out| reply(encoding, context, publication, out));
        }
        Message::Push(encoding) if form.is_packed() => {
            deflater.frame_with(encoding.opcode(), out, |out| push(encoding, context, publication, out));
        }
        _ => encode(form, context, publication, out),
    }
}

/// Appends a publication of the client protocol for subscribers with deltas ([`Encoding::write_content`]); in a compressed
/// form, `deflater` compresses the message if that makes it shorter. Other forms have no deltas: the publication is written as [`encode`] does.
pub fn encode_content(
    form: Form,
    context: &Context<'_>,
    publication: &Publication,
    (content, is_delta): (&[u8], bool),
    deflater: Option<&mut Deflater>,
    out: &mut Vec<u8>,
) {
    let Message::Reply(encoding) = form.message else { return encode(form, context, publication, out) };
    let write = |out: &mut Vec<u8>| encoding.write_content(publication, content, is_delta, out);
    match deflater {
        Some(deflater) if form.is_packed() => deflater.frame_with(encoding.opcode(), out, write),
        _ => form.framing.frame_with(encoding.opcode(), content.len() + expected(publication), out, write),
    }
}

/// Appends a publication as a reply with a push.
fn reply(encoding: Encoding, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    out.reserve(expected(publication));
    encoding.write_publication(publication, context.data_format, out);
}

/// Appends a publication as a push without a reply around it.
fn push(encoding: Encoding, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    out.reserve(expected(publication));
    encoding.write_bare_publication(publication, context.data_format, out);
}

/// Appends an event with the publication's body as data, and its position as id if it has one. A body that is
/// not UTF-8 is written as in JSON.
fn event(publication: &Publication, out: &mut Vec<u8>) {
    let id = publication.position.as_ref().map(|position| event_id(position, publication.channel.as_str()));
    let mut other = Vec::new();
    let text = std::str::from_utf8(&publication.body).unwrap_or_else(|_| {
        crate::body::write_json(&publication.body, DataFormat::Binary, &mut other);
        std::str::from_utf8(&other).unwrap_or_default()
    });
    let event = sse::Event { id: id.as_deref(), event: None, data: text };
    event.write(out).expect("an id without a line break");
}

/// Appends an event of the Pusher protocol: its name is the tag `event`, its data the body. A body that is not UTF-8 is written
/// as in JSON. An event of a client in a presence channel contains the id of its member.
fn pusher_event(publication: &Publication, out: &mut Vec<u8>) {
    let extra = publication.extra.as_deref();
    let tag = extra.and_then(|extra| extra.tags.iter().find(|(name, _)| name == "event"));
    let event = tidings_pusher::event_name(tag.map(|(_, value)| value.as_str()));
    let channel = tidings_pusher::visible_name(publication.channel.as_str());
    let mut other = Vec::new();
    let data = std::str::from_utf8(&publication.body).unwrap_or_else(|_| {
        crate::body::write_json(&publication.body, DataFormat::Binary, &mut other);
        std::str::from_utf8(&other).unwrap_or_default()
    });
    let is_of_member = event.starts_with("client-") && channel.starts_with("presence-");
    let info = extra.filter(|_| is_of_member).and_then(|extra| extra.info.as_ref()?.chan_info.as_ref());
    let user_id = info.and_then(|info| tidings_pusher::user_id(info));
    tidings_pusher::publication(event, channel, data, user_id.as_deref(), out);
}

/// A channel's position in the id of a plain server-sent event: `offset.epoch.channel`. Positions of
/// several channels are separated by spaces, which no part contains.
pub fn event_id(position: &Position, channel: &str) -> String {
    format!("{}.{}.{}", position.offset, position.epoch, name_in_id(channel))
}

/// A channel's name in such an id, which browsers send back in a header: spaces, percent signs and all bytes except
/// printable ASCII are percent-encoded (RFC 3986 §2.1).
pub fn name_in_id(channel: &str) -> Cow<'_, str> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if channel.bytes().all(fits) {
        return Cow::Borrowed(channel);
    }
    let mut out = String::with_capacity(channel.len() + 16);
    for byte in channel.bytes() {
        if fits(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(out)
}

/// Bytes that a push takes if nothing in it is escaped.
fn expected(publication: &Publication) -> usize {
    // The names of the members, the quotes around a text, and an offset of a few digits.
    let around = if publication.position.is_some() { 56 } else { 40 };
    publication.channel.as_str().len() + publication.size() + around
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::channel::{Channel, Pattern};
    use crate::publication::{ClientInfo, Extra, Position};
    use crate::ws::{self, Opcode};

    const WS_JSON: Form = ws_reply(false, Encoding::Json);
    const WS_PROTOBUF: Form = ws_reply(false, Encoding::Protobuf);
    const WS_JSON_DEFLATE: Form = ws_reply(true, Encoding::Json);
    const WS_PROTOBUF_DEFLATE: Form = ws_reply(true, Encoding::Protobuf);
    const PROTOBUF_STREAM: Form = Form::new(Framing::Raw, Message::Reply(Encoding::Protobuf));
    const SSE: Form = Form::new(Framing::SseEvent, Message::Reply(Encoding::Json));
    const UNI_WS: Form = Form::new(Framing::WebSocket { deflate: false }, Message::Push(Encoding::Json));
    const UNI_LINE: Form = Form::new(Framing::Line, Message::Push(Encoding::Json));
    const UNI_SSE: Form = Form::new(Framing::SseEvent, Message::Push(Encoding::Json));
    const ALL: [Form; 14] = [
        Form::PLAIN,
        Form::RESP2,
        Form::RESP3,
        Form::JSON_LINE,
        WS_JSON,
        WS_PROTOBUF,
        WS_JSON_DEFLATE,
        WS_PROTOBUF_DEFLATE,
        PROTOBUF_STREAM,
        SSE,
        UNI_WS,
        UNI_LINE,
        UNI_SSE,
        Form::EVENT,
    ];

    const fn ws_reply(deflate: bool, encoding: Encoding) -> Form {
        Form::new(Framing::WebSocket { deflate }, Message::Reply(encoding))
    }

    fn encoded(form: Form, topic: &Topic) -> String {
        let channel = Channel::new("news").unwrap();
        let publication = Publication::new(channel, Bytes::from_static(b"a\nb"));
        let context =
            Context { topic, default_channel: false, data_format: DataFormat::Auto, escape: Escape::Auto };
        let mut out = b"before ".to_vec();
        encode(form, &context, &publication, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form_appends_one_unit_for_a_publication() {
        let topic = Topic::Channel(Channel::new("news").unwrap());
        let expected = [
            (Form::PLAIN, "MESSAGE news a\\nb\r\n"),
            (Form::RESP2, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\na\nb\r\n"),
            (Form::RESP3, ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\na\nb\r\n"),
            (Form::JSON_LINE, "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":\"a\\nb\"}}}\n"),
            (Form::EVENT, "data: a\ndata: b\n\n"),
        ];
        for (form, expected) in expected {
            assert_eq!(encoded(form, &topic), format!("before {expected}"));
        }
    }

    #[test]
    fn a_subscriber_of_a_pattern_receives_the_matched_pattern() {
        let topic = Topic::Pattern(Pattern::new("n*").unwrap());
        let rest = "4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$3\r\na\nb\r\n";
        assert_eq!(encoded(Form::RESP2, &topic), format!("before *{rest}"));
        assert_eq!(encoded(Form::RESP3, &topic), format!("before >{rest}"));
    }

    #[test]
    fn the_name_in_an_event_id_is_ascii_without_spaces() {
        assert_eq!(name_in_id("scores:nba"), "scores:nba");
        assert_eq!(name_in_id("my room ☕"), "my%20room%20%E2%98%95");
        assert_eq!(name_in_id("100%"), "100%25");
        let position = Position { offset: 7, epoch: "e".into() };
        assert_eq!(event_id(&position, "a b"), "7.e.a%20b");
    }

    fn recovered() -> (Topic, Publication) {
        let channel = Channel::new("news").unwrap();
        let info = ClientInfo { user: "42".into(), client: "c1".into(), conn_info: None, chan_info: None };
        let extra = Extra { info: Some(info), tags: vec![("k".into(), "v".into())], ..Extra::default() };
        let mut publication = Publication::new(channel.clone(), Bytes::from_static(b"[1]"));
        publication.position = Some(Position { offset: 7, epoch: "e".into() });
        publication.extra = Some(Box::new(extra));
        (Topic::Channel(channel), publication)
    }

    #[test]
    fn the_client_protocol_includes_the_extras_of_a_publication() {
        let (topic, publication) = recovered();
        let context = Context {
            topic: &topic,
            default_channel: false,
            data_format: DataFormat::Auto,
            escape: Escape::Auto,
        };
        let json = r#"{"push":{"channel":"news","pub":{"data":[1],"info":{"user":"42","client":"c1"},"offset":7,"tags":{"k":"v"}}}}"#;
        let mut out = Vec::new();
        encode(Form::JSON_LINE, &context, &publication, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{json}\n"));

        let encoded = |form| {
            let mut out = b"before".to_vec();
            encode(form, &context, &publication, &mut out);
            assert!(out.starts_with(b"before"));
            out.split_off(6)
        };
        let text = |form| String::from_utf8(encoded(form)).unwrap();
        let in_frame = |text: &str| {
            let mut out = Vec::new();
            ws::frame(Opcode::Text, text.as_bytes(), &mut out);
            out
        };
        let alone = json.strip_prefix("{\"push\":").and_then(|j| j.strip_suffix('}')).unwrap();
        assert_eq!(text(SSE), format!("data: {json}\n\n"));
        assert_eq!(text(UNI_LINE), format!("{alone}\n"));
        assert_eq!(text(UNI_SSE), format!("data: {alone}\n\n"));
        assert_eq!(text(Form::EVENT), "id: 7.e.news\ndata: [1]\n\n");
        assert_eq!(encoded(WS_JSON), in_frame(json));
        assert_eq!(encoded(UNI_WS), in_frame(alone));

        // As they are for one subscriber alone; compressed, where that is worth it, for many.
        assert_eq!(encoded(WS_JSON_DEFLATE), in_frame(json));
        assert_eq!(encoded(WS_PROTOBUF_DEFLATE), encoded(WS_PROTOBUF));
        for form in ALL {
            let mut packed = Vec::new();
            encode_packed(form, &context, &publication, &mut Deflater::new(9, 1000), &mut packed);
            assert_eq!(packed, encoded(form), "too short for it, in {form:?}");
            packed.clear();
            encode_packed(form, &context, &publication, &mut Deflater::new(9, 0), &mut packed);
            assert_eq!(packed != encoded(form), form.is_packed() && packed[0] & 0x40 != 0, "{form:?}");
        }

        let (framed, bare) = (encoded(WS_PROTOBUF), encoded(PROTOBUF_STREAM));
        assert_eq!(framed, [&[0x82, bare.len() as u8], &bare[..]].concat());
        let message = Encoding::Protobuf.messages(&bare).next().unwrap().unwrap();
        let protobuf = Encoding::Protobuf.parse_reply(message).unwrap();
        assert_eq!(protobuf, Encoding::Json.parse_reply(json.as_bytes()).unwrap());
    }
}
