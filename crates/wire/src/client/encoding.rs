//! The two encodings of the client protocol, with one interface.

use std::borrow::Cow;

use memchr::memchr;
use thiserror::Error;

use super::field::{Fields, WireMessage};
use super::live::Live;
use super::push::Push;
use super::reply::{Outcome, Reply};
use super::request::{Command, Connect, Emulation, Request};
use super::value::Data;
use super::{json, protobuf};
use crate::body::{DataFormat, write_json};
use crate::publication::Publication;
use crate::varint::{self, Read};
use crate::ws::Opcode;

/// Longest description of an error, in bytes; the message of a parser may quote its input.
const MAX_REASON: usize = 300;

/// The encoding of a connection of the client protocol, in both directions and for its whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One object per message, in UTF-8. Several in one frame are separated by line breaks.
    #[default]
    Json,
    /// Protobuf messages, each with its length before it.
    Protobuf,
}

/// A message that cannot be decoded. The description has a few hundred bytes at most.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct Malformed {
    /// The message's id if it precedes the error; otherwise 0.
    pub id: u32,
    /// The error and its place.
    pub reason: String,
}

impl Malformed {
    fn new(id: u32, mut reason: String) -> Self {
        let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or(0));
        Self { id, reason }
    }
}

impl Encoding {
    /// The kind of WebSocket message that carries it.
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Json => Opcode::Text,
            Self::Protobuf => Opcode::Binary,
        }
    }

    /// The messages in one frame (of WebSocket, or a request's body): separated by line breaks in JSON, where the last
    /// line break is optional; with their lengths in Protobuf.
    pub fn messages(self, frame: &[u8]) -> Messages<'_> {
        Messages { encoding: self, rest: frame }
    }

    /// The separator of two messages in one frame.
    pub fn separator(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n",
            Self::Protobuf => b"",
        }
    }

    /// Parses one message of a client, as returned by [`Encoding::messages`].
    ///
    /// # Errors
    /// [`Malformed`] when it is not one message of this encoding, has several methods, or a field of the wrong
    /// type.
    pub fn parse_command(self, message: &[u8]) -> Result<Command<'_>, Malformed> {
        let mut command = Command::default();
        if let Err(reason) = self.read(message, &mut command) {
            return Err(Malformed::new(command.id, reason));
        }
        if command.request == Request::Unknown && self.is_empty(message) {
            command.request = Request::Pong;
        }
        Ok(command)
    }

    /// Parses one message of a server, as returned by [`Encoding::messages`].
    ///
    /// # Errors
    /// [`Malformed`] as for [`Encoding::parse_command`].
    pub fn parse_reply(self, message: &[u8]) -> Result<Reply<'_>, Malformed> {
        let mut reply = Reply::default();
        if let Err(reason) = self.read(message, &mut reply) {
            return Err(Malformed::new(reply.id, reason));
        }
        if reply.outcome == Outcome::Unknown && self.is_empty(message) {
            reply.outcome = Outcome::Ping;
        }
        Ok(reply)
    }

    /// Reads one message of a server over a one-way transport: a bare push.
    ///
    /// # Errors
    /// [`Malformed`] as for [`Encoding::parse_command`].
    pub fn parse_push(self, message: &[u8]) -> Result<Push<'_>, Malformed> {
        self.parse(message)
    }

    /// Parses the `connect` request of a one-way transport, which has no command around it.
    ///
    /// # Errors
    /// [`Malformed`] as for [`Encoding::parse_command`].
    pub fn parse_connect(self, message: &[u8]) -> Result<Connect<'_>, Malformed> {
        self.parse(message)
    }

    /// Reads the body of a request to `/emulation`.
    ///
    /// # Errors
    /// [`Malformed`] as for [`Encoding::parse_command`].
    pub fn parse_emulation(self, body: &[u8]) -> Result<Emulation<'_>, Malformed> {
        let mut request: Emulation<'_> = self.parse(body)?;
        if self == Self::Json
            && let Some(data) = &mut request.data
            && data.bytes.starts_with(b"\"")
        {
            let commands = json::read_string(&data.bytes).map_err(|reason| Malformed::new(0, reason))?;
            data.bytes = commands.into_owned().into_bytes().into();
        }
        Ok(request)
    }

    /// Appends one message of a client.
    pub fn write_command(self, command: &Command<'_>, out: &mut Vec<u8>) {
        self.write(command, out);
    }

    /// Appends one message of a server.
    pub fn write_reply(self, reply: &Reply<'_>, out: &mut Vec<u8>) {
        self.write(reply, out);
    }

    /// Appends a push without a reply around it, as one-way transports have it.
    pub fn write_push(self, push: &Push<'_>, out: &mut Vec<u8>) {
        self.write(push, out);
    }

    /// Appends an error without a reply around it, for transports that report nothing else.
    pub fn write_error(self, error: &super::reply::Error<'_>, out: &mut Vec<u8>) {
        self.write(error, out);
    }

    /// Appends a publication as a push in its channel, once for all subscribers. It is encoded without an intermediate
    /// copy; JSON shows its body in `format`.
    pub fn write_publication(self, publication: &Publication, format: DataFormat, out: &mut Vec<u8>) {
        self.write(&Live::new(publication, format), out);
    }

    /// Appends a publication as [`Encoding::write_publication`] does, without a reply around the push.
    pub fn write_bare_publication(self, publication: &Publication, format: DataFormat, out: &mut Vec<u8>) {
        self.write(&Live::new(publication, format).push(), out);
    }

    /// Appends a publication for subscribers with deltas, as [`Encoding::write_publication`] does, with `content` in place of
    /// its body: the [`Encoding::content`] of the publication, or a delta to the one before.
    pub fn write_content(self, publication: &Publication, content: &[u8], is_delta: bool, out: &mut Vec<u8>) {
        self.write(&Live { publication, data: self.content_data(content), is_delta }, out);
    }

    /// The content of a publication for subscribers with deltas, from which deltas are made: its body in Protobuf, and the
    /// JSON text of its body in JSON.
    pub fn content(self, publication: &Publication, format: DataFormat) -> Cow<'_, [u8]> {
        match self {
            Self::Protobuf => Cow::Borrowed(&publication.body),
            Self::Json => {
                let mut text = Vec::with_capacity(publication.body.len());
                write_json(&publication.body, format, &mut text);
                Cow::Owned(text)
            }
        }
    }

    /// The data field for a content or a delta: in JSON, subscribers with deltas get a text with the JSON text.
    pub fn content_data<'a>(self, content: impl Into<Cow<'a, [u8]>>) -> Data<'a> {
        Data::new(content, DataFormat::Text)
    }

    /// Bytes that a publication's contents take in a message, without the names of fields.
    pub fn publication_len(self, publication: &Publication, format: DataFormat) -> usize {
        match self {
            Self::Json => publication.json_len(format),
            Self::Protobuf => publication.size(),
        }
    }

    /// Number of these publications, from the first on, that fit into one message with at most `max_bytes` of contents;
    /// at least one, if there is one.
    pub fn publications_within<'a>(
        self,
        publications: impl IntoIterator<Item = &'a Publication>,
        format: DataFormat,
        max_bytes: usize,
    ) -> usize {
        let mut bytes = 0;
        let fits = |(index, publication): &(usize, &Publication)| {
            bytes += self.publication_len(publication, format);
            *index == 0 || bytes <= max_bytes
        };
        publications.into_iter().enumerate().take_while(fits).count()
    }

    /// Appends the server's ping, which is also the client's answer to it: the empty message.
    pub fn write_ping(self, out: &mut Vec<u8>) {
        self.write_reply(&Reply { id: 0, outcome: Outcome::Ping }, out);
    }

    fn write<M: Fields>(self, message: &M, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::write(message, out),
            Self::Protobuf => protobuf::write_delimited(message, out),
        }
    }

    fn parse<'a, M: WireMessage<'a>>(self, bytes: &'a [u8]) -> Result<M, Malformed> {
        let mut message = M::default();
        match self.read(bytes, &mut message) {
            Ok(()) => Ok(message),
            Err(reason) => Err(Malformed::new(0, reason)),
        }
    }

    fn read<'a, M: WireMessage<'a>>(self, bytes: &'a [u8], message: &mut M) -> Result<(), String> {
        match self {
            Self::Json => json::read(bytes, message),
            Self::Protobuf => protobuf::read(bytes, message),
        }
    }

    /// Whether a parsed message has no fields.
    fn is_empty(self, message: &[u8]) -> bool {
        match self {
            Self::Json => json::is_empty(message),
            Self::Protobuf => message.is_empty(),
        }
    }
}

/// Iterates over the messages in a frame. Ends after an error.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    encoding: Encoding,
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The bytes of the frame behind the returned messages, which are a frame again: for a caller that cannot handle
    /// the next message yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn next_line(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (line, rest) = match memchr(b'\n', self.rest) {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            // Blank lines keep connections alive through proxies and mean nothing.
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
        None
    }

    fn next_delimited(&mut self) -> Option<Result<&'a [u8], Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = match varint::read(self.rest) {
            Read::Number(length, used) => usize::try_from(length)
                .ok()
                .and_then(|length| self.rest[used..].split_at_checked(length))
                .ok_or_else(|| format!("frame ends in a message of {length} bytes")),
            Read::Partial => Err("frame ends in the length of a message".to_owned()),
            Read::Invalid => Err("length of a message in more than 64 bits".to_owned()),
        };
        Some(match taken {
            Ok((message, rest)) => {
                self.rest = rest;
                Ok(message)
            }
            Err(reason) => {
                self.rest = &[];
                Err(Malformed::new(0, reason))
            }
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.encoding {
            Encoding::Json => self.next_line().map(Ok),
            Encoding::Protobuf => self.next_delimited(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::request;

    fn read(line: &str) -> Request<'_> {
        Encoding::Json
            .parse_command(line.as_bytes())
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .request
    }

    fn frame(encoding: Encoding, frame: &[u8]) -> Result<Vec<&[u8]>, String> {
        encoding.messages(frame).map(|message| message.map_err(|error| error.reason)).collect()
    }

    #[test]
    fn the_messages_of_a_frame_are_separated_by_line_breaks_or_lengths() {
        let json = |bytes| frame(Encoding::Json, bytes).unwrap();
        assert_eq!(json(b"{}"), [b"{}"]);
        assert_eq!(json(b"{\"id\":1}\n{}\n"), [&b"{\"id\":1}"[..], b"{}"]);
        assert_eq!(json(b"\n \r\n{}\r\n\n"), [b"{}\r"]);
        // Two characters are no line break, wherever they stand.
        assert_eq!(json(b"{\"id\":1}\\n{\"id\":2}"), [b"{\"id\":1}\\n{\"id\":2}"]);
        assert_eq!(json(b"{\"a\":\"\\\"}\\n{\"}"), [b"{\"a\":\"\\\"}\\n{\"}"]);
        assert_eq!(json(b""), [b""; 0]);
        let protobuf = |bytes| frame(Encoding::Protobuf, bytes);
        assert_eq!(protobuf(b""), Ok(vec![]));
        assert_eq!(protobuf(b"\0\x02\x08\x01\0"), Ok(vec![&b""[..], b"\x08\x01", b""]));
        let long = [&[0x80, 0x01][..], &[7; 128]].concat();
        assert_eq!(protobuf(&long), Ok(vec![&[7; 128][..]]));
        for (bytes, words) in [
            (&b"\x02\x08"[..], "frame ends in a message of 2 bytes"),
            (b"\x80", "frame ends in the length of a message"),
            (&[0xFF; 11], "length of a message in more than 64 bits"),
            (
                &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
                "frame ends in a message of 18446744073709551615 bytes",
            ),
        ] {
            assert_eq!(protobuf(bytes), Err(words.to_owned()));
        }
    }

    #[test]
    fn the_rest_of_a_frame_is_a_frame() {
        for (encoding, bytes) in [(Encoding::Json, &b"{}\n{}\n{}"[..]), (Encoding::Protobuf, b"\0\0\0")] {
            let mut messages = encoding.messages(bytes);
            assert_eq!(messages.next().unwrap().map(<[u8]>::trim_ascii), messages.clone().next().unwrap());
            assert_eq!(encoding.messages(messages.rest()).count(), 2);
        }
    }

    #[test]
    fn only_the_empty_message_is_a_ping_or_the_answer_to_one() {
        for json in ["{}", " { } "] {
            assert_eq!(read(json), Request::Pong);
            assert_eq!(Encoding::Json.parse_reply(json.as_bytes()).unwrap().outcome, Outcome::Ping);
        }
        for json in ["{\"id\":0}", "{\"x\":{}}", "{\"ping\":null}"] {
            assert_eq!(read(json), Request::Unknown);
            assert_eq!(Encoding::Json.parse_reply(json.as_bytes()).unwrap().outcome, Outcome::Unknown);
        }
        assert_eq!(Encoding::Protobuf.parse_command(b"").unwrap().request, Request::Pong);
        assert_eq!(Encoding::Protobuf.parse_command(b"\x08\0").unwrap().request, Request::Unknown);
        for (encoding, ping) in [(Encoding::Json, &b"{}"[..]), (Encoding::Protobuf, b"\0")] {
            let mut out = Vec::new();
            encoding.write_ping(&mut out);
            assert_eq!(out, ping);
        }
    }

    #[test]
    fn unknown_members_are_skipped_and_null_means_absent() {
        let line = r#"{"x":[[{}]],"id":1,"connect":{"token":null,"later":{"y":[]},"subs":null},"ping":null}"#;
        assert_eq!(read(line), Request::Connect(Connect::default()));
        assert_eq!(read(r#"{"id":null,"ping":{}}"#), Request::Ping);
        let line =
            r#"{"id":1,"subscribe":{"channel":"a","recover":null,"offset":null,"epoch":null,"tf":null}}"#;
        let expected = request::Subscribe { channel: "a".into(), ..Default::default() };
        assert_eq!(read(line), Request::Subscribe(expected));
        let Request::Connect(connect) = read(r#"{"connect":{"subs":{"a":null},"headers":{"b":null}}}"#)
        else {
            panic!("another method");
        };
        assert_eq!(connect.subs[..], [("a".into(), request::Subscribe::default())]);
        assert_eq!(connect.headers[..], [("b".into(), "".into())]);
        let line = r#"{"rpc":{"data":null}}"#;
        assert_eq!(
            read(line),
            Request::Rpc(request::Rpc { data: Some("null".into()), ..Default::default() })
        );
    }

    #[test]
    fn errors_have_the_id_where_it_is_known() {
        for (line, id, words) in [
            ("", 0, "EOF"),
            ("hello", 0, "expected value"),
            ("[]", 0, "expected an object"),
            ("null", 0, "expected an object"),
            ("{} {}", 0, "trailing"),
            (r#"{"id":1"#, 1, "EOF"),
            (r#"{"id":-1,"ping":{}}"#, 0, "expected u32"),
            (r#"{"id":4294967296,"ping":{}}"#, 0, "expected u32"),
            (r#"{"id":"1","ping":{}}"#, 0, "expected u32"),
            (r#"{"id":2,"ping":[]}"#, 2, "expected an object"),
            (r#"{"id":2,"connect":["t"]}"#, 2, "expected an object"),
            (r#"{"id":2,"connect":{"token":5}}"#, 2, "expected a string"),
            (r#"{"id":2,"connect":{"subs":[]}}"#, 2, "expected an object"),
            (r#"{"id":2,"connect":{"headers":{"a":1}}}"#, 2, "expected a string"),
            (r#"{"id":2,"subscribe":{"recover":1}}"#, 2, "expected a boolean"),
            (r#"{"id":2,"subscribe":{"offset":-1}}"#, 2, "expected u64"),
            (r#"{"id":2,"history":{"limit":2147483648}}"#, 2, "expected i32"),
            (r#"{"id":2,"subscribe":{"channel":"a","channel":"b"}}"#, 2, "duplicate field `channel`"),
            (r#"{"id":2,"connect":{},"ping":{}}"#, 2, "two methods, connect and ping"),
            (r#"{"id":2,"ping":{},"ping":{}}"#, 2, "two methods, ping and ping"),
        ] {
            let error = Encoding::Json.parse_command(line.as_bytes()).expect_err(line);
            assert_eq!(error.id, id, "{line}");
            assert!(error.reason.contains(words), "{line}: {error}");
        }
        assert_eq!(Encoding::Json.parse_command(b"{\"\xff\":1}").unwrap_err().reason, "not UTF-8");
        for (bytes, words) in [
            (&b"\x08\x02\x5A\0\x5A\0"[..], "two methods, ping and ping"),
            (b"\x08\x02\x22\x02\x0A\x05", "it ends in a field of 5 bytes"),
            (b"\x08\x02\x32\x03\x0A\x01\xFF", "a string that is not UTF-8"),
            (b"\x08\x02\x20\x01", "expected bytes"),
            (b"\x08\x02\x32\x02\x08\x01", "expected bytes"),
            (b"\x08\x02\x2A\x03\x1A\x01a", "expected a number"),
            (b"\x08\x02\x80", "it ends in a number"),
            (b"\x08\x02\x0B", "wire type 3"),
            (b"\x08\x02\0\0", "field number 0"),
        ] {
            let error = Encoding::Protobuf.parse_command(bytes).expect_err(words);
            assert_eq!(error.id, 2, "{words}");
            assert!(error.reason.contains(words), "{error}");
        }
    }

    #[test]
    fn errors_are_short_and_nesting_uses_no_stack_for_any_input() {
        let long = format!(r#"{{"id":"{}"}}"#, "é".repeat(30_000));
        assert!(Encoding::Json.parse_command(long.as_bytes()).unwrap_err().reason.len() <= MAX_REASON);
        for nested in
            ["{\"x\":", "{\"id\":1,\"publish\":{\"data\":", "[", "{\"subscribe\":{\"tf\":{\"nodes\":["]
        {
            assert!(Encoding::Json.parse_command(nested.repeat(30_000).as_bytes()).is_err());
        }
        let deep = format!(r#"{{"publish":{{"data":{}{}}}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert!(Encoding::Json.parse_command(deep.as_bytes()).is_ok());
    }

    #[test]
    fn a_message_of_many_tiny_entries_is_refused() {
        let json = format!(r#"{{"connect":{{"headers":{{{}"b":""}}}}}}"#, r#""a":"","#.repeat(20_000));
        let entries = [0x32, 0].repeat(20_000);
        let mut protobuf = vec![0x22];
        varint::write(entries.len() as u64, &mut protobuf);
        protobuf.extend(entries);
        for (encoding, bytes) in [(Encoding::Json, json.as_bytes()), (Encoding::Protobuf, &protobuf)] {
            let error = encoding.parse_command(bytes).unwrap_err();
            assert!(error.reason.contains("more than 16384 entries"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(
            bytes in any::<Vec<u8>>(),
            text in r#"[{}\[\]:,"idpngcosub01 ]{0,32}"#,
        ) {
            for (encoding, input) in [
                (Encoding::Json, &bytes[..]),
                (Encoding::Json, text.as_bytes()),
                (Encoding::Protobuf, &bytes),
            ] {
                for error in [encoding.parse_command(input).err(), encoding.parse_reply(input).err()] {
                    prop_assert!(error.is_none_or(|e| !e.reason.is_empty() && e.reason.len() <= MAX_REASON));
                }
                prop_assert!(encoding.messages(input).count() <= input.len() + 1);
            }
        }
    }
}
