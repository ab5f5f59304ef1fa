//! The protocols of bench subscribers, to the extent that a bench needs them.
//!
//! Invariant: a frame (line, reply, WebSocket frame, event) is parsed once it is complete; the caller keeps the bytes
//! of an incomplete one. Messages of the run have one form, so they are recognized by their first and last bytes; all
//! other input goes through the codecs.

use std::borrow::Cow;

use clap::ValueEnum;
use memchr::memmem;
use tidings_wire::client::Data;
use tidings_wire::client::Encoding;
use tidings_wire::client::push::{Event, Publication, Push};
use tidings_wire::client::reply::{Outcome, Reply};
use tidings_wire::client::request::{self, Command, Request};
use tidings_wire::line::{self, Scan};
use tidings_wire::plain;
use tidings_wire::resp::{self, Value};
use tidings_wire::ws::{self, Opcode};

use super::mqtt;

/// The longest frame that is not a message of the run, in bytes.
const MAX_UNIT: usize = 1 << 20;
/// The mask of client frames. A constant is sufficient because the payload is not chosen by third parties (RFC 6455
/// §10.3).
pub(super) const MASK: [u8; 4] = [0; 4];

/// The transport of subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    /// Plain lines on the line port
    Tcp,
    /// RESP3 on the line port (or a Redis)
    Resp,
    /// The client protocol in JSON over WebSocket, on the HTTP port
    Ws,
    /// The same in Protobuf
    WsProtobuf,
    /// Server-sent events (GET /events), on the HTTP port
    Sse,
    /// MQTT 3.1.1 with QoS 0, on the line port (or another broker, with --server mqtt://)
    Mqtt,
}

impl Transport {
    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Resp => "resp",
            Self::Ws => "ws",
            Self::WsProtobuf => "ws-protobuf",
            Self::Sse => "sse",
            Self::Mqtt => "mqtt",
        }
    }

    /// Whether it uses the HTTP port.
    pub(super) fn is_web(self) -> bool {
        matches!(self, Self::Ws | Self::WsProtobuf | Self::Sse)
    }
}

/// A unit of the server's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit<'a> {
    /// The body of a message.
    Message(&'a [u8]),
    /// The subscription is confirmed.
    Subscribed,
    /// An error, or a notice of dropped messages, with the server's text.
    Error(String),
    /// A ping, which requires [`Dialect::pong`].
    Ping,
    /// Any other unit.
    Other,
}

/// A protocol with its channel and message size.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    transport: Transport,
    /// The first bytes that a subscriber sends.
    greeting: Vec<u8>,
    /// The bytes before a body of the run; on the line port in the form with the channel name.
    head: Vec<u8>,
    /// The bytes after a body of the run.
    tail: &'static [u8],
    /// The length of a body of the run.
    size: usize,
    /// The response to a ping.
    pong: Vec<u8>,
}

impl Dialect {
    /// For bodies of `size` bytes in `channel`, with an optional secret.
    pub(super) fn new(transport: Transport, channel: &str, secret: Option<&str>, size: usize) -> Self {
        let mut greeting = Vec::new();
        let mut head = Vec::new();
        let mut tail: &[u8] = b"\r\n";
        let mut pong = Vec::new();
        match transport {
            Transport::Tcp => {
                if let Some(secret) = secret {
                    greeting.extend(format!("AUTH {secret}\r\n").into_bytes());
                }
                greeting.extend(format!("SUBSCRIBE {channel}\r\n").into_bytes());
                head.extend(format!("MESSAGE {channel} ").into_bytes());
            }
            Transport::Resp => {
                hello(secret, &mut greeting);
                resp::command(&[b"SUBSCRIBE", channel.as_bytes()], &mut greeting);
                resp::message(resp::Version::V3, channel, &vec![b'x'; size], &mut head);
                head.truncate(head.len() - size - b"\r\n".len());
            }
            Transport::Ws => {
                ws::masked_frame(
                    Opcode::Text,
                    &commands(Encoding::Json, channel, secret),
                    MASK,
                    &mut greeting,
                );
                // JSON may escape characters of the channel name.
                head.extend_from_slice(b"{\"push\":{\"channel\":");
                tidings_wire::body::write_json_string(channel, &mut head);
                head.extend_from_slice(b",\"pub\":{\"data\":\"");
                tail = b"\"";
                ws::masked_frame(Opcode::Text, b"{}", MASK, &mut pong);
            }
            Transport::WsProtobuf => {
                let words = commands(Encoding::Protobuf, channel, secret);
                ws::masked_frame(Opcode::Binary, &words, MASK, &mut greeting);
                // In a publication without a position, the body is the last field. Publications with a position are
                // parsed.
                let publication = Publication { data: vec![b'x'; size].into(), ..Publication::default() };
                let push = Push { channel: channel.into(), event: Event::Publication(publication) };
                let mut frame = Vec::new();
                let reply = Reply { id: 0, outcome: Outcome::Push(push) };
                Encoding::Protobuf.write_reply(&reply, &mut frame);
                head.extend(Encoding::Protobuf.messages(&frame).flatten().flatten());
                head.truncate(head.len() - size);
                tail = b"";
                let mut ping = Vec::new();
                Encoding::Protobuf.write_ping(&mut ping);
                ws::masked_frame(Opcode::Binary, &ping, MASK, &mut pong);
            }
            Transport::Mqtt => {
                mqtt::connect(secret, &mut greeting);
                mqtt::subscribe(channel, &mut greeting);
                mqtt::publish(channel, None, &vec![b'x'; size], &mut head);
                head.truncate(head.len() - size);
                tail = b"";
            }
            Transport::Sse => {
                head.extend_from_slice(b"data: ");
                tail = b"\n";
            }
        }
        Self { transport, greeting, head, tail, size, pong }
    }

    /// The first bytes of a subscriber on its connection or WebSocket.
    pub(super) fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// The response to a ping.
    pub(super) fn pong(&self) -> &[u8] {
        &self.pong
    }

    /// Passes the units of the frame at the start of `buf` to `each`. Returns the length of the frame; 0 for an
    /// incomplete frame.
    ///
    /// # Errors
    /// Invalid bytes, as text.
    pub(super) fn frame<'a>(&self, buf: &'a [u8], mut each: impl FnMut(Unit<'a>)) -> Result<usize, String> {
        match self.transport {
            Transport::Tcp | Transport::Resp | Transport::Mqtt => {
                if let Some(body) = self.body(buf) {
                    each(Unit::Message(body));
                    return Ok(self.head.len() + self.size + self.tail.len());
                }
                let (unit, used) = match self.transport {
                    Transport::Tcp => match line::next(buf, 0, MAX_UNIT) {
                        Scan::Line { line, used } => (line_unit(line), used),
                        Scan::Partial => return Ok(0),
                        Scan::TooLong => return Err(format!("a line longer than {MAX_UNIT} bytes")),
                    },
                    Transport::Mqtt => match mqtt::unit(buf)? {
                        Some(found) => found,
                        None => return Ok(0),
                    },
                    _ => match resp::decode_value(buf, MAX_UNIT).map_err(|e| e.to_string())? {
                        Some((value, used)) => (value_unit(value), used),
                        None => return Ok(0),
                    },
                };
                each(unit);
                Ok(used)
            }
            Transport::Ws | Transport::WsProtobuf => self.websocket_units(buf, each),
            Transport::Sse => match memmem::find(buf, b"\n\n") {
                Some(end) => {
                    each(self.event_unit(&buf[..=end]));
                    Ok(end + 2)
                }
                None if buf.len() > self.size + MAX_UNIT => {
                    Err(format!("an event longer than {MAX_UNIT} bytes"))
                }
                None => Ok(0),
            },
        }
    }

    /// The body of the run at the start of `bytes`, if there is one.
    fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let rest = bytes.strip_prefix(&self.head[..])?;
        let (body, rest) = rest.split_at_checked(self.size)?;
        rest.starts_with(self.tail).then_some(body)
    }

    fn websocket_units<'a>(&self, buf: &'a [u8], mut each: impl FnMut(Unit<'a>)) -> Result<usize, String> {
        let Some(frame) = websocket_frame(buf, self.size * 2 + MAX_UNIT)? else { return Ok(0) };
        match frame.close() {
            Some(words) => each(Unit::Error(words)),
            None if frame.opcode == Some(Opcode::Text) => {
                frame.payload.split(|byte| *byte == b'\n').for_each(|line| each(self.reply_unit(line)));
            }
            None if frame.opcode == Some(Opcode::Binary) => {
                for reply in Encoding::Protobuf.messages(frame.payload) {
                    each(self.reply_unit(reply.map_err(|malformed| malformed.to_string())?));
                }
            }
            None => each(Unit::Other),
        }
        Ok(frame.used)
    }

    fn reply_unit<'a>(&self, reply: &'a [u8]) -> Unit<'a> {
        if let Some(body) = self.body(reply) {
            return Unit::Message(body);
        }
        let encoding = if self.transport == Transport::Ws { Encoding::Json } else { Encoding::Protobuf };
        let Ok(reply) = encoding.parse_reply(reply) else { return Unit::Other };
        match reply.outcome {
            Outcome::Ping => Unit::Ping,
            Outcome::Subscribe(_) => Unit::Subscribed,
            Outcome::Error(error) => Unit::Error(format!("{} (code {})", error.message, error.code)),
            Outcome::Push(push) => match push.event {
                Event::Publication(Publication { data: Data { bytes: Cow::Borrowed(body), .. }, .. }) => {
                    Unit::Message(body)
                }
                Event::Unsubscribe(end) => Unit::Error(format!("{} (code {})", end.reason, end.code)),
                Event::Disconnect(end) => Unit::Error(format!("{} (code {})", end.reason, end.code)),
                _ => Unit::Other,
            },
            _ => Unit::Other,
        }
    }

    /// The unit of an event: its lines with their line breaks.
    fn event_unit<'a>(&self, event: &'a [u8]) -> Unit<'a> {
        // The first comment confirms the subscription; later ones are keep-alives.
        if event.starts_with(b":") {
            return Unit::Subscribed;
        }
        // The id precedes the data.
        let mut rest = event;
        let mut kind = None;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if let Some(body) = self.body(rest) {
                return Unit::Message(body);
            }
            let line = &rest[..end];
            if let Some(name) = line.strip_prefix(b"event: ") {
                kind = Some(name);
            }
            if let Some(data) = line.strip_prefix(b"data: ")
                && kind.is_some()
            {
                return Unit::Error(String::from_utf8_lossy(data).into_owned());
            }
            rest = &rest[end + 1..];
        }
        Unit::Other
    }
}

/// A frame of the server.
pub(super) struct Frame<'a> {
    /// The type of frame, if it is standard.
    pub(super) opcode: Option<Opcode>,
    pub(super) payload: &'a [u8],
    /// Its length including the header.
    pub(super) used: usize,
}

impl Frame<'_> {
    /// The reason of a Close frame.
    pub(super) fn close(&self) -> Option<String> {
        if self.opcode != Some(Opcode::Close) {
            return None;
        }
        let words = String::from_utf8_lossy(self.payload.get(2..).unwrap_or_default());
        let code = self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        Some(format!("{words} (code {code})"))
    }
}

/// The frame at the start of `buf` (RFC 6455 §5.2), with a borrowed payload; `None` for an incomplete frame. The server
/// sends unfragmented messages.
///
/// # Errors
/// A masked frame, or one longer than `max` bytes, as text.
pub(super) fn websocket_frame(buf: &[u8], max: usize) -> Result<Option<Frame<'_>>, String> {
    let (length, start) = match buf {
        [_, length @ ..=125, ..] => (u64::from(*length), 2),
        [_, 126, a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        [_, 127, a, b, c, d, e, f, g, h, ..] => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
        [_, masked, ..] if *masked >= 128 => return Err("a server's frame with a mask".to_owned()),
        _ => return Ok(None),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= max);
    let length = length.ok_or_else(|| format!("a WebSocket frame longer than {max} bytes"))?;
    let Some(payload) = buf.get(start..start + length) else { return Ok(None) };
    Ok(Some(Frame { opcode: Opcode::new(buf[0] & 0x0F), payload, used: start + length }))
}

/// The first message of a subscriber over WebSocket.
fn commands(encoding: Encoding, channel: &str, secret: Option<&str>) -> Vec<u8> {
    let token = secret.unwrap_or_default().into();
    let connect = request::Connect { token, ..request::Connect::default() };
    let subscribe = request::Subscribe { channel: channel.into(), ..request::Subscribe::default() };
    let mut words = Vec::new();
    for (id, request) in (1..).zip([Request::Connect(connect), Request::Subscribe(subscribe)]) {
        encoding.write_command(&Command { id, request }, &mut words);
        words.extend_from_slice(encoding.separator());
    }
    words
}

/// Appends `HELLO 3`, with an optional key.
pub(super) fn hello(key: Option<&str>, out: &mut Vec<u8>) {
    match key {
        Some(key) => resp::command(&[b"HELLO", b"3", b"AUTH", b"default", key.as_bytes()], out),
        None => resp::command(&[b"HELLO", b"3"], out),
    }
}

/// Parses a line: both `CONFIRMED` and `ALREADY SUBSCRIBED` confirm a subscription.
fn line_unit(line: &[u8]) -> Unit<'_> {
    let is = |answer: &[u8]| answer.strip_suffix(b"\r\n") == Some(line);
    if is(plain::CONFIRMED) || is(plain::ALREADY_SUBSCRIBED) {
        Unit::Subscribed
    } else if line.starts_with(b"ERROR ") || is(plain::UNKNOWN_COMMAND) {
        Unit::Error(String::from_utf8_lossy(line).into_owned())
    } else {
        // In the default channel a message is only its body.
        Unit::Message(line)
    }
}

fn value_unit(value: Value) -> Unit<'static> {
    match value {
        Value::Error(words) => Unit::Error(words),
        Value::Push(items) => match items.first() {
            Some(Value::Bulk(kind)) if kind == b"subscribe" => Unit::Subscribed,
            _ => Unit::Other,
        },
        _ => Unit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of a frame, and its length.
    fn next<'a>(dialect: &Dialect, buf: &'a [u8]) -> Result<(Vec<Unit<'a>>, usize), String> {
        let mut units = Vec::new();
        let used = dialect.frame(buf, |unit| units.push(unit))?;
        Ok((units, used))
    }

    /// A text frame as a server sends it.
    fn text_frame(text: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        ws::frame(Opcode::Text, text.as_bytes(), &mut frame);
        frame
    }

    #[test]
    fn complete_messages_are_found_in_every_protocol() {
        let body = b"0123456789";
        for transport in [
            Transport::Tcp,
            Transport::Resp,
            Transport::Ws,
            Transport::WsProtobuf,
            Transport::Sse,
            Transport::Mqtt,
        ] {
            let dialect = Dialect::new(transport, "bench", None, body.len());
            let mut stream = Vec::new();
            match transport {
                Transport::Tcp => plain::message(false, "bench", body, plain::Escape::Auto, &mut stream),
                Transport::Resp => resp::message(resp::Version::V3, "bench", body, &mut stream),
                Transport::Ws => {
                    let push = r#"{"push":{"channel":"bench","pub":{"data":"0123456789","offset":12}}}"#;
                    stream = text_frame(push);
                }
                Transport::WsProtobuf => {
                    let publication =
                        Publication { data: body[..].into(), offset: 12, ..Publication::default() };
                    let push = Push { channel: "bench".into(), event: Event::Publication(publication) };
                    let mut frame = Vec::new();
                    let reply = Reply { id: 0, outcome: Outcome::Push(push) };
                    Encoding::Protobuf.write_reply(&reply, &mut frame);
                    ws::frame(Opcode::Binary, &frame, &mut stream);
                }
                Transport::Sse => stream.extend_from_slice(b"id: 7.e.bench\ndata: 0123456789\n\n"),
                Transport::Mqtt => stream.extend_from_slice(b"\x30\x11\0\x05bench0123456789"),
            }
            assert_eq!(next(&dialect, &stream), Ok((vec![Unit::Message(body)], stream.len())));
            for cut in 0..stream.len() {
                assert_eq!(next(&dialect, &stream[..cut]), Ok((vec![], 0)), "{transport:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_websocket_frame_may_contain_several_messages_and_a_ping() {
        let dialect = Dialect::new(Transport::Ws, "bench", Some("t"), 4);
        let frame = text_frame(concat!(
            r#"{"id":1,"connect":{"client":"c"}}"#,
            "\n",
            r#"{"id":2,"subscribe":{}}"#,
            "\n{}\n",
            r#"{"push":{"channel":"bench","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
        ));
        let error = Unit::Error("insufficient state (code 2500)".to_owned());
        let units = vec![Unit::Other, Unit::Subscribed, Unit::Ping, error];
        assert_eq!(next(&dialect, &frame), Ok((units, frame.len())));
        let mut close = Vec::new();
        ws::close(ws::CloseCode(3008), "slow", &mut close);
        assert_eq!(next(&dialect, &close).unwrap().0, [Unit::Error("slow (code 3008)".to_owned())]);
        let greeting = dialect.greeting();
        assert!(memmem::find(greeting, br#"{"id":1,"connect":{"token":"t"}}"#).is_some());
        assert!(memmem::find(greeting, br#"{"id":2,"subscribe":{"channel":"bench"}}"#).is_some());
    }

    #[test]
    fn a_comment_confirms_the_stream_and_a_server_event_is_an_error() {
        let dialect = Dialect::new(Transport::Sse, "bench", None, 4);
        assert_eq!(next(&dialect, b":ok\n\n"), Ok((vec![Unit::Subscribed], 5)));
        assert_eq!(next(&dialect, b"id: 0.e.bench\n\n"), Ok((vec![Unit::Other], 15)));
        let error = b"event: error\ndata: {\"code\":103}\n\n";
        assert_eq!(next(&dialect, error), Ok((vec![Unit::Error("{\"code\":103}".to_owned())], error.len())));
    }

    #[test]
    fn the_default_channel_sends_bare_bodies() {
        let dialect = Dialect::new(Transport::Tcp, "updates", None, 4);
        assert_eq!(next(&dialect, b"abcd\r\nrest"), Ok((vec![Unit::Message(b"abcd")], 6)));
    }

    #[test]
    fn confirmations_and_errors_are_distinguished() {
        let plain = Dialect::new(Transport::Tcp, "bench", None, 4);
        assert_eq!(next(&plain, b"CONFIRMED\r\n"), Ok((vec![Unit::Subscribed], 11)));
        assert_eq!(next(&plain, b"ALREADY SUBSCRIBED\r\n"), Ok((vec![Unit::Subscribed], 20)));
        let slow = next(&plain, b"ERROR 3008 slow: 5 messages dropped\r\n").unwrap().0;
        assert!(matches!(&slow[..], [Unit::Error(words)] if words.contains("5 messages dropped")));

        let resp = Dialect::new(Transport::Resp, "bench", None, 4);
        let confirmed = next(&resp, b">3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n").unwrap();
        assert_eq!(confirmed.0, [Unit::Subscribed]);
        assert_eq!(next(&resp, b"-NOPERM no\r\n"), Ok((vec![Unit::Error("NOPERM no".to_owned())], 12)));
        assert!(next(&resp, b"HTTP/1.1 400\r\n").is_err());

        let mqtt = Dialect::new(Transport::Mqtt, "bench", None, 4);
        assert_eq!(next(&mqtt, b"\x20\x02\0\0"), Ok((vec![Unit::Other], 4)));
        assert_eq!(next(&mqtt, b"\x90\x03\0\x01\0"), Ok((vec![Unit::Subscribed], 5)));
        assert!(matches!(&next(&mqtt, b"\x20\x02\0\x05").unwrap().0[..], [Unit::Error(_)]));
        assert!(matches!(&next(&mqtt, b"\x90\x03\0\x01\x80").unwrap().0[..], [Unit::Error(_)]));
    }
}
