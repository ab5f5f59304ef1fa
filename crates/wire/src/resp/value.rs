//! The client's side: any reply or push of a server, for the command line and for tests.

use memchr::memchr;

use super::ProtocolError;
use super::number::{self, HeaderLine};

/// Deepest nesting of a reply.
pub const MAX_DEPTH: usize = 32;

/// A reply or a push of a server. The types that only version 3 has are marked so; attributes are read and
/// dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`
    Simple(String),
    /// `-`, or `!` of version 3.
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `_` of version 3, or a null bulk string or array of version 2.
    Null,
    /// `*`
    Array(Vec<Self>),
    /// `>` of version 3: a push.
    Push(Vec<Self>),
    /// `%` of version 3, in the received order.
    Map(Vec<(Self, Self)>),
    /// `~` of version 3, in the received order.
    Set(Vec<Self>),
    /// `,` of version 3.
    Double(f64),
    /// `#` of version 3.
    Boolean(bool),
    /// `(` of version 3: digits.
    BigNumber(String),
    /// `=` of version 3: a text for human readers.
    Verbatim {
        /// Three letters, such as `txt` or `mkd`.
        format: String,
        /// The text.
        text: String,
    },
}

/// Decodes the value at the start of `buf`; returns it with its number of bytes, or `None` when it is incomplete. `max`
/// is the longest value in bytes.
///
/// An incomplete value is read again from its start in the next call: pass whole pieces as received from a socket, not
/// single bytes of a large one.
///
/// # Errors
/// [`ProtocolError`] when the bytes are not RESP, nest deeper than [`MAX_DEPTH`], or make a value longer than
/// `max`.
pub fn decode_value(buf: &[u8], max: usize) -> Result<Option<(Value, usize)>, ProtocolError> {
    let mut reader = ReplyReader { buf: &buf[..buf.len().min(max)], at: 0, max };
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        // At the limit, more bytes cannot complete it.
        Err(Stop::Partial) if buf.len() >= max => Err(ProtocolError::TooLong(max)),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Bad(error)) => Err(error),
    }
}

/// The reason why reading ended before the value.
enum Stop {
    Partial,
    Bad(ProtocolError),
}

fn bad<T>(words: &'static str) -> Result<T, Stop> {
    Err(Stop::Bad(ProtocolError::BadReply(words)))
}

struct ReplyReader<'a> {
    /// At most `max` bytes.
    buf: &'a [u8],
    at: usize,
    max: usize,
}

impl<'a> ReplyReader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth > MAX_DEPTH {
            return bad("nested too deeply");
        }
        let kind = *self.buf.get(self.at).ok_or(Stop::Partial)?;
        self.at += 1;
        Ok(match kind {
            b'+' => Value::Simple(self.text_line()?),
            b'-' => Value::Error(self.text_line()?),
            b':' => Value::Integer(self.signed()?),
            b'(' => Value::BigNumber(self.text_line()?),
            b'$' => match self.blob()? {
                Some(bytes) => Value::Bulk(bytes.to_vec()),
                None => Value::Null,
            },
            b'!' => match self.blob()? {
                Some(bytes) => Value::Error(String::from_utf8_lossy(bytes).into_owned()),
                None => return bad("null error"),
            },
            b'=' => self.verbatim()?,
            b'_' => match self.line()? {
                b"" => Value::Null,
                _ => return bad("invalid null"),
            },
            b'#' => match self.line()? {
                b"t" => Value::Boolean(true),
                b"f" => Value::Boolean(false),
                _ => return bad("invalid boolean"),
            },
            b',' => match std::str::from_utf8(self.line()?).ok().and_then(|text| text.parse().ok()) {
                Some(number) => Value::Double(number),
                None => return bad("invalid double"),
            },
            b'*' => match self.count(1)? {
                Some(count) => Value::Array(self.values(count, depth)?),
                None => Value::Null,
            },
            b'~' => Value::Set(self.filled(depth)?),
            b'>' => Value::Push(self.filled(depth)?),
            b'%' => Value::Map(self.pairs(depth)?),
            b'|' => {
                self.pairs(depth)?;
                // The value with the attribute. It counts as a level, so that a row of attributes is bounded.
                self.value(depth + 1)?
            }
            _ => return bad("unknown type of reply"),
        })
    }

    /// The bytes up to the end of the line.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.buf[self.at..];
        let end = memchr(b'\n', rest).ok_or(Stop::Partial)?;
        self.at += end + 1;
        match rest[..end].strip_suffix(b"\r") {
            Some(line) => Ok(line),
            None => bad("line without its ending"),
        }
    }

    fn text_line(&mut self) -> Result<String, Stop> {
        self.line().map(|line| String::from_utf8_lossy(line).into_owned())
    }

    /// An integer's number. Redis writes no plus sign, but the specification allows one.
    fn signed(&mut self) -> Result<i64, Stop> {
        if self.buf.get(self.at) == Some(&b'+') {
            self.at += 1;
            if self.buf.get(self.at) == Some(&b'-') {
                return bad("invalid number");
            }
        }
        self.number()
    }

    fn number(&mut self) -> Result<i64, Stop> {
        match number::read(self.buf, self.at) {
            HeaderLine::Number { value, next } => {
                self.at = next;
                Ok(value)
            }
            HeaderLine::Partial => Err(Stop::Partial),
            HeaderLine::Invalid => bad("invalid number"),
        }
    }

    /// A length or a count; `None` for -1, which represents null.
    fn length(&mut self) -> Result<Option<usize>, Stop> {
        match self.number()? {
            -1 => Ok(None),
            number => usize::try_from(number).map(Some).or_else(|_| bad("negative length")),
        }
    }

    fn blob(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let Some(length) = self.length()? else { return Ok(None) };
        let end = self.at.saturating_add(length);
        if end.saturating_add(2) > self.max {
            return Err(Stop::Bad(ProtocolError::TooLong(self.max)));
        }
        match self.buf.get(end..end + 2) {
            Some(b"\r\n") => {
                let bytes = &self.buf[self.at..end];
                self.at = end + 2;
                Ok(Some(bytes))
            }
            Some(_) => bad("invalid bulk length"),
            None => Err(Stop::Partial),
        }
    }

    fn verbatim(&mut self) -> Result<Value, Stop> {
        let Some(Ok(text)) = self.blob()?.map(std::str::from_utf8) else {
            return bad("verbatim string is not UTF-8");
        };
        match text.split_at_checked(3) {
            Some((format, rest)) if rest.starts_with(':') => {
                Ok(Value::Verbatim { format: format.to_owned(), text: rest[1..].to_owned() })
            }
            _ => bad("verbatim string without its format"),
        }
    }

    /// Number of elements, each of `values` values; `None` for null. A value takes three bytes at least, so a count
    /// that cannot fit is refused before anything is read.
    fn count(&mut self, values: usize) -> Result<Option<usize>, Stop> {
        let Some(count) = self.length()? else { return Ok(None) };
        if count.saturating_mul(values * 3) > self.max - self.at {
            return Err(Stop::Bad(ProtocolError::TooLong(self.max)));
        }
        Ok(Some(count))
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn filled(&mut self, depth: usize) -> Result<Vec<Value>, Stop> {
        match self.count(1)? {
            Some(count) => self.values(count, depth),
            None => bad("null collection"),
        }
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Value, Value)>, Stop> {
        match self.count(2)? {
            Some(count) => (0..count).map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?))).collect(),
            None => bad("null collection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resp::{self, Version};

    fn decoded(text: &str) -> Value {
        let (value, used) = decode_value(text.as_bytes(), 1000).unwrap().unwrap();
        assert_eq!(used, text.len());
        value
    }

    #[test]
    fn every_type_of_both_versions_is_read() {
        use Value::{Array, BigNumber, Boolean, Bulk, Double, Error, Integer, Map, Null, Push, Set, Simple};
        for (text, expected) in [
            ("+OK\r\n", Simple("OK".into())),
            ("-ERR no\r\n", Error("ERR no".into())),
            ("!6\r\nERR no\r\n", Error("ERR no".into())),
            (":-5\r\n", Integer(-5)),
            (":+5\r\n", Integer(5)),
            ("$4\r\na\r\nb\r\n", Bulk(b"a\r\nb".to_vec())),
            ("$0\r\n\r\n", Bulk(Vec::new())),
            ("$-1\r\n", Null),
            ("*-1\r\n", Null),
            ("_\r\n", Null),
            ("*0\r\n", Array(vec![])),
            ("*2\r\n:1\r\n*1\r\n_\r\n", Array(vec![Integer(1), Array(vec![Null])])),
            ("~1\r\n#t\r\n", Set(vec![Boolean(true)])),
            (">2\r\n+a\r\n#f\r\n", Push(vec![Simple("a".into()), Boolean(false)])),
            ("%1\r\n+a\r\n,1.5\r\n", Map(vec![(Simple("a".into()), Double(1.5))])),
            (",-inf\r\n", Double(f64::NEG_INFINITY)),
            ("(123456789012345678901234567890\r\n", BigNumber("123456789012345678901234567890".into())),
            ("=6\r\ntxt:hi\r\n", Value::Verbatim { format: "txt".into(), text: "hi".into() }),
            ("|1\r\n+ttl\r\n:9\r\n:1\r\n", Integer(1)),
        ] {
            assert_eq!(decoded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn invalid_replies_are_errors() {
        for text in [
            "x\r\n",
            "PING\r\n",
            ":x\r\n",
            ":\r\n",
            ":+-1\r\n",
            "+a\n",
            "$1\r\nab\r\n",
            "$-2\r\n",
            "*-2\r\n",
            "~-1\r\n",
            "#x\r\n",
            ",x\r\n",
            "_x\r\n",
            "=2\r\nhi\r\n",
            "=4\r\ntxtx\r\n",
            "!-1\r\n",
            "$?\r\n",
        ] {
            assert!(decode_value(text.as_bytes(), 1000).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reply_is_bounded_in_size_and_depth() {
        assert_eq!(decode_value(b"$100\r\n", 50), Err(ProtocolError::TooLong(50)));
        assert_eq!(decode_value(b"*999999999\r\n", 50), Err(ProtocolError::TooLong(50)));
        assert_eq!(decode_value(b"%9223372036854775807\r\n", 50), Err(ProtocolError::TooLong(50)));
        assert_eq!(decode_value(&[b'+'; 50], 50), Err(ProtocolError::TooLong(50)));
        assert_eq!(decode_value(&[b'+'; 49], 50), Ok(None));
        let nested = |depth: usize| format!("{}_\r\n", "*1\r\n".repeat(depth)).into_bytes();
        assert!(decode_value(&nested(MAX_DEPTH), 1000).unwrap().is_some());
        assert!(decode_value(&nested(MAX_DEPTH + 1), 1000).is_err());
        assert!(decode_value("|0\r\n".repeat(100_000).as_bytes(), 1_000_000).is_err());
    }

    /// Writes a value as a server of version 3 does.
    fn encode(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Simple(text) => resp::simple(text, out),
            Value::Error(text) => resp::error(text, out),
            Value::Integer(number) => resp::integer(*number, out),
            Value::Bulk(bytes) => resp::bulk(bytes, out),
            Value::Verbatim { text, .. } => resp::verbatim(Version::V3, text, out),
            Value::Array(values) => {
                resp::array(values.len(), out);
                values.iter().for_each(|value| encode(value, out));
            }
            Value::Push(values) => {
                resp::push(Version::V3, values.len(), out);
                values.iter().for_each(|value| encode(value, out));
            }
            Value::Map(pairs) => {
                resp::map(Version::V3, pairs.len(), out);
                for (key, value) in pairs {
                    encode(key, out);
                    encode(value, out);
                }
            }
            _ => resp::null(Version::V3, out),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            "[ -~é]{0,9}".prop_map(Value::Simple),
            "[ -~é]{0,9}".prop_map(Value::Error),
            any::<Vec<u8>>().prop_map(Value::Bulk),
            ".{0,9}".prop_map(|text| Value::Verbatim { format: "txt".into(), text }),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Push),
                prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn replies_round_trip_and_every_proper_prefix_is_incomplete(
            value in any_value(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut buf = Vec::new();
            encode(&value, &mut buf);
            let length = buf.len();
            prop_assert_eq!(decode_value(&buf[..cut.index(length)], 1 << 20), Ok(None));
            buf.extend_from_slice(b"+next\r\n");
            prop_assert_eq!(decode_value(&buf, 1 << 20), Ok(Some((value, length))));
        }

        #[test]
        fn any_bytes_are_a_value_a_prefix_or_an_error(bytes in r"[*%>~|$+:\-_#,=!(0-9\r\nat]{0,40}") {
            if let Ok(Some((_, used))) = decode_value(bytes.as_bytes(), 30) {
                prop_assert!(used <= 30);
            }
        }
    }
}
