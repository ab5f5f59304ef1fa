//! The frames of a server.

use std::borrow::Cow;

use crate::{HeartBeat, VERSION};

/// A heart-beat: a line end between frames.
pub const HEART_BEAT: &[u8] = b"\n";

/// A header: a name and a value, unescaped.
pub type Header<'a> = (&'a str, &'a str);

/// Names that a `MESSAGE` frame defines itself. A further header with such a name is not written.
const OWN_HEADERS: [&str; 5] =
    ["subscription", "message-id", "destination", "content-type", "content-length"];

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

/// Appends the part of a `MESSAGE` frame that is the same for all subscribers: everything behind the headers `subscription` and
/// `message-id`. [`message`] makes the frame of one subscriber from it.
///
/// Of `headers`, those are left out that would replace a header of the frame, have no name, or contain NUL (see
/// [`Malformed::Nul`](crate::Malformed::Nul)).
pub fn shared_message<'a>(
    destination: &str,
    content_type: &str,
    headers: impl IntoIterator<Item = Header<'a>>,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    write_header("destination", destination, out);
    write_header("content-type", content_type, out);
    write_length(body.len(), out);
    for (name, value) in headers {
        let is_own = OWN_HEADERS.contains(&name);
        if !is_own && !name.is_empty() && !name.contains('\0') && !value.contains('\0') {
            write_header(name, value, out);
        }
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

/// Appends a `MESSAGE` frame for one subscription, from the part that all subscribers share.
pub fn message(shared: &[u8], subscription: &str, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MESSAGE\n");
    write_header("subscription", subscription, out);
    out.extend_from_slice(b"message-id:");
    write_number(number, out);
    out.push(b'\n');
    out.extend_from_slice(shared);
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length:");
    write_number(length as u64, out);
    out.push(b'\n');
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
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
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn message_with(headers: &[Header<'_>]) -> String {
        let mut shared = Vec::new();
        shared_message("a:b", "text/plain", headers.iter().copied(), b"hi", &mut shared);
        text(|out| message(&shared, "sub-0", 7, out))
    }

    #[test]
    fn a_message_names_the_subscription_and_the_destination() {
        let expected = "MESSAGE\nsubscription:sub-0\nmessage-id:7\ndestination:a\\cb\n\
                        content-type:text/plain\ncontent-length:2\n\nhi\0";
        assert_eq!(message_with(&[]), expected);
    }

    #[test]
    fn further_headers_cannot_replace_those_of_the_message() {
        let headers = [("a\n", ":\\"), ("subscription", "other"), ("", "nameless"), ("b", "x\0ERROR\n")];
        let message = message_with(&headers);
        assert!(message.contains("\na\\n:\\c\\\\\n"), "{message}");
        assert!(!message.contains("other") && !message.contains("nameless"), "{message}");
        assert_eq!(message.matches('\0').count(), 1, "{message}");
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
