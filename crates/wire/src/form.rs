//! Wire forms: in how many different byte sequences one publication can leave a shard.
//!
//! A shard encodes a publication once per form that has subscribers, however many there are.

use crate::body::DataFormat;
use crate::channel::Topic;
use crate::client::Encoding;
use crate::publication::Publication;
use crate::ws::{self, Opcode};
use crate::{plain, resp, sse};

/// The byte form in which a session takes publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Form {
    /// Plain lines: the bare body in the default channel, `MESSAGE channel body` elsewhere.
    Plain,
    /// RESP2 `message` / `pmessage` arrays.
    Resp2,
    /// RESP3 `message` / `pmessage` pushes.
    Resp3,
    /// The client protocol in JSON, one push a line.
    JsonLine,
}

impl Form {
    /// Every form, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Resp2, Self::Resp3, Self::JsonLine];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// What the encoding of a publication depends on besides its form; the same for all of a topic's subscribers.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What was subscribed to.
    pub topic: &'a Topic,
    /// Whether this is the line port's default channel, whose bodies come bare.
    pub default_channel: bool,
    /// How JSON forms show the body.
    pub data_format: DataFormat,
}

/// Appends `publication` to `out` in `form`.
pub fn encode(form: Form, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    let channel = publication.channel.as_str();
    let body = &publication.body[..];
    match (form, context.topic) {
        (Form::Plain, _) => plain::message(context.default_channel, channel, body, out),
        (Form::Resp2, Topic::Channel(_)) => resp::message(resp::Version::V2, channel, body, out),
        (Form::Resp3, Topic::Channel(_)) => resp::message(resp::Version::V3, channel, body, out),
        (Form::Resp2, Topic::Pattern(p)) => resp::pmessage(resp::Version::V2, p.as_str(), channel, body, out),
        (Form::Resp3, Topic::Pattern(p)) => resp::pmessage(resp::Version::V3, p.as_str(), channel, body, out),
        (Form::JsonLine, _) => {
            push(Encoding::Json, context, publication, out);
            out.push(b'\n');
        }
    }
}

/// Appends `publication` as a push of the client protocol in one frame of a WebSocket server: text in JSON, binary in
/// Protobuf. The frame is the same for every subscriber.
pub fn encode_frame(encoding: Encoding, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    let opcode = match encoding {
        Encoding::Json => Opcode::Text,
        Encoding::Protobuf => Opcode::Binary,
    };
    ws::frame_with(opcode, expected(publication), out, |out| push(encoding, context, publication, out));
}

/// Appends `publication` as a push of the client protocol in JSON, in one server-sent event.
pub fn encode_event(context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    sse::data_line(out, |out| push(Encoding::Json, context, publication, out));
}

/// Appends `publication` as a push of the client protocol without anything around it: for Protobuf over HTTP
/// streaming, whose messages have their lengths before them.
pub fn push(encoding: Encoding, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    out.reserve(expected(publication));
    encoding.write_publication(publication, context.data_format, out);
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

    fn encoded(form: Form, topic: &Topic) -> String {
        let channel = Channel::new("news").unwrap();
        let publication = Publication::new(channel, Bytes::from_static(b"a\nb"));
        let context = Context { topic, default_channel: false, data_format: DataFormat::Auto };
        let mut out = b"before ".to_vec();
        encode(form, &context, &publication, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_publication_leaves_in_every_form_as_one_unit_behind_what_was_there() {
        let topic = Topic::Channel(Channel::new("news").unwrap());
        let expected = [
            "before MESSAGE news a\\nb\r\n",
            "before *3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\na\nb\r\n",
            "before >3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\na\nb\r\n",
            "before {\"push\":{\"channel\":\"news\",\"pub\":{\"data\":\"a\\nb\"}}}\n",
        ];
        assert_eq!(Form::ALL.map(|form| encoded(form, &topic)), expected.map(String::from));
    }

    #[test]
    fn a_subscriber_of_a_pattern_is_told_which_one_matched() {
        let topic = Topic::Pattern(Pattern::new("n*").unwrap());
        let rest = "4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$3\r\na\nb\r\n";
        assert_eq!(encoded(Form::Resp2, &topic), format!("before *{rest}"));
        assert_eq!(encoded(Form::Resp3, &topic), format!("before >{rest}"));
    }

    fn recovered() -> (Topic, Publication) {
        let channel = Channel::new("news").unwrap();
        let info = ClientInfo { user: "42".into(), client: "c1".into(), conn_info: None, chan_info: None };
        let extra = Extra { info: Some(info), tags: vec![("k".into(), "v".into())] };
        let mut publication = Publication::new(channel.clone(), Bytes::from_static(b"[1]"));
        publication.position = Some(Position { offset: 7, epoch: "e".into() });
        publication.extra = Some(Box::new(extra));
        (Topic::Channel(channel), publication)
    }

    #[test]
    fn what_a_publication_carries_is_told_to_those_who_speak_the_client_protocol() {
        let (topic, publication) = recovered();
        let context = Context { topic: &topic, default_channel: false, data_format: DataFormat::Auto };
        let json = r#"{"push":{"channel":"news","pub":{"data":[1],"info":{"user":"42","client":"c1"},"offset":7,"tags":{"k":"v"}}}}"#;
        let mut out = Vec::new();
        encode(Form::JsonLine, &context, &publication, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{json}\n"));

        let mut out = b"before".to_vec();
        encode_event(&context, &publication, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("beforedata: {json}\n\n"));

        let mut out = b"before".to_vec();
        encode_frame(Encoding::Json, &context, &publication, &mut out);
        let mut expected = b"before".to_vec();
        ws::frame(Opcode::Text, json.as_bytes(), &mut expected);
        assert_eq!(out, expected);

        let (mut framed, mut bare) = (Vec::new(), Vec::new());
        encode_frame(Encoding::Protobuf, &context, &publication, &mut framed);
        push(Encoding::Protobuf, &context, &publication, &mut bare);
        assert_eq!(framed, [&[0x82, bare.len() as u8], &bare[..]].concat());
        let message = Encoding::Protobuf.messages(&bare).next().unwrap().unwrap();
        let protobuf = Encoding::Protobuf.parse_reply(message).unwrap();
        assert_eq!(protobuf, Encoding::Json.parse_reply(json.as_bytes()).unwrap());
    }
}
