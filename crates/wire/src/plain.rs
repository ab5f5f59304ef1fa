//! Plain lines: commands that a person types into a terminal, and the server's responses.
//!
//! Commands and responses are words in upper case, and end with the line. A body may be any bytes, and one message is
//! always one line: [`Escape`] defines how a body with line breaks becomes one. Input is not unescaped: a line cannot
//! contain a line break, and the body is published as typed.
//!
//! Invariant: every encoder here appends exactly one line that ends in `\r\n`.

mod body;
pub mod telnet;

use thiserror::Error;

pub use body::{Escape, UnknownEscape, unescape};

/// The command was carried out.
pub const CONFIRMED: &[u8] = b"CONFIRMED\r\n";
/// The connection is already subscribed to that channel.
pub const ALREADY_SUBSCRIBED: &[u8] = b"ALREADY SUBSCRIBED\r\n";
/// The connection was not subscribed to that channel.
pub const ALREADY_UNSUBSCRIBED: &[u8] = b"ALREADY UNSUBSCRIBED\r\n";
/// The line is no command (where lines are not echoed).
pub const UNKNOWN_COMMAND: &[u8] = b"UNKNOWN COMMAND\r\n";
/// The answer to `PING`.
pub const PONG: &[u8] = b"PONG\r\n";

/// The command in a client's line. Names are not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `SUBSCRIBE`, with a channel or without one (the default channel).
    Subscribe(Option<&'a str>),
    /// `UNSUBSCRIBE`, with a channel or without one.
    Unsubscribe(Option<&'a str>),
    /// `PUBLISH channel body`.
    Publish {
        /// Up to the first space.
        channel: &'a str,
        /// All that follows that space, unchanged; may be empty.
        body: &'a str,
    },
    /// `PUBLISH` with no space behind the channel, or with no channel.
    PublishWithoutBody,
    /// `AUTH token`; the token is empty when there was none.
    Auth(&'a str),
    /// `PING`.
    Ping,
    /// `EXIT`.
    Exit,
    /// Any other line, unchanged.
    Other(&'a str),
}

/// A line that is not UTF-8.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("line is not UTF-8")]
pub struct NotUtf8;

/// Reads one line, given without its ending.
///
/// # Errors
/// [`NotUtf8`] when the line is not UTF-8.
pub fn parse(line: &[u8]) -> Result<Command<'_>, NotUtf8> {
    let text = std::str::from_utf8(line).map_err(|_| NotUtf8)?;
    let (keyword, rest) = match text.split_once(' ') {
        Some((keyword, rest)) => (keyword, Some(rest)),
        None => (text, None),
    };
    Ok(match (keyword, rest) {
        ("SUBSCRIBE", rest) => Command::Subscribe(channel(rest)),
        ("UNSUBSCRIBE", rest) => Command::Unsubscribe(channel(rest)),
        ("PUBLISH", rest) => match rest.and_then(|rest| rest.split_once(' ')) {
            Some((channel, body)) => Command::Publish { channel, body },
            None => Command::PublishWithoutBody,
        },
        ("AUTH", rest) => Command::Auth(rest.unwrap_or("").trim_matches(' ')),
        ("PING", None) => Command::Ping,
        ("EXIT", None) => Command::Exit,
        _ => Command::Other(text),
    })
}

/// A channel as typed, without the spaces around it; `None` when it is empty.
fn channel(rest: Option<&str>) -> Option<&str> {
    rest.map(|rest| rest.trim_matches(' ')).filter(|name| !name.is_empty())
}

/// Appends `ERROR number text`. A text with line breaks is escaped.
pub fn error(number: u16, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"ERROR ");
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.push(b' ');
    Escape::Auto.write(text.as_bytes(), out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a client's own line, unchanged.
pub fn echo(line: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a publication: the bare body in the default channel, `MESSAGE channel body` elsewhere; the body is escaped
/// by `escape`.
pub fn message(default_channel: bool, channel: &str, body: &[u8], escape: Escape, out: &mut Vec<u8>) {
    // "MESSAGE ", a space and the ending; escapes reserve their own memory.
    out.reserve(channel.len() + body.len() + 11);
    if !default_channel {
        out.extend_from_slice(b"MESSAGE ");
        out.extend_from_slice(channel.as_bytes());
        out.push(b' ');
    }
    escape.write(body, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_command_is_parsed_as_documented() {
        use Command::{Auth, Exit, Other, Ping, Publish, PublishWithoutBody, Subscribe, Unsubscribe};
        for (line, expected) in [
            ("SUBSCRIBE", Subscribe(None)),
            ("SUBSCRIBE  ", Subscribe(None)),
            ("SUBSCRIBE scores:nba", Subscribe(Some("scores:nba"))),
            ("SUBSCRIBE  a ", Subscribe(Some("a"))),
            ("SUBSCRIBE a b", Subscribe(Some("a b"))),
            ("UNSUBSCRIBE", Unsubscribe(None)),
            ("UNSUBSCRIBE a", Unsubscribe(Some("a"))),
            ("PUBLISH a b", Publish { channel: "a", body: "b" }),
            ("PUBLISH a  b \\n ", Publish { channel: "a", body: " b \\n " }),
            ("PUBLISH a ", Publish { channel: "a", body: "" }),
            ("PUBLISH  a", Publish { channel: "", body: "a" }),
            ("PUBLISH a", PublishWithoutBody),
            ("PUBLISH ", PublishWithoutBody),
            ("PUBLISH", PublishWithoutBody),
            ("AUTH secret", Auth("secret")),
            ("AUTH", Auth("")),
            ("PING", Ping),
            ("EXIT", Exit),
            ("PING x", Other("PING x")),
            ("PING ", Other("PING ")),
            ("EXIT now", Other("EXIT now")),
            ("subscribe", Other("subscribe")),
            ("SUBSCRIBED", Other("SUBSCRIBED")),
            (" SUBSCRIBE", Other(" SUBSCRIBE")),
            ("", Other("")),
            ("naïve", Other("naïve")),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line:?}");
        }
        assert_eq!(parse(b"PUBLISH a \xff"), Err(NotUtf8));
    }

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b">".to_vec();
        encode(&mut out);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn answers_have_the_documented_words() {
        assert_eq!(
            encoded(|out| error(107, "line longer than 65536 bytes", out)),
            "ERROR 107 line longer than 65536 bytes\r\n"
        );
        assert_eq!(encoded(|out| error(107, "a\r\nb", out)), "ERROR 107 a\\r\\nb\r\n");
        assert_eq!(encoded(|out| echo("a \\n b", out)), "a \\n b\r\n");
        let shown = |default, body| encoded(|out| message(default, "news", body, Escape::Auto, out));
        assert_eq!(shown(true, b"hi there"), "hi there\r\n");
        assert_eq!(shown(false, b"hi there"), "MESSAGE news hi there\r\n");
        assert_eq!(shown(true, b"a\r\n\\n"), "a\\r\\n\\\\n\r\n");
        assert_eq!(shown(false, br#"{"say":"\"hi\""}"#), "MESSAGE news {\"say\":\"\\\"hi\\\"\"}\r\n");
        assert_eq!(shown(false, b""), "MESSAGE news \r\n");
    }

    proptest! {
        #[test]
        fn every_message_is_one_line(body in any::<Vec<u8>>(), default: bool, always: bool) {
            let escape = if always { Escape::Always } else { Escape::Auto };
            let mut out = Vec::new();
            message(default, "c", &body, escape, &mut out);
            let line = out.strip_suffix(b"\r\n").unwrap();
            prop_assert!(memchr::memchr2(b'\r', b'\n', line).is_none());
            let text = if default { line } else { line.strip_prefix(b"MESSAGE c ").unwrap() };
            let mut expected = Vec::new();
            escape.write(&body, &mut expected);
            prop_assert_eq!(text, expected);
        }

        #[test]
        fn any_line_is_a_command_or_not_utf8(line in any::<Vec<u8>>()) {
            prop_assert_eq!(parse(&line).is_err(), std::str::from_utf8(&line).is_err());
        }
    }
}
