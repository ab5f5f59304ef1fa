//! The client's side: any reply or push of a server, for the command line and for tests.

use memchr::memchr;

use super::ProtocolError;
use super::number::{self, Header};

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
    /// `>` of version 3: what was not asked for.
    Push(Vec<Self>),
    /// `%` of version 3, in the order it came.
    Map(Vec<(Self, Self)>),
    /// `~` of version 3, in the order it came.
    Set(Vec<Self>),
    /// `,` of version 3.
    Double(f64),
    /// `#` of version 3.
    Boolean(bool),
    /// `(` of version 3: digits.
    BigNumber(String),
    /// `=` of version 3: a text for people.
    Verbatim {
        /// Three letters, such as `txt` or `mkd`.
        format: String,
        /// The text.
        text: String,
    },
}

/// Decodes the value at the start of `buf` and gives it with how many bytes it takes; `None` when it has not
/// come whole. `max` is the longest value in bytes.
///
/// An incomplete value is read again from its start in the next call: give it whole pieces as they come from a
/// socket, not single bytes of a large one.
///
/// # Errors
/// [`ProtocolError`] when the bytes are not RESP, nest deeper than [`MAX_DEPTH`], or make a value longer than
/// `max`.
pub fn decode_value(buf: &[u8], max: usize) -> Result<Option<(Value, usize)>, ProtocolError> {
    let mut reader = Reader { buf: &buf[..buf.len().min(max)], at: 0, max };
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        // At the limit more bytes cannot make it whole.
        Err(Stop::Partial) if buf.len() >= max => Err(ProtocolError::TooLong(max)),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Bad(error)) => Err(error),
    }
}

/// Why reading came to an end before the value did.
enum Stop {
    Partial,
    Bad(ProtocolError),
}

fn bad<T>(words: &'static str) -> Result<T, Stop> {
    Err(Stop::Bad(ProtocolError::BadReply(words)))
}

struct Reader<'a> {
    /// At most `max` bytes.
    buf: &'a [u8],
    at: usize,
    max: usize,
}

impl<'a> Reader<'a> {
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
                // What the attribute belongs to. It counts as a level, so that a row of attributes is bounded.
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
            Header::Number { value, next } => {
                self.at = next;
                Ok(value)
            }
            Header::Partial => Err(Stop::Partial),
            Header::Invalid => bad("invalid number"),
        }
    }

    /// A length or a count; `None` for -1, which stands for null.
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
        let text = match self.blob()?.map(std::str::from_utf8) {
            Some(Ok(text)) => text,
            _ => return bad("verbatim string is not UTF-8"),
        };
        match text.split_at_checked(3) {
            Some((format, rest)) if rest.starts_with(':') => {
                Ok(Value::Verbatim { format: format.to_owned(), text: rest[1..].to_owned() })
            }
            _ => bad("verbatim string without its format"),
        }
    }

    /// How many elements follow, each of `values` values; `None` for null. A value takes three bytes at least,
    /// so a count that cannot fit is refused before anything is read.
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
