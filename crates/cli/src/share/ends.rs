//! Ends of complete rows in the beginning of a file whose dialect is not known yet.

/// Up to where quotes that are open move the end back, in bytes.
const HELD: u64 = 1 << 20;
/// How many bytes show whether there are two for each character.
const SAMPLE: usize = 64;

/// How many bytes a character of ASCII has, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    One,
    Little,
    Big,
}

/// Finds the end of the last whole row as bytes come. Rows end with `\n`, or with `\r` where there is no `\n`.
#[derive(Debug, Default)]
pub(super) struct Ends {
    width: Option<Width>,
    at: u64,
    /// The byte before, at its place in a character of two bytes.
    before: u8,
    quoted: bool,
    /// Behind the last line break, and the last one outside of quotes.
    last: u64,
    unquoted: u64,
    /// Behind the last `\r` that something follows.
    carriage: u64,
}

impl Ends {
    /// Takes the bytes that follow.
    pub(super) fn push(&mut self, bytes: &[u8]) {
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

    /// How many bytes the whole rows are that have come. Where quotes have been open for long, they were none.
    pub(super) fn whole(&self) -> u64 {
        match (self.last, self.unquoted) {
            (0, _) => self.carriage,
            (last, unquoted) if unquoted > 0 && last - unquoted <= HELD => unquoted,
            (last, _) => last,
        }
    }
}

/// By the byte order mark, else by zeros where ASCII has them in two bytes.
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
        let mut ends = Ends::default();
        // The width shows in the first piece.
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
        // An inch mark is no quote.
        let inch = format!("5\" disk\n{}", "a,b\n".repeat(HELD as usize));
        assert_eq!(whole(inch.as_bytes()), inch.len() as u64);
        let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        assert_eq!(whole(&wide("\u{FEFF}a,\u{0A0A}\nhalf")), 12 - 2);
        assert_eq!(whole(&wide("abcd\nhalf")), 10);
        let big: Vec<u8> = "abcd\nhalf".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(whole(&big), 10);
    }
}
