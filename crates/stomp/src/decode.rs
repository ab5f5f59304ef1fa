//! From bytes to frames of clients.

use std::borrow::Cow;

use memchr::memchr;
use thiserror::Error;

use crate::frame::{Command, Frame, Headers};

/// Headers of one frame, at most. Brokers have limits of the same size.
const MAX_HEADERS: usize = 100;
/// The longest word of a command, for an input without a line end.
const MAX_COMMAND: usize = 16;

/// What the beginning of an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The beginning of a frame. It has so many bytes, or ends at the next NUL if that is not known yet.
    Partial(Option<usize>),
    /// A line end between frames, of so many bytes.
    HeartBeat(usize),
    /// A frame, and its length with the NUL.
    Frame(Frame<'a>, usize),
}

/// The reason why an input is not STOMP. No further input can be parsed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// The first line is not a command of STOMP.
    #[error("unknown command {0:?}")]
    Command(String),
    /// A header line without a colon, or with an empty name.
    #[error("a header needs the form name:value")]
    Header,
    /// A backslash that is not followed by `r`, `n`, `c` or a backslash.
    #[error("undefined escape sequence in a header")]
    Escape,
    /// A NUL in the command or in a header. STOMP permits it, but a client that divides its input at NUL would read another
    /// frame.
    #[error("a header contains NUL")]
    Nul,
    /// A header that is not UTF-8.
    #[error("a header is not UTF-8")]
    NotUtf8,
    /// A `content-length` that is not a number.
    #[error("content-length is not a number")]
    Length,
    /// The byte behind a body with a `content-length` is not NUL.
    #[error("a body is not followed by NUL")]
    NoNul,
    /// A body in a frame whose command has none.
    #[error("a body in a {0} frame")]
    Body(&'static str),
    /// Too many headers.
    #[error("more than {MAX_HEADERS} headers")]
    TooManyHeaders,
}

/// Reads the first frame of `bytes`, or the line end before it.
///
/// # Errors
/// When the bytes are not the beginning of a frame.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, Malformed> {
    match bytes {
        [] | [b'\r'] => return Ok(Decoded::Partial(None)),
        [b'\n', ..] => return Ok(Decoded::HeartBeat(1)),
        [b'\r', b'\n', ..] => return Ok(Decoded::HeartBeat(2)),
        _ => {}
    }
    let Some((word, mut at)) = line(bytes, 0) else {
        let is_short = bytes.len() <= MAX_COMMAND && !bytes.contains(&0);
        return if is_short { Ok(Decoded::Partial(None)) } else { Err(unknown(bytes)) };
    };
    let command = Command::from_word(word).ok_or_else(|| unknown(word))?;
    let mut headers = Vec::new();
    loop {
        let Some((text, next)) = line(bytes, at) else {
            return if bytes[at..].contains(&0) { Err(Malformed::Nul) } else { Ok(Decoded::Partial(None)) };
        };
        at = next;
        if text.contains(&0) {
            return Err(Malformed::Nul);
        }
        if text.is_empty() {
            break;
        }
        if headers.len() == MAX_HEADERS {
            return Err(Malformed::TooManyHeaders);
        }
        headers.push(header(command, text)?);
    }
    let headers = Headers(headers);
    let rest = &bytes[at..];
    let length = match headers.get("content-length") {
        Some(digits) => length(digits)?,
        None => match memchr(0, rest) {
            Some(length) => length,
            None => return body_is_allowed(command, rest).map(|()| Decoded::Partial(None)),
        },
    };
    let Some(nul) = rest.get(length) else {
        let whole = at.saturating_add(length).saturating_add(1);
        return body_is_allowed(command, rest).map(|()| Decoded::Partial(Some(whole)));
    };
    if *nul != 0 {
        return Err(Malformed::NoNul);
    }
    body_is_allowed(command, &rest[..length])?;
    Ok(Decoded::Frame(Frame { command, headers, body: &rest[..length] }, at + length + 1))
}

fn body_is_allowed(command: Command, body: &[u8]) -> Result<(), Malformed> {
    if command.has_body() || body.is_empty() { Ok(()) } else { Err(Malformed::Body(command.as_str())) }
}

/// The line that begins at `at`, without its end, and the place behind it.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = &bytes[at..];
    let end = memchr(b'\n', rest)?;
    let text = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    Some((text, at + end + 1))
}

fn unknown(word: &[u8]) -> Malformed {
    let word = &word[..word.len().min(MAX_COMMAND)];
    Malformed::Command(String::from_utf8_lossy(word).into_owned())
}

/// A header line. The value begins behind the first colon, so an unescaped colon in a value is accepted.
fn header(command: Command, line: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), Malformed> {
    let text = std::str::from_utf8(line).map_err(|_| Malformed::NotUtf8)?;
    let (name, value) = text.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(Malformed::Header)?;
    if command.has_escapes() {
        Ok((unescape(name)?, unescape(value)?))
    } else {
        Ok((name.into(), value.into()))
    }
}

fn unescape(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.contains('\\') {
        return Ok(text.into());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        out.push(match character {
            '\\' => match rest.next() {
                Some('r') => '\r',
                Some('n') => '\n',
                Some('c') => ':',
                Some('\\') => '\\',
                _ => return Err(Malformed::Escape),
            },
            character => character,
        });
    }
    Ok(out.into())
}

fn length(digits: &str) -> Result<usize, Malformed> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // A length that does not fit is one that never arrives: the limit on a message ends the session.
    if is_number { Ok(digits.parse().unwrap_or(usize::MAX)) } else { Err(Malformed::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> (Frame<'_>, usize) {
        match decode(bytes) {
            Ok(Decoded::Frame(frame, length)) => (frame, length),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_has_a_command_headers_and_a_body() {
        let bytes = b"SEND\r\ndestination:news\na\\cb:c:d\\\\\\n\n\nhello\0rest";
        let (frame, length) = frame(bytes);
        assert_eq!((frame.command, frame.body, length), (Command::Send, &b"hello"[..], bytes.len() - 4));
        assert_eq!(frame.header("destination"), Some("news"));
        assert_eq!(frame.header("a:b"), Some("c:d\\\n"));
    }

    #[test]
    fn a_body_with_a_length_may_contain_nul() {
        let (frame, length) = frame(b"SEND\ndestination:a\ncontent-length:3\n\na\0b\0");
        assert_eq!((frame.body, length), (&b"a\0b"[..], 41));
        let wrong = decode(b"SEND\ndestination:a\ncontent-length:1\n\nabc\0");
        assert_eq!(wrong, Err(Malformed::NoNul));
        assert_eq!(decode(b"SEND\ncontent-length:1x\n\na\0"), Err(Malformed::Length));
        let far = decode(b"SEND\ncontent-length:99999999999999999999999\n\na\0");
        assert_eq!(far, Ok(Decoded::Partial(Some(usize::MAX))));
    }

    #[test]
    fn the_first_of_repeated_headers_counts() {
        let (frame, _) = frame(b"SUBSCRIBE\nid:1\nid:2\n\n\0");
        assert_eq!(frame.header("id"), Some("1"));
        assert_eq!(frame.headers.iter().collect::<Vec<_>>(), [("id", "1")]);
    }

    #[test]
    fn headers_of_connect_have_no_escapes() {
        let (connect, _) = frame(b"CONNECT\npasscode:a\\tb\n\n\0");
        assert_eq!(connect.header("passcode"), Some("a\\tb"));
        assert_eq!(decode(b"STOMP\npasscode:a\\tb\n\n\0"), Err(Malformed::Escape));
    }

    #[test]
    fn line_ends_between_frames_are_heart_beats() {
        assert_eq!(decode(b"\nSEND"), Ok(Decoded::HeartBeat(1)));
        assert_eq!(decode(b"\r\n"), Ok(Decoded::HeartBeat(2)));
        assert_eq!(decode(b"\r"), Ok(Decoded::Partial(None)));
    }

    #[test]
    fn a_frame_is_partial_until_its_last_byte() {
        let bytes = b"SEND\ndestination:a\ncontent-length:3\n\na\0b\0";
        for end in 0..bytes.len() {
            let whole = (end >= 37).then_some(bytes.len());
            assert_eq!(decode(&bytes[..end]), Ok(Decoded::Partial(whole)), "{end}");
        }
    }

    #[test]
    fn an_input_that_is_no_frame_is_refused() {
        let many = ["SEND\n".to_owned(), "a:b\n".repeat(101), "\n\0".to_owned()].concat();
        let cases: [(&[u8], Malformed); 11] = [
            (b"HELLO\n\n\0", Malformed::Command("HELLO".into())),
            (b"send\n\n\0", Malformed::Command("send".into())),
            (b"GET / HTTP/1.1 and so on", Malformed::Command("GET / HTTP/1.1 a".into())),
            (b"AB\0", Malformed::Command("AB\0".into())),
            (b"SEND\na:b\0ERROR\nmessage:c\n\n\0", Malformed::Nul),
            (b"SEND\na:b\0", Malformed::Nul),
            (b"SEND\nno colon\n\n\0", Malformed::Header),
            (b"SEND\n:value\n\n\0", Malformed::Header),
            (b"SEND\na:\xff\n\n\0", Malformed::NotUtf8),
            (b"SUBSCRIBE\nid:1\n\nbody\0", Malformed::Body("SUBSCRIBE")),
            (many.as_bytes(), Malformed::TooManyHeaders),
        ];
        for (bytes, error) in cases {
            assert_eq!(decode(bytes), Err(error), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
