//! The server's side: commands of clients, as arrays of bulk strings or inline.

use std::borrow::Cow;

use super::number::{self, HeaderLine};
use super::{Args, ProtocolError, inline};
use crate::line;

/// Longest inline command in bytes, as in Redis.
const MAX_INLINE: usize = 64 * 1024;

/// Limits for commands of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument in bytes.
    pub max_bulk: usize,
    /// Most arguments of a command, its name included.
    pub max_args: usize,
    /// Longest command in bytes, framing included; also the most bytes of an incomplete command that a caller must
    /// store. (Beyond 4 GiB no command is accepted in any case.)
    pub max_command: usize,
}

/// The result of decoding at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// One whole command.
    Command {
        /// Its name and arguments; never empty.
        args: Args<'a>,
        /// Its number of bytes.
        used: usize,
    },
    /// Input without meaning, such as `*0` or an empty inline line: skip it without an answer, and continue.
    Nothing {
        /// Its number of bytes.
        used: usize,
    },
    /// The start of a command.
    Partial,
}

/// Reads commands from a buffer that grows at its end and is consumed from its start.
///
/// It stores its progress in an incomplete command, so input that arrives byte by byte costs linear time; it owns no
/// heap memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// The start of the first incomplete element. For an inline command: the number of bytes without a line break.
    at: u32,
    /// Number of elements still to come; 0 while their number is unknown.
    remaining: u32,
}

impl Decoder {
    /// Decodes the command at the start of `buf`, which is the first byte that was not consumed yet. After
    /// [`Decoded::Partial`] the next call must get the same bytes with more behind them.
    ///
    /// # Errors
    /// [`ProtocolError`] when the bytes are not RESP or exceed `limits`. The framing is lost then; do not decode
    /// further.
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
            let Some((count, next)) = header(buf, 0, limits, ProtocolError::InvalidMultibulkLength)? else {
                return Ok(Decoded::Partial);
            };
            if count <= 0 {
                return Ok(Decoded::Nothing { used: next });
            }
            if usize::try_from(count).map_or(true, |count| count > limits.max_args) {
                return Err(ProtocolError::InvalidMultibulkLength);
            }
            self.remaining = u32::try_from(count).map_err(|_| ProtocolError::InvalidMultibulkLength)?;
            self.at = next as u32;
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
            // Earlier calls have stored only their progress. All of it has been checked, so this second pass is one
            // step per argument, once per command.
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

/// Reads the number after a type byte at `at`; returns it with the position after its line, or `None` when it is
/// incomplete.
fn header(
    buf: &[u8],
    at: usize,
    limits: &Limits,
    invalid: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let allowed = &buf[..buf.len().min(limits.max_command)];
    match number::read(allowed, at + 1) {
        HeaderLine::Number { value, next } => Ok(Some((value, next))),
        HeaderLine::Partial if buf.len() > limits.max_command => {
            Err(ProtocolError::TooLong(limits.max_command))
        }
        HeaderLine::Partial => Ok(None),
        HeaderLine::Invalid => Err(invalid),
    }
}

/// Reads the bulk string at `at`; `None` when it is incomplete.
fn element<'a>(
    buf: &'a [u8],
    at: usize,
    limits: &Limits,
) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
    match buf.get(at) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resp::command;

    const LIMITS: Limits = Limits { max_bulk: 1000, max_args: 100, max_command: 10_000 };

    fn args<'a>(words: &[&'a [u8]]) -> Args<'a> {
        let mut args = Args::default();
        for word in words {
            args.push(Cow::Borrowed(word));
        }
        args
    }

    fn decode<'a>(buf: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        Decoder::default().decode(buf, limits)
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings_or_a_line_of_words() {
        let buf = b"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\nPING\r\n";
        let echo = Decoded::Command { args: args(&[b"ECHO", b"a\r\nb"]), used: 24 };
        assert_eq!(decode(buf, &LIMITS), Ok(echo));
        let ping = Decoded::Command { args: args(&[b"PING"]), used: 6 };
        assert_eq!(decode(&buf[24..], &LIMITS), Ok(ping));
        for (nothing, used) in [("*0\r\nPING", 4), ("*-1\r\n", 5), ("\r\n", 2), ("\n\n", 1), (" \t\r\n", 4)] {
            assert_eq!(decode(nothing.as_bytes(), &LIMITS), Ok(Decoded::Nothing { used }), "{nothing:?}");
        }
    }

    #[test]
    fn invalid_input_has_the_error_texts_of_redis() {
        for (input, words) in [
            ("*x\r\n", "Protocol error: invalid multibulk length"),
            ("*\r\n", "Protocol error: invalid multibulk length"),
            ("*101\r\n", "Protocol error: invalid multibulk length"),
            ("*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
            ("*1\r\nPING\r\n", "Protocol error: expected '$', got 'P'"),
            ("*1\r\n\r", "Protocol error: expected '$', got '\\r'"),
            ("*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$1001\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$4\r\nPINGPONG", "Protocol error: invalid bulk length"),
            ("ECHO \"a\r\n", "Protocol error: unbalanced quotes in request"),
        ] {
            assert_eq!(decode(input.as_bytes(), &LIMITS).unwrap_err().to_string(), words, "{input:?}");
        }
        let long = "x".repeat(10_000);
        assert_eq!(decode(long.as_bytes(), &LIMITS), Err(ProtocolError::TooBigInline));
    }

    #[test]
    fn limits_apply_before_bytes_beyond_them_are_stored() {
        let limits = Limits { max_bulk: 1000, max_args: 3, max_command: 30 };
        // Exactly at the limit.
        let fits = b"*2\r\n$4\r\nECHO\r\n$9\r\n123456789\r\n";
        assert_eq!(fits.len(), 29);
        assert!(matches!(decode(fits, &limits), Ok(Decoded::Command { .. })));
        assert!(matches!(decode(fits, &Limits { max_command: 29, ..limits }), Ok(Decoded::Command { .. })));
        assert_eq!(decode(fits, &Limits { max_command: 28, ..limits }), Err(ProtocolError::TooLong(28)));
        // The length is sufficient, without the bytes.
        assert_eq!(decode(b"*2\r\n$4\r\nECHO\r\n$99\r\n", &limits), Err(ProtocolError::TooLong(30)));
        assert_eq!(decode(b"*1\r\n$9223372036854775807\r\n", &limits), Err(ProtocolError::InvalidBulkLength));
        let boundless = Limits { max_bulk: usize::MAX, max_args: usize::MAX, max_command: usize::MAX };
        let error = ProtocolError::TooLong(u32::MAX as usize);
        assert_eq!(decode(b"*1\r\n$9223372036854775807\r\n", &boundless), Err(error));
        let error = ProtocolError::InvalidMultibulkLength;
        assert_eq!(decode(b"*9223372036854775807\r\n", &boundless), Err(error));
    }

    #[test]
    fn a_large_command_in_single_bytes_is_not_reread_from_its_start() {
        let word = [b'w'; 200];
        let words = vec![&word[..]; 5000];
        let mut buf = Vec::new();
        command(&words, &mut buf);
        let limits = Limits { max_bulk: 1000, max_args: 5000, max_command: 2_000_000 };
        let mut decoder = Decoder::default();
        for end in 1..buf.len() {
            assert_eq!(decoder.decode(&buf[..end], &limits), Ok(Decoded::Partial));
            // One element is examined again, not those before it.
            assert!(end - (decoder.at as usize) < 210);
        }
        let Ok(Decoded::Command { args, used }) = decoder.decode(&buf, &limits) else { panic!("not whole") };
        assert_eq!((args.len(), used), (5000, buf.len()));

        let line = [b'x'; MAX_INLINE];
        let mut decoder = Decoder::default();
        for end in 1..line.len() {
            assert_eq!(decoder.decode(&line[..end], &limits), Ok(Decoded::Partial));
            assert_eq!(decoder.at as usize, end);
        }
    }

    /// All contents of `input` in pieces of `sizes`, and the most bytes that had to be stored.
    fn read(input: &[u8], sizes: &[usize], limits: &Limits) -> (Vec<String>, usize) {
        let (mut seen, mut kept, mut most) = (Vec::new(), Vec::new(), 0);
        let (mut decoder, mut rest) = (Decoder::default(), input);
        for size in sizes.iter().copied().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
            kept.extend_from_slice(piece);
            rest = after;
            loop {
                match decoder.decode(&kept, limits) {
                    Ok(Decoded::Command { args, used }) => {
                        seen.push(format!("{args:?}"));
                        kept.drain(..used);
                    }
                    Ok(Decoded::Nothing { used }) => drop(kept.drain(..used)),
                    Ok(Decoded::Partial) => break,
                    Err(error) => {
                        seen.push(error.to_string());
                        return (seen, most);
                    }
                }
            }
            most = most.max(kept.len());
        }
        (seen, most)
    }

    fn any_input() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..7);
        let commands = prop::collection::vec(words, 0..5).prop_map(|commands| {
            let mut buf = Vec::new();
            for words in commands {
                let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
                command(&words, &mut buf);
            }
            buf
        });
        let broken = "([*$][0-9]?(\r\n)?|[a\"'\\\\ ]{0,5}\r?\n|ab){0,9}".prop_map(String::into_bytes);
        (commands, broken).prop_map(|(mut commands, broken)| {
            commands.extend(broken);
            commands
        })
    }

    proptest! {
        #[test]
        fn a_command_split_anywhere_reads_the_same(
            input in any_input(),
            sizes in prop::collection::vec(1..9_usize, 1..6),
            max_command in 10..60_usize,
        ) {
            let limits = Limits { max_bulk: 5, max_args: 6, max_command };
            let (whole, _) = read(&input, &[usize::MAX], &limits);
            let (split, most) = read(&input, &sizes, &limits);
            prop_assert_eq!(whole, split);
            prop_assert!(most <= max_command);
        }

        #[test]
        fn commands_round_trip_from_client_to_server(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12),
        ) {
            let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
            let mut buf = Vec::new();
            command(&words, &mut buf);
            let expected = Decoded::Command { args: args(&words), used: buf.len() };
            prop_assert_eq!(decode(&buf, &LIMITS), Ok(expected));
        }
    }
}
