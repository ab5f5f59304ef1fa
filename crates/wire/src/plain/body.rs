//! Bodies on plain lines: the encoding of bodies with line breaks as one line.
//!
//! Invariants:
//! - The written form of a body contains neither `\r` nor `\n`.
//! - [`Escape::Auto`] copies a body without line breaks byte for byte; JSON stays the same JSON.
//! - The output of [`Escape::Always`] is decoded by [`unescape`].

use std::fmt;
use std::str::FromStr;

use memchr::{memchr, memchr2, memchr3, memchr3_iter};
use thiserror::Error;

use crate::json;

/// Which bodies are escaped on plain lines (the option `tcp.escape`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// Bodies with line breaks that are not JSON. Line breaks between the tokens of JSON become spaces, and a body
    /// without line breaks is sent as it is.
    #[default]
    Auto,
    /// Every body: a reader can undo it without information about the body.
    Always,
}

impl Escape {
    /// Every choice, in the order in which they are documented.
    pub const ALL: [Self; 2] = [Self::Auto, Self::Always];

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
        }
    }

    /// Appends `body` without line breaks.
    pub fn write(self, body: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Auto if memchr2(b'\r', b'\n', body).is_none() => out.extend_from_slice(body),
            Self::Auto if is_json(body) => {
                // A string of valid JSON contains no line break, so all of them are between tokens.
                out.extend(body.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
            }
            Self::Auto | Self::Always => escape_into(body, out),
        }
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An unknown name of an [`Escape`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be auto or always")]
pub struct UnknownEscape;

impl FromStr for Escape {
    type Err = UnknownEscape;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|escape| escape.as_str() == word).ok_or(UnknownEscape)
    }
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(json::is_value)
}

/// Appends `body` with carriage returns, line feeds and backslashes written as `\r`, `\n` and `\\`.
fn escape_into(body: &[u8], out: &mut Vec<u8>) {
    if memchr3(b'\r', b'\n', b'\\', body).is_none() {
        out.extend_from_slice(body);
        return;
    }
    let mut copied = 0;
    for special in memchr3_iter(b'\r', b'\n', b'\\', body) {
        out.extend_from_slice(&body[copied..special]);
        out.extend_from_slice(match body[special] {
            b'\r' => b"\\r",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        copied = special + 1;
    }
    out.extend_from_slice(&body[copied..]);
}

/// The body that [`Escape::Always`] wrote as `text`. A backslash before another character than `r`, `n` or `\` is
/// unchanged.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(backslash) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        let meant = match rest.get(backslash + 1) {
            Some(b'r') => Some(b'\r'),
            Some(b'n') => Some(b'\n'),
            Some(b'\\') => Some(b'\\'),
            _ => None,
        };
        out.push(meant.unwrap_or(b'\\'));
        rest = &rest[backslash + 1 + usize::from(meant.is_some())..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(escape: Escape, body: &[u8]) -> Vec<u8> {
        let mut out = b">".to_vec();
        escape.write(body, &mut out);
        out.split_off(1)
    }

    #[test]
    fn a_body_without_line_breaks_is_sent_byte_for_byte() {
        for body in
            [&br#"{"text":"say \"hi\""}"#[..], br"C:\new\readme", br"\\server\share", b"caf\xe9\x00\xff", b""]
        {
            assert_eq!(written(Escape::Auto, body), body, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn line_breaks_between_the_tokens_of_json_become_spaces() {
        let pretty = b"{\r\n  \"a\": \"x\\n\\\\y\",\n  \"b\": [1,\n2]\n}\n";
        let line = br#"{    "a": "x\n\\y",   "b": [1, 2] } "#;
        assert_eq!(written(Escape::Auto, pretty), line);
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(pretty), value(line));
        assert_eq!(written(Escape::Auto, b"42\n"), b"42 ");
    }

    #[test]
    fn any_other_body_with_line_breaks_is_escaped_with_its_backslashes() {
        assert_eq!(written(Escape::Auto, b"LAL 101\r\nBOS 99\\"), br"LAL 101\r\nBOS 99\\");
        assert_eq!(written(Escape::Auto, b"1\n2"), br"1\n2");
        assert_eq!(written(Escape::Auto, b"\"a\nb\""), br#""a\nb""#, "no JSON: a line break inside a string");
        assert_eq!(written(Escape::Auto, b"\xff\n"), b"\xff\\n");
    }

    #[test]
    fn always_escapes_the_backslashes_of_every_body() {
        assert_eq!(written(Escape::Always, br#"{"text":"\"hi\""}"#), br#"{"text":"\\"hi\\""}"#);
        assert_eq!(written(Escape::Always, b"{\n}"), br"{\n}");
        assert_eq!(written(Escape::Always, b"plain"), b"plain");
    }

    #[test]
    fn an_unknown_escape_stays_as_it_is() {
        assert_eq!(unescape(b"\\t\\x\\"), b"\\t\\x\\");
        assert_eq!(unescape(b"\\\\n\\n"), b"\\n\n");
    }

    #[test]
    fn choices_have_names() {
        for escape in Escape::ALL {
            assert_eq!(escape.to_string().parse(), Ok(escape));
        }
        assert_eq!("never".parse::<Escape>(), Err(UnknownEscape));
    }

    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<Vec<u8>>(),
            r"[rn\\\r\n]{0,24}".prop_map(String::into_bytes),
            r#"[\[\]{}:,"\\0-9 \r\na]{0,20}"#.prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn every_body_is_one_line(body in any_body()) {
            for escape in Escape::ALL {
                let line = written(escape, &body);
                prop_assert!(memchr2(b'\r', b'\n', &line).is_none());
                if memchr2(b'\r', b'\n', &body).is_none() && escape == Escape::Auto {
                    prop_assert_eq!(line, &body[..]);
                }
            }
        }

        #[test]
        fn an_escaped_body_can_be_unescaped(body in any_body()) {
            prop_assert_eq!(unescape(&written(Escape::Always, &body)), body);
        }

        #[test]
        fn json_keeps_its_value(body in any_body()) {
            if let Ok(before) = serde_json::from_slice::<serde_json::Value>(&body) {
                let after: serde_json::Value = serde_json::from_slice(&written(Escape::Auto, &body)).unwrap();
                prop_assert_eq!(before, after);
            }
        }

        #[test]
        fn any_text_can_be_unescaped(text in any_body()) {
            prop_assert!(unescape(&text).len() <= text.len());
        }
    }
}
