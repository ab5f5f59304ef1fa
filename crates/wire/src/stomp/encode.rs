//! The frames of a server.

use std::borrow::Cow;

use super::{HeartBeat, VERSION};
use crate::decimal;
use crate::framing::Framing;
use crate::json;
use crate::publication::Publication;
use crate::ws::Opcode;

/// A heart-beat: a line end between frames.
pub const HEART_BEAT: &[u8] = b"\n";

/// A header: a name and a value, unescaped.
pub type Header<'a> = (&'a str, &'a str);

/// Names that a `MESSAGE` frame defines itself. A tag of a publication with such a name is not written.
const OWN_HEADERS: [&str; 5] =
    ["subscription", "message-id", "destination", "content-type", "content-length"];

/// The kind of a message for a WebSocket: text, or binary when its body is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageKind {
    /// All of it is UTF-8.
    Text = b't',
    /// The body is not UTF-8.
    Binary = b'b',
}

impl MessageKind {
    fn from_body(body: &[u8]) -> Self {
        if std::str::from_utf8(body).is_ok() { Self::Text } else { Self::Binary }
    }

    fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// Appends the answer to `CONNECT`.
pub fn connected(session: &str, server: &str, heart_beat: HeartBeat, out: &mut Vec<u8>) {
    let beats = format!("{},{}", heart_beat.sends, heart_beat.expects);
    let headers =
        [("version", VERSION), ("heart-beat", beats.as_str()), ("session", session), ("server", server)];
    out.extend_from_slice(b"CONNECTED\n");
    // STOMP 1.2, "Value Encoding": the headers of this frame have no escapes. None of these values needs one.
    for (name, value) in headers {
        debug_assert!(!value.contains(['\n', '\r', ':', '\\']), "{value:?}");
        write_plain_header(name, value, out);
    }
    out.extend_from_slice(b"\n\0");
}

/// Appends the confirmation of a frame with a `receipt` header.
pub fn receipt(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RECEIPT\n");
    write_header("receipt-id", id, out);
    out.extend_from_slice(b"\n\0");
}

/// Appends an error with a short `message`, further headers, and a text that describes it.
pub fn error(message: &str, headers: &[Header<'_>], text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"ERROR\n");
    write_header("message", message, out);
    for (name, value) in headers {
        write_header(name, value, out);
    }
    write_header("content-type", "text/plain", out);
    write_length(text.len(), out);
    out.extend_from_slice(b"\n");
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// Appends the part of a `MESSAGE` frame that is the same for all subscribers: a byte of [`MessageKind`], then everything
/// behind the headers `subscription` and `message-id`. [`message`] makes the frame of one subscriber from it.
///
/// The tags of a publication are headers. Without a tag `content-type`, the body decides it.
pub fn shared_message(publication: &Publication, out: &mut Vec<u8>) {
    let body = &publication.body[..];
    let kind = MessageKind::from_body(body);
    out.reserve(publication.channel.as_str().len() + publication.size() + 96);
    out.push(kind as u8);
    write_header("destination", publication.channel.as_str(), out);
    let tags = publication.extra.as_ref().map_or(&[][..], |extra| &extra.tags);
    let given = tags.iter().find(|(name, _)| name == "content-type");
    let content_type = given.map_or_else(|| content_type(kind, body), |(_, value)| value.as_str());
    write_header("content-type", content_type, out);
    write_length(body.len(), out);
    for (name, value) in tags.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str())) {
        // A header needs a name; for NUL see `Malformed::Nul`.
        if !name.is_empty() && !name.contains('\0') && !value.contains('\0') {
            write_header(name, value, out);
        }
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

/// Appends a `MESSAGE` frame for one subscription, from the part that all subscribers share.
///
/// # Panics
/// When `shared` was not written by [`shared_message`].
pub fn message(shared: &[u8], subscription: &str, number: u64, framing: Framing, out: &mut Vec<u8>) {
    let (kind, rest) = shared.split_first().expect("a shared part has its kind");
    let kind = if *kind == MessageKind::Text as u8 { MessageKind::Text } else { MessageKind::Binary };
    framing.frame_with(kind.opcode(), rest.len() + subscription.len() + 48, out, |out| {
        out.extend_from_slice(b"MESSAGE\n");
        write_header("subscription", subscription, out);
        out.extend_from_slice(b"message-id:");
        decimal::write(number, out);
        out.push(b'\n');
        out.extend_from_slice(rest);
    });
}

fn content_type(kind: MessageKind, body: &[u8]) -> &'static str {
    match kind {
        MessageKind::Text if std::str::from_utf8(body).is_ok_and(json::is_value) => "application/json",
        MessageKind::Text => "text/plain;charset=utf-8",
        MessageKind::Binary => "application/octet-stream",
    }
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length:");
    decimal::write(length as u64, out);
    out.push(b'\n');
}

fn write_header(name: &str, value: &str, out: &mut Vec<u8>) {
    write_plain_header(&escape(name), &escape(value), out);
}

fn write_plain_header(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Replaces the octets that end or divide a header (STOMP 1.2, "Value Encoding").
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\r', '\n', ':', '\\']) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            ':' => out.push_str("\\c"),
            '\\' => out.push_str("\\\\"),
            character => out.push(character),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::channel::Channel;
    use crate::publication::Extra;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn message_of(body: &'static [u8], tags: &[(&str, &str)]) -> Vec<u8> {
        let mut publication = Publication::new(Channel::new("a:b").unwrap(), Bytes::from_static(body));
        let tags = tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        publication.extra = Some(Box::new(Extra { tags, ..Extra::default() }));
        let (mut shared, mut out) = (Vec::new(), Vec::new());
        shared_message(&publication, &mut shared);
        message(&shared, "sub-0", 7, Framing::Raw, &mut out);
        out
    }

    #[test]
    fn a_message_names_the_subscription_and_the_destination() {
        let expected = "MESSAGE\nsubscription:sub-0\nmessage-id:7\ndestination:a\\cb\n\
                        content-type:text/plain;charset=utf-8\ncontent-length:2\n\nhi\0";
        assert_eq!(String::from_utf8(message_of(b"hi", &[])).unwrap(), expected);
    }

    #[test]
    fn the_content_type_is_that_of_the_publisher_or_follows_from_the_body() {
        let has = |message: &[u8], line: &str| {
            let lines: Vec<_> = message.split(|byte| *byte == b'\n').collect();
            assert!(lines.contains(&line.as_bytes()), "{}", String::from_utf8_lossy(message));
        };
        has(&message_of(b"{\"a\":1}", &[]), "content-type:application/json");
        has(&message_of(b"\xff", &[]), "content-type:application/octet-stream");
        has(&message_of(b"<a/>", &[("content-type", "text/xml")]), "content-type:text/xml");
    }

    #[test]
    fn tags_are_headers_and_cannot_replace_those_of_the_message() {
        let tags = [("a\n", ":\\"), ("subscription", "other"), ("", "nameless"), ("b", "x\0ERROR\n")];
        let message = message_of(b"hi", &tags);
        let message = String::from_utf8(message).unwrap();
        assert!(message.contains("\na\\n:\\c\\\\\n"), "{message}");
        assert!(!message.contains("other") && !message.contains("nameless"), "{message}");
        assert_eq!(message.matches('\0').count(), 1, "{message}");
    }

    #[test]
    fn a_message_whose_body_is_not_text_is_a_binary_frame() {
        let channel = Channel::new("a").unwrap();
        for (body, opcode) in [(&b"hi"[..], 0x81), (b"\xff", 0x82)] {
            let (mut shared, mut out) = (Vec::new(), Vec::new());
            shared_message(&Publication::new(channel.clone(), Bytes::from_static(body)), &mut shared);
            message(&shared, "1", 1, Framing::WebSocket { deflate: false }, &mut out);
            assert_eq!(out[0], opcode);
        }
    }

    #[test]
    fn the_other_frames_of_a_server() {
        let beats = HeartBeat { sends: 25_000, expects: 0 };
        assert_eq!(
            text(|out| connected("s1", "tidings/0.1.0", beats, out)),
            "CONNECTED\nversion:1.2\nheart-beat:25000,0\nsession:s1\nserver:tidings/0.1.0\n\n\0"
        );
        assert_eq!(text(|out| receipt("r:1", out)), "RECEIPT\nreceipt-id:r\\c1\n\n\0");
        assert_eq!(
            text(|out| error("bad", &[("code", "107")], "why", out)),
            "ERROR\nmessage:bad\ncode:107\ncontent-type:text/plain\ncontent-length:3\n\nwhy\0"
        );
    }
}
