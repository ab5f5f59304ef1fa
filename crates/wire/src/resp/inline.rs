//! Inline commands: a line of words, with the quotes of redis-cli (its `sdssplitargs`).
//!
//! `"…"` may contain `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH`, and a backslash before any other byte stands for that byte;
//! `'…'` has only `\'`. A closing quote ends its word.

use std::borrow::Cow;

use super::{Args, Limits, ProtocolError};

/// Splits a line without its ending into words; none when it contains only white space.
pub(super) fn split<'a>(line: &'a [u8], limits: &Limits) -> Result<Args<'a>, ProtocolError> {
    let mut args = Args::default();
    let mut rest = line;
    loop {
        let blank = rest.iter().take_while(|b| is_space(**b)).count();
        rest = &rest[blank..];
        if rest.is_empty() {
            return Ok(args);
        }
        if args.len() == limits.max_args {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        let word;
        (word, rest) = first_word(rest)?;
        if word.len() > limits.max_bulk {
            return Err(ProtocolError::InvalidBulkLength);
        }
        args.push(word);
    }
}

/// Separators of words: white space as in C's `isspace`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Ends of words without quotes; vertical tabs and form feeds are part of a word.
const fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The word at the start of `text`, and the rest.
fn first_word(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), ProtocolError> {
    let special = |b: &u8| ends_word(*b) || matches!(b, b'"' | b'\'');
    let plain = text.iter().position(special).unwrap_or(text.len());
    let (bare, rest) = text.split_at(plain);
    let (quote, quoted) = match rest.split_first() {
        Some((quote @ (b'"' | b'\''), quoted)) => (*quote, quoted),
        _ => return Ok((Cow::Borrowed(bare), rest)),
    };
    let mut word = bare.to_vec();
    let rest =
        if quote == b'"' { double_quoted(quoted, &mut word) } else { single_quoted(quoted, &mut word) };
    match rest {
        Some(rest) if rest.first().is_none_or(|b| is_space(*b)) => Ok((Cow::Owned(word), rest)),
        _ => Err(ProtocolError::UnbalancedQuotes),
    }
}

/// Appends the text up to the closing quote to `word`, and returns the rest; `None` without a closing quote.
fn double_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match text {
            [] => return None,
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                text = rest;
            }
            [b'\\', escaped, rest @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                text = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

/// As [`double_quoted`], where only the quote itself can be escaped.
fn single_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match text {
            [] => return None,
            [b'\'', rest @ ..] => return Some(rest),
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                text = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

/// The value of one hexadecimal digit.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_bulk: 100, max_args: 8, max_command: 1000 };

    fn words(line: &str) -> Result<Vec<Vec<u8>>, ProtocolError> {
        split(line.as_bytes(), &LIMITS).map(|args| args.iter().map(|arg| arg.to_vec()).collect())
    }

    #[test]
    fn words_and_quotes_are_parsed_as_in_redis() {
        for (line, expected) in [
            ("PING", &[&b"PING"[..]][..]),
            ("  PUBLISH\ta   b ", &[b"PUBLISH", b"a", b"b"]),
            ("", &[]),
            (" \t ", &[]),
            (r#"a "b c" 'd e'"#, &[b"a", b"b c", b"d e"]),
            (r#""\x41\n\r\t\b\a\"\\\q\xzz""#, &[b"A\n\r\t\x08\x07\"\\qxzz"]),
            (r"'a\'b\n'", &[b"a'b\\n"]),
            (r#"foo"bar baz""#, &[b"foobar baz"]),
            (r#""" ''"#, &[b"", b""]),
            (r"a\b", &[b"a\\b"]),
            ("\x0ba\x0bb \x0c'c'\x0bd", &[b"a\x0bb", b"c", b"d"]),
        ] {
            let expected: Vec<Vec<u8>> = expected.iter().map(|word| word.to_vec()).collect();
            assert_eq!(words(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn an_unbalanced_quote_is_an_error() {
        for line in [r#"""#, r#"a "b"#, r#""a"b"#, r"'a", r"'a'b", r#""a\""#, r#""\"#, r#""a"'b'"#] {
            assert_eq!(words(line), Err(ProtocolError::UnbalancedQuotes), "{line}");
        }
    }

    #[test]
    fn the_limits_of_arguments_hold_for_inline_commands_too() {
        assert!(words("a a a a a a a a").is_ok());
        assert_eq!(words("a a a a a a a a a"), Err(ProtocolError::InvalidMultibulkLength));
        assert_eq!(words(&"a".repeat(101)), Err(ProtocolError::InvalidBulkLength));
    }
}
