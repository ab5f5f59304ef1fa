//! The shared strings of a workbook (ECMA-376 Part 1 §18.4).
//!
//! Invariant: they take at most [`MAX_BYTES`], and 8 bytes for each of [`MAX_STRINGS`]; twice that while they grow.

use std::borrow::Cow;

use quick_xml::events::Event;

use super::too_large;
use super::xml::{self, Part};
use crate::FormatError;

/// The most bytes of all strings.
const MAX_BYTES: usize = 128 << 20;

/// The most strings.
const MAX_STRINGS: usize = 8 << 20;

/// The strings between two calls of the check for cancellation.
const STEP: usize = 4096;

/// The strings in one buffer.
#[derive(Debug, Default)]
pub(super) struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    /// The string with this number.
    pub(super) fn get(&self, number: usize) -> Option<&str> {
        let start = if number == 0 { 0 } else { *self.ends.get(number - 1)? };
        self.text.get(start..*self.ends.get(number)?)
    }
}

/// Reads all strings. Runs of formatted text are joined; phonetic text is left out. `check` cancels by an error.
pub(super) fn read<E: From<FormatError>>(
    mut part: Part<'_>,
    check: &mut impl FnMut() -> Result<(), E>,
) -> Result<Strings, E> {
    let mut strings = Strings::default();
    let mut texts = Texts::default();
    loop {
        let more = part.next(|event| {
            let is_end = match event {
                Event::End(element) => element.local_name().as_ref() == b"si",
                Event::Empty(element) => element.local_name().as_ref() == b"si",
                _ => false,
            };
            texts.take(event, &mut strings.text)?;
            if is_end {
                strings.ends.push(strings.text.len());
            }
            if strings.text.len() > MAX_BYTES {
                return Err(too_large("longer shared strings", &format!("{MAX_BYTES} bytes")));
            }
            if strings.ends.len() > MAX_STRINGS {
                return Err(too_large("more shared strings", &MAX_STRINGS.to_string()));
            }
            Ok(!matches!(event, Event::Eof))
        })?;
        if strings.ends.len().is_multiple_of(STEP) {
            check()?;
        }
        if !more {
            return Ok(strings);
        }
    }
}

/// Collects the text of `t` elements outside phonetic runs.
#[derive(Debug, Default)]
pub(super) struct Texts {
    is_text: bool,
    is_phonetic: bool,
    /// The text of the current element.
    current: String,
}

impl Texts {
    /// Appends the text of an element to `out` once it is complete.
    pub(super) fn take(&mut self, event: &Event<'_>, out: &mut String) -> Result<(), FormatError> {
        match event {
            Event::Start(element) => match element.local_name().as_ref() {
                b"t" => self.is_text = !self.is_phonetic,
                b"rPh" => self.is_phonetic = true,
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                b"t" if self.is_text => {
                    out.push_str(&decode_escapes(&self.current));
                    self.current.clear();
                    self.is_text = false;
                }
                b"rPh" => self.is_phonetic = false,
                _ => {}
            },
            _ if self.is_text => {
                xml::text(event, &mut self.current)?;
                if self.current.len() > MAX_BYTES {
                    return Err(too_large("a longer text", &format!("{MAX_BYTES} bytes")));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Decodes characters that XML cannot contain, such as `_x000D_` (ECMA-376 Part 1 §22.9.2.19).
fn decode_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains("_x") {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("_x") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let digits = rest.get(2..6).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.filter(|_| rest.as_bytes().get(6) == Some(&b'_'));
        match code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
            Some(character) => {
                out.push(character);
                rest = &rest[7..];
            }
            None => {
                out.push_str("_x");
                rest = &rest[2..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_characters_are_decoded() {
        for (text, decoded) in [
            ("a_x000D_b", "a\rb"),
            ("_x005F_x000D_", "_x000D_"),
            ("_x00", "_x00"),
            ("_xD800_", "_xD800_"),
            ("file_xyz", "file_xyz"),
        ] {
            assert_eq!(decode_escapes(text), decoded);
        }
    }
}
