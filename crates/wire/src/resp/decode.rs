//! The server's side: commands as clients send them, arrays of bulk strings or inline.

use std::borrow::Cow;

use super::number::{self, Header};
use super::{Args, ProtocolError, inline};
use crate::line;

/// Longest inline command in bytes, as in Redis.
const MAX_INLINE: usize = 64 * 1024;

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument in bytes.
    pub max_bulk: usize,
    /// Most arguments of a command, its name included.
    pub max_args: usize,
    /// Longest command in bytes, framing included; also the most that a caller has to keep of an incomplete
    /// one. (Beyond 4 GiB no command passes in any case.)
    pub max_command: usize,
}

/// What stands at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// One whole command.
    Command {
        /// Its name and arguments; never empty.
        args: Args<'a>,
        /// How many bytes it takes.
        used: usize,
    },
    /// Something without meaning, such as `*0` or an empty inline line: skip it, without an answer, and go on.
    Nothing {
        /// How many bytes it takes.
        used: usize,
    },
    /// The start of a command.
    Partial,
}

/// Reads commands from a buffer that grows at its end and is consumed from its start.
///
/// It remembers how far it got in an incomplete command, so input that comes byte by byte costs linear time; it
/// owns no heap memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// Where the first element that has not been seen whole starts. For an inline command: how many bytes hold
    /// no line break.
    at: u32,
    /// How many elements are still to come; 0 as long as their number is not known.
    remaining: u32,
}

impl Decoder {
    /// Decodes the command at the start of `buf`, which is the first byte that was not consumed yet. After
    /// [`Decoded::Partial`] the next call must get the same bytes with more behind them.
    ///
    /// # Errors
    /// [`ProtocolError`] when the bytes are not RESP or exceed `limits`. The framing is lost then; do not
    /// decode further.
    pub fn decode<'a>(&mut self, buf: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let decoded = match buf.first() {
            None => return Ok(Decoded::Partial),
            Some(b'*') => self.array(buf, limits)?,
            Some(_) => self.inline(buf, limits)?,
        };
        if decoded != Decoded::Partial {
            *self = Self::default();
        }
        Ok(decoded)
    }

    fn array<'a>(&mut self, buf: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let limits = &Limits { max_command: limits.max_command.min(u32::MAX as usize), ..*limits };
        let mut args = Args::default();
        let resumed = self.remaining > 0;
        if !resumed {
            let (count, next) = match header(buf, 0, limits, ProtocolError::InvalidMultibulkLength)? {
                Some(read) => read,
                None => return Ok(Decoded::Partial),
            };
            let Ok(count) = usize::try_from(count) else { return Ok(Decoded::Nothing { used: next }) };
            if count == 0 {
                return Ok(Decoded::Nothing { used: next });
            }
            if count > limits.max_args {
                return Err(ProtocolError::InvalidMultibulkLength);
            }
            (self.at, self.remaining) =
                (next as u32, u32::try_from(count).map_err(|_| ProtocolError::InvalidMultibulkLength)?);
        }
        while self.remaining > 0 {
            let Some((arg, next)) = element(buf, self.at as usize, limits)? else {
                return Ok(Decoded::Partial);
            };
            if !resumed {
                args.push(Cow::Borrowed(arg));
            }
            self.at = next as u32;
            self.remaining -= 1;
        }
        let used = self.at as usize;
        if resumed {
            // Nothing was kept of the earlier calls but how far they got. All of it has been checked, so this
            // second walk is one step per argument, once per command.
            let mut whole = Self::default();
            return whole.array(&buf[..used], limits);
        }
        Ok(Decoded::Command { args, used })
    }

    fn inline<'a>(&mut self, buf: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        // The ending counts as part of the command.
        let max = limits.max_command.saturating_sub(2).min(MAX_INLINE);
        let (line, used) = match line::next(buf, self.at as usize, max) {
            line::Scan::Line { line, used } => (line, used),
            line::Scan::Partial => {
                self.at = buf.len() as u32;
                return Ok(Decoded::Partial);
            }
            line::Scan::TooLong => return Err(ProtocolError::TooBigInline),
        };
        let args = inline::split(line, limits)?;
        Ok(if args.is_empty() { Decoded::Nothing { used } } else { Decoded::Command { args, used } })
    }
}

/// Reads a type byte's number at `at`; gives it with the place behind its line, or `None` when it has not
/// come whole.
fn header(
    buf: &[u8],
    at: usize,
    limits: &Limits,
    invalid: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let allowed = &buf[..buf.len().min(limits.max_command)];
    match number::read(allowed, at + 1) {
        Header::Number { value, next } => Ok(Some((value, next))),
        Header::Partial if buf.len() > limits.max_command => Err(ProtocolError::TooLong(limits.max_command)),
        Header::Partial => Ok(None),
        Header::Invalid => Err(invalid),
    }
}

/// Reads the bulk string at `at`, likewise.
fn element<'a>(
    buf: &'a [u8],
    at: usize,
    limits: &Limits,
) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
    match buf.get(at) {
        _ if at >= limits.max_command => return Err(ProtocolError::TooLong(limits.max_command)),
        None => return Ok(None),
        Some(b'$') => {}
        Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
    }
    let Some((length, start)) = header(buf, at, limits, ProtocolError::InvalidBulkLength)? else {
        return Ok(None);
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= limits.max_bulk)
        .ok_or(ProtocolError::InvalidBulkLength)?;
    let end = start.saturating_add(length);
    if end.saturating_add(2) > limits.max_command {
        return Err(ProtocolError::TooLong(limits.max_command));
    }
    match buf.get(end..end + 2) {
        Some(b"\r\n") => Ok(Some((&buf[start..end], end + 2))),
        Some(_) => Err(ProtocolError::InvalidBulkLength),
        None => Ok(None),
    }
}
