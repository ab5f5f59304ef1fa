//! Conversion of bytes to text for terminals.
//!
//! Invariant: the output of [`visible`] is one line of printable UTF-8 that can be converted back to the bytes, so no
//! message can move the cursor, colour the screen or look like two messages.

use std::fmt::Write as _;
use std::io::IsTerminal;

/// Appends `bytes` as text on one line, without loss: printable UTF-8 and tabs unchanged; line breaks and backslashes
/// as the line port escapes them (`\r`, `\n`, `\\`); all other bytes (control characters, characters that change the
/// direction of text or break lines, invalid UTF-8) as `\xHH`.
pub(crate) fn visible(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                _ => visible_char(c, out),
            }
        }
        hex(chunk.invalid(), out);
    }
}

/// Appends a line that is already escaped by the line port: backslashes are unchanged, bytes that a terminal would
/// interpret become `\xHH`.
pub(crate) fn escape_control(line: &[u8], out: &mut String) {
    for chunk in line.utf8_chunks() {
        chunk.valid().chars().for_each(|c| visible_char(c, out));
        hex(chunk.invalid(), out);
    }
}

fn visible_char(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push('\t'),
        c if is_control(c) => hex(c.encode_utf8(&mut [0; 4]).as_bytes(), out),
        c => out.push(c),
    }
}

/// Whether a terminal interprets this character: control characters (including ESC and C1), those of the bidirectional
/// algorithm (Unicode UAX #9 §2), which change the displayed order of text, and line and paragraph separators.
pub(crate) fn is_control(c: char) -> bool {
    let turns =
        matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Digits in groups of three: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Whether `stream` should be coloured: it is a terminal with support for colours, and `NO_COLOR` is unset or empty
/// (<https://no-color.org>).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    stream.is_terminal() && !refused && supports_escapes()
}

/// Whether the terminal supports escape sequences.
pub(crate) fn supports_escapes() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb" && !term.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut out = String::new();
        visible(bytes, &mut out);
        out
    }

    #[test]
    fn a_body_is_one_line_and_loses_nothing() {
        assert_eq!(shown("plain — text".as_bytes()), "plain — text");
        assert_eq!(shown(b"two\r\nlines"), "two\\r\\nlines");
        assert_eq!(shown(b"C:\\new"), "C:\\\\new");
        assert_eq!(shown(b"a\tb"), "a\tb");
        assert_eq!(shown(b"\x1b[31m\0\x7f"), "\\x1b[31m\\x00\\x7f");
        assert_eq!(shown(b"a\xff\xc3("), "a\\xff\\xc3(");
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\\xc2\\x9b2J");
        assert_eq!(shown("invoice\u{202e}fdp.exe".as_bytes()), "invoice\\xe2\\x80\\xaefdp.exe");
        assert_eq!(shown("שלום, \u{2066}a\u{2029}".as_bytes()), "שלום, \\xe2\\x81\\xa6a\\xe2\\x80\\xa9");
    }

    #[test]
    fn no_two_bodies_look_the_same() {
        assert_ne!(shown(b"\\xff"), shown(b"\xff"));
        assert_ne!(shown(b"\\n"), shown(b"\n"));
    }

    #[test]
    fn an_escaped_line_is_not_escaped_twice_and_has_no_control_characters() {
        let mut out = String::new();
        escape_control(b"a\\nb \x1b[2J\xff", &mut out);
        escape_control("\u{202e}\u{61c}\u{2067}".as_bytes(), &mut out);
        assert_eq!(out, "a\\nb \\x1b[2J\\xff\\xe2\\x80\\xae\\xd8\\x9c\\xe2\\x81\\xa7");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
    }
}
