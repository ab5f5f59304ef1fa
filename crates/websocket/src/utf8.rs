//! Incremental validation of UTF-8.

/// The state between two pieces: between two characters, or inside of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Utf8 {
    /// The first bytes of an incomplete character.
    begun: [u8; 4],
    have: u8,
}

/// Bytes that cannot become UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidUtf8;

impl Utf8 {
    /// Validates more of the text.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), InvalidUtf8> {
        while self.have > 0 {
            let Some((next, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            // It has at most three bytes, since with four it is complete or invalid.
            self.begun[usize::from(self.have)] = *next;
            self.have += 1;
            match std::str::from_utf8(&self.begun[..usize::from(self.have)]) {
                Ok(_) => self.have = 0,
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        let begun = &bytes[error.valid_up_to()..];
        self.begun[..begun.len()].copy_from_slice(begun);
        self.have = begun.len() as u8;
        Ok(())
    }

    /// Whether the text may end here.
    pub(crate) fn is_whole(self) -> bool {
        self.have == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The result for bytes fed in pieces of these sizes: valid, or the number of bytes after which an error was
    /// detected.
    fn fed(bytes: &[u8], sizes: &[usize]) -> Result<bool, usize> {
        let (mut utf8, mut at) = (Utf8::default(), 0);
        for size in sizes.iter().cycle() {
            if at == bytes.len() {
                break;
            }
            let end = (at + size).min(bytes.len());
            utf8.feed(&bytes[at..end]).map_err(|_| end)?;
            at = end;
        }
        Ok(utf8.is_whole())
    }

    #[test]
    fn the_first_wrong_byte_is_reported_at_once() {
        for (bytes, wrong) in [
            (&b"a\x80"[..], 2),
            (b"\xC3\x28", 2),
            (b"\xC0", 1),
            (b"\xE0\x80", 2),
            (b"\xED\xA0", 2),
            (b"\xF4\x90", 2),
            (b"\xF5", 1),
            (b"\xF0\x9F\x99\x41", 4),
            ("κόσμε\u{fffd}x\u{10ffff}".as_bytes(), 0),
        ] {
            let expected = if wrong == 0 { Ok(true) } else { Err(wrong) };
            assert_eq!(fed(bytes, &[1]), expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(fed("é".as_bytes().split_last().unwrap().1, &[1]), Ok(false));
    }

    proptest! {
        #[test]
        fn split_text_is_the_same_text(
            text in ".{0,20}",
            noise in prop::collection::vec(any::<u8>(), 0..3),
            sizes in prop::collection::vec(1..5_usize, 1..5),
        ) {
            let bytes = [text.as_bytes(), &noise, text.as_bytes()].concat();
            let valid = std::str::from_utf8(&bytes).is_ok();
            prop_assert_eq!(fed(&bytes, &sizes) == Ok(true), valid);
            prop_assert_eq!(fed(&bytes, &[1]) == Ok(true), valid);
        }
    }
}
