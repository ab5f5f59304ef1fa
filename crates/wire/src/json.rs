//! The grammar of JSON (RFC 8259), as far as bodies need it: whether a text is one JSON value, and a string literal for
//! any text.
//!
//! Invariant: every JSON parser that supports [`MAX_DEPTH`] levels accepts the texts that [`is_value`] accepts.

/// Deepest nesting of arrays and objects that is passed on as JSON. Parsers of receivers have bounds of their own
/// (Apple's is 512), and one publication must not make every subscriber's parser fail.
pub(crate) const MAX_DEPTH: usize = 512;

/// Whether `text` is exactly one JSON value, with white space around it or not, nested at most [`MAX_DEPTH`]
/// deep. Uses no heap memory and no recursion.
pub(crate) fn is_value(text: &str) -> bool {
    JsonScanner { bytes: text.as_bytes(), at: 0, nesting: Nesting::default() }.document().is_some()
}

/// Appends `text` as a JSON string literal: in quotes, with quotes, backslashes and control characters escaped,
/// and U+2028 and U+2029 too, which some readers take for line breaks.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|b| SPECIAL[usize::from(*b)]) {
        at += found;
        let (escape, length) = match bytes[at] {
            b'"' => (&b"\\\""[..], 1),
            b'\\' => (&b"\\\\"[..], 1),
            b'\n' => (&b"\\n"[..], 1),
            b'\r' => (&b"\\r"[..], 1),
            b'\t' => (&b"\\t"[..], 1),
            0xE2 => match bytes[at..] {
                [_, 0x80, 0xA8, ..] => (&b"\\u2028"[..], 3),
                [_, 0x80, 0xA9, ..] => (&b"\\u2029"[..], 3),
                _ => {
                    // Any other character that starts with this byte needs nothing.
                    at += 1;
                    continue;
                }
            },
            control => {
                out.extend_from_slice(&bytes[copied..at]);
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
                at += 1;
                copied = at;
                continue;
            }
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(escape);
        at += length;
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Bytes that [`write_string`] appends for `text`.
pub(crate) fn string_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut length = bytes.len() + 2;
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| SPECIAL[usize::from(**byte)]) {
        length += match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
            // Three bytes become six.
            0xE2 => match bytes[at..] {
                [_, 0x80, 0xA8 | 0xA9, ..] => 3,
                _ => 0,
            },
            _ => 5,
        };
    }
    length
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The bytes that [`write_string`] must examine.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = true;
        control += 1;
    }
    table[0x7F] = true;
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0xE2] = true;
    table
};

/// Which of the open levels are objects: one bit per level.
#[derive(Default)]
struct Nesting {
    objects: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Nesting {
    fn open(&mut self, object: bool) -> Option<()> {
        let word = self.objects.get_mut(self.depth / 64)?;
        let bit = 1 << (self.depth % 64);
        if object {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        self.depth += 1;
        Some(())
    }

    /// Closes the innermost level if it is of that kind.
    fn close(&mut self, object: bool) -> Option<()> {
        if self.in_object()? != object {
            return None;
        }
        self.depth -= 1;
        Some(())
    }

    /// Whether the innermost level is an object; `None` outside of any.
    fn in_object(&self) -> Option<bool> {
        let level = self.depth.checked_sub(1)?;
        Some(self.objects[level / 64] & (1 << (level % 64)) != 0)
    }
}

/// Scans a document; every method returns `None` on a violation of the grammar.
struct JsonScanner<'a> {
    bytes: &'a [u8],
    at: usize,
    nesting: Nesting,
}

impl JsonScanner<'_> {
    fn document(&mut self) -> Option<()> {
        loop {
            if self.start_of_value()? {
                // A level was opened and is not empty: its first value follows.
                continue;
            }
            loop {
                let next = self.peek_token();
                match self.nesting.in_object() {
                    None => return next.is_none().then_some(()),
                    Some(object) => match next? {
                        b',' => {
                            self.at += 1;
                            if object {
                                self.key()?;
                            }
                            break;
                        }
                        b'}' | b']' => self.close()?,
                        _ => return None,
                    },
                }
            }
        }
    }

    /// Reads a scalar, an empty array or an empty object (returns false), or the opening of a nonempty one up to its
    /// first value (returns true).
    fn start_of_value(&mut self) -> Option<bool> {
        match self.peek_token()? {
            opening @ (b'{' | b'[') => {
                self.at += 1;
                self.nesting.open(opening == b'{')?;
                if matches!(self.peek_token()?, b'}' | b']') {
                    self.close()?;
                    return Some(false);
                }
                if opening == b'{' {
                    self.key()?;
                }
                return Some(true);
            }
            b'"' => self.string()?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return None,
        }
        Some(false)
    }

    /// The next byte that is not white space, if there is one.
    fn peek_token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn close(&mut self) -> Option<()> {
        self.nesting.close(self.bytes[self.at] == b'}')?;
        self.at += 1;
        Some(())
    }

    fn key(&mut self) -> Option<()> {
        (self.peek_token()? == b'"').then_some(())?;
        self.string()?;
        (self.peek_token()? == b':').then_some(())?;
        self.at += 1;
        Some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then_some(())?;
        self.at += word.len();
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let special = |b: &u8| *b == b'"' || *b == b'\\' || *b < 0x20;
            self.at += self.bytes[self.at..].iter().position(special)?;
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => match self.bytes.get(self.at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                    b'u' => {
                        let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                        digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                        self.at += 6;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.skip_one_of(b"-");
        if !self.skip_one_of(b"0") {
            self.digits()?;
        }
        if self.skip_one_of(b".") {
            self.digits()?;
        }
        if self.skip_one_of(b"eE") {
            self.skip_one_of(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn skip_one_of(&mut self, set: &[u8]) -> bool {
        let hit = self.bytes.get(self.at).is_some_and(|b| set.contains(b));
        self.at += usize::from(hit);
        hit
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let count = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(text: &str) -> String {
        let mut out = Vec::new();
        write_string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_grammar_is_that_of_rfc_8259() {
        for text in [
            "0",
            "-0",
            "10",
            "-1.50e+007",
            "1E5",
            "true",
            "false",
            "null",
            "\"\"",
            "\"\\u00e9\\ud800\\/\"",
            "{}",
            "[]",
            " [ ] ",
            "\r\n\t1 ",
            "[1,[2,{}],{\"a\":[]}]",
            "{\"a\":{\"b\":null},\"a\":1}",
            "\"\u{7f}é\u{2028}\"",
        ] {
            assert!(is_value(text), "{text}");
        }
        for text in [
            "",
            " ",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "0x1",
            "tru",
            "truex",
            "True",
            "nul",
            "NaN",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"a\nb\"",
            "{",
            "}",
            "{]",
            "[}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{,}",
            "{1:2}",
            "1 2",
            "1\n2",
            "[]]",
            "\u{feff}1",
            "'a'",
            "[1]x",
        ] {
            assert!(!is_value(text), "{text}");
        }
    }

    #[test]
    fn nesting_counts_up_to_its_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_value(&nested(MAX_DEPTH)));
        assert!(!is_value(&nested(MAX_DEPTH + 1)));
        // Levels that were closed again do not count.
        assert!(is_value(&format!("[{}1]", "[[]],".repeat(10_000))));
        let mixed = format!("{}1{}", "[{\"a\":".repeat(256), "}]".repeat(256));
        assert!(is_value(&mixed));
        assert!(!is_value(&mixed.replacen("}]", "]}", 1)));
    }

    #[test]
    fn a_string_literal_contains_no_control_byte_and_no_line_break() {
        assert_eq!(literal("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(literal("\0\u{1f}\u{7f}\r\n\t\u{8}"), r#""\u0000\u001f\u007f\r\n\t\u0008""#);
        assert_eq!(literal("\u{2028}x\u{2029}\u{2027}"), "\"\\u2028x\\u2029\u{2027}\"");
        assert_eq!(literal("é – 漢 🙂"), "\"é – 漢 🙂\"");
    }

    proptest! {
        #[test]
        fn a_string_literal_reads_back_as_its_text(text in ".*") {
            prop_assert_eq!(serde_json::from_str::<String>(&literal(&text)).unwrap(), text.clone());
            prop_assert!(is_value(&literal(&text)));
        }

        #[test]
        fn another_parser_agrees_on_what_is_json(text in r#"[\[\]{}:,"\\ue0-9.+\- \n]{0,12}|[tfn][a-z]{0,4}"#) {
            let other = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_value(&text), other, "{}", text);
        }
    }
}
