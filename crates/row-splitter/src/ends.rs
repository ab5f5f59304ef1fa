//! Finds ends of complete rows at the beginning of a file, before its dialect is known.

/// The most bytes after an opening quote, without a closing one. A quote that is open for longer is text, such as an inch
/// mark.
const MAX_BUFFERED: u64 = 1 << 20;
/// The number of leading bytes from which the width of characters is determined.
const SAMPLE: usize = 64;

/// The encoding of an ASCII character: one byte, or two bytes in little-endian or big-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    One,
    Little,
    Big,
}

/// Finds the end of the last complete row, incrementally. Rows end with `\n`, or with `\r` if there is no `\n`.
#[derive(Debug, Default)]
pub struct RowEnds {
    width: Option<Width>,
    at: u64,
    /// The previous byte, at its position in a two-byte character.
    before: u8,
    quoted: bool,
    /// The end of the last line break, and of the last one outside of quotes.
    last: u64,
    unquoted: u64,
    /// The end of the last `\r` that is followed by another byte.
    carriage: u64,
}

impl RowEnds {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let width = *self.width.get_or_insert_with(|| width(bytes));
        for &byte in bytes {
            self.at += 1;
            let character = match width {
                Width::One => Some(byte),
                Width::Little if self.at.is_multiple_of(2) && byte == 0 => Some(self.before),
                Width::Big if self.at.is_multiple_of(2) && self.before == 0 => Some(byte),
                Width::Little | Width::Big => None,
            };
            if width == Width::One && self.before == b'\r' {
                self.carriage = self.at - 1;
            }
            match character {
                Some(b'"') => self.quoted = !self.quoted,
                Some(b'\n') => {
                    self.last = self.at;
                    if !self.quoted {
                        self.unquoted = self.at;
                    }
                }
                _ => {}
            }
            self.before = byte;
        }
    }

    /// The length of the complete rows. A quote that has been open for more than [`MAX_BUFFERED`] bytes is text.
    pub fn whole(&self) -> u64 {
        match (self.last, self.unquoted) {
            (0, _) => self.carriage,
            (last, unquoted) if unquoted > 0 && last - unquoted <= MAX_BUFFERED => unquoted,
            (last, _) => last,
        }
    }
}

/// Determined by the byte order mark, otherwise by zeros at the positions of ASCII characters with two bytes.
fn width(bytes: &[u8]) -> Width {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let zeros = |first: usize| sample.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
    match sample {
        [0xFF, 0xFE, ..] => Width::Little,
        [0xFE, 0xFF, ..] => Width::Big,
        _ if zeros(1) > 0 && zeros(0) == 0 => Width::Little,
        _ if zeros(0) > 0 && zeros(1) == 0 => Width::Big,
        _ => Width::One,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> u64 {
        let mut ends = RowEnds::default();
        // The first piece determines the width.
        let (first, rest) = bytes.split_at(bytes.len().min(8));
        ends.push(first);
        rest.chunks(3).for_each(|piece| ends.push(piece));
        ends.whole()
    }

    #[test]
    fn rows_end_outside_of_quotes_and_of_characters() {
        for (text, end) in [
            ("", 0),
            ("half", 0),
            ("a\nhalf", 2),
            ("a\n\"b\n", 2),
            ("a\n\"b\n\"\nc", 7),
            ("a\rb\rc", 4),
            ("a\r", 0),
        ] {
            assert_eq!(whole(text.as_bytes()), end, "{text:?}");
        }
        // An inch mark is not a quote.
        let inch = format!("5\" disk\n{}", "a,b\n".repeat(MAX_BUFFERED as usize));
        assert_eq!(whole(inch.as_bytes()), inch.len() as u64);
        let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        assert_eq!(whole(&wide("\u{FEFF}a,\u{0A0A}\nhalf")), 12 - 2);
        assert_eq!(whole(&wide("abcd\nhalf")), 10);
        let big: Vec<u8> = "abcd\nhalf".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(whole(&big), 10);
    }
}
