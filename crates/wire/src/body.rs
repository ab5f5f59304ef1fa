//! Bodies: bytes, and their representation for JSON clients, the same for every transport with JSON.
//!
//! Invariants:
//! - An encoder appends one JSON value on one line: without `\r` and `\n`, where JSON lines and joined
//!   WebSocket frames are split.
//! - A body that is JSON keeps every character of its strings and numbers; nothing is parsed into a value and
//!   written again.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr2_iter;
use thiserror::Error;

use crate::json;

/// The representation of bodies for JSON clients (the namespace option `publication_data_format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFormat {
    /// Valid JSON as it is, other UTF-8 as a JSON string, other bytes as `{"b64":"…"}`.
    #[default]
    Auto,
    /// As [`Self::Auto`]; for channels that carry only JSON.
    Json,
    /// UTF-8 always as a JSON string, also when it is valid JSON; other bytes as `{"b64":"…"}`.
    Text,
    /// Always `{"b64":"…"}`.
    Binary,
}

impl DataFormat {
    /// Every format, in the order in which they are documented.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Json, Self::Text, Self::Binary];

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
            Self::Binary => "binary",
        }
    }
}

impl fmt::Display for DataFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An unknown name of a [`DataFormat`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be auto, json, text or binary")]
pub struct UnknownDataFormat;

impl FromStr for DataFormat {
    type Err = UnknownDataFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.as_str() == word).ok_or(UnknownDataFormat)
    }
}

/// Appends `body` to `out` as one JSON value on one line.
///
/// Raw line breaks between the tokens of a JSON body are dropped; the rest is unchanged. JSON nested deeper than 512
/// levels is written as a JSON string, because the parsers of common clients refuse it.
pub fn write_json(body: &[u8], format: DataFormat, out: &mut Vec<u8>) {
    if format == DataFormat::Binary {
        return write_base64_object(body, out);
    }
    match std::str::from_utf8(body) {
        Err(_) => write_base64_object(body, out),
        Ok(text) if format != DataFormat::Text && json::is_value(text) => write_on_one_line(body, out),
        Ok(text) => json::write_string(text, out),
    }
}

/// Bytes that [`write_json`] appends for `body`, at most: line breaks between the tokens of JSON are counted too.
pub(crate) fn json_len(body: &[u8], format: DataFormat) -> usize {
    let text = std::str::from_utf8(body).ok().filter(|_| format != DataFormat::Binary);
    match text {
        None => base64_len(body.len()) + B64_OBJECT,
        Some(text) if format != DataFormat::Text && json::is_value(text) => body.len(),
        Some(text) => json::string_len(text),
    }
}

/// Bytes of `{"b64":""}`.
const B64_OBJECT: usize = 10;

/// Appends `text` as a JSON string: quoted, with quotes, backslashes, control characters, U+2028 and U+2029
/// escaped.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    json::write_string(text, out);
}

/// Appends valid JSON without its line breaks. All of them are between tokens: inside a string they would not be valid.
fn write_on_one_line(valid: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    for line_break in memchr2_iter(b'\r', b'\n', valid) {
        out.extend_from_slice(&valid[copied..line_break]);
        copied = line_break + 1;
    }
    out.extend_from_slice(&valid[copied..]);
}

fn write_base64_object(body: &[u8], out: &mut Vec<u8>) {
    let encoded = base64_len(body.len());
    out.reserve(encoded + B64_OBJECT);
    out.extend_from_slice(b"{\"b64\":\"");
    let start = out.len();
    out.resize(start + encoded, 0);
    STANDARD.encode_slice(body, &mut out[start..]).expect("the slice has the encoded length");
    out.extend_from_slice(b"\"}");
}

/// Characters of `bytes` bytes in base64, padding included.
const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(body: &[u8], format: DataFormat) -> String {
        let mut out = b">".to_vec();
        write_json(body, format, &mut out);
        assert_eq!(out.remove(0), b'>');
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_body_is_encoded_as_documented() {
        use DataFormat::{Auto, Binary, Json, Text};
        for format in [Auto, Json] {
            assert_eq!(shown(br#"{"a": 1.50}"#, format), r#"{"a": 1.50}"#);
            assert_eq!(shown(b"hello world", format), r#""hello world""#);
            assert_eq!(shown(b"42", format), "42");
            assert_eq!(shown(b"", format), r#""""#);
            assert_eq!(shown(b"\xff\x00", format), r#"{"b64":"/wA="}"#);
        }
        assert_eq!(shown(b"42", Text), r#""42""#);
        assert_eq!(shown(b"\xff", Text), r#"{"b64":"/w=="}"#);
        assert_eq!(shown(b"42", Binary), r#"{"b64":"NDI="}"#);
        assert_eq!(shown(b"", Binary), r#"{"b64":""}"#);
    }

    #[test]
    fn json_with_line_breaks_between_its_tokens_stays_one_line_and_keeps_its_numbers() {
        let pretty = b"{\r\n  \"big\": 12345678901234567890.10,\n  \"s\": \"a\\nb\"\n}\n";
        assert_eq!(
            shown(pretty, DataFormat::Auto),
            "{  \"big\": 12345678901234567890.10,  \"s\": \"a\\nb\"}"
        );
        assert_eq!(shown(b"1\n2", DataFormat::Auto), "\"1\\n2\"");
    }

    #[test]
    fn formats_have_names() {
        for format in DataFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<DataFormat>(), Err(UnknownDataFormat));
    }

    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<Vec<u8>>(),
            ".*".prop_map(String::into_bytes),
            r#"[\[\]{}:,"\\0-9 \r\na]{0,20}"#.prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn every_body_is_one_json_value_on_one_line(body in any_body(), format in 0..4_usize) {
            let text = shown(&body, DataFormat::ALL[format]);
            prop_assert!(!text.contains(['\r', '\n']));
            let breaks = memchr2_iter(b'\r', b'\n', &body).count();
            let length = json_len(&body, DataFormat::ALL[format]);
            prop_assert!((text.len()..=text.len() + breaks).contains(&length), "{length} for {}", text.len());
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok() || json::is_value(&text));
        }

        #[test]
        fn a_json_body_keeps_its_value(body in r#"[\[\]{}:,"0-9 \r\n]{0,16}"#) {
            if let Ok(before) = serde_json::from_str::<serde_json::Value>(&body) {
                let after: serde_json::Value = serde_json::from_str(&shown(body.as_bytes(), DataFormat::Auto)).unwrap();
                prop_assert_eq!(before, after);
            }
        }
    }
}
