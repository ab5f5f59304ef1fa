//! Detection of the encoding of a text, and conversion to UTF-8.
//!
//! A file in UTF-8 is read in place. Any other file is decoded into an unlinked file of UTF-8 during its upload, so
//! that all later stages support only one encoding.

use std::fmt;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use crate::Error;

/// A character encoding of the WHATWG Encoding Standard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl Encoding {
    /// UTF-8, which needs no conversion.
    pub const UTF_8: Self = Self(encoding_rs::UTF_8);

    /// The encoding with this name or alias, as in browsers (`utf-8`, `latin1`, `UTF-16LE`, …).
    pub fn named(label: &str) -> Option<Self> {
        let known = encoding_rs::Encoding::for_label_no_replacement(label.as_bytes());
        known.map(Self)
    }

    /// Its name in the standard, such as `UTF-8` or `windows-1252`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether its code units have two bytes.
    pub(crate) fn is_utf_16(self) -> bool {
        self.0 == encoding_rs::UTF_16LE || self.0 == encoding_rs::UTF_16BE
    }

    /// Encodes `text`.
    ///
    /// # Errors
    /// [`Error::Unwritable`] when the encoding lacks a character.
    pub(crate) fn encode(self, text: &str) -> Result<Vec<u8>, Error> {
        if self.0 == encoding_rs::UTF_16LE {
            return Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        }
        if self.0 == encoding_rs::UTF_16BE {
            return Ok(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        }
        match self.0.encode(text) {
            (bytes, _, false) => Ok(bytes.into_owned()),
            _ => Err(Error::Unwritable("a cell has a character that the encoding of the file does not have")),
        }
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The evidence for an encoding; the page shows a note for [`Self::Guessed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It was chosen.
    Given,
    /// The file starts with its byte order mark.
    Mark,
    /// The bytes are valid in it, or nearly all of them (UTF-8).
    Valid,
    /// Every second byte is 0, as in UTF-16.
    Pattern,
    /// The bytes are not UTF-8, and this is the most likely encoding.
    Guessed,
}

/// Guesses the encoding of a text from its first bytes. `whole`: nothing follows.
pub(crate) fn guess(head: &[u8], whole: bool) -> (Encoding, Evidence) {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(head) {
        return (Encoding(encoding), Evidence::Mark);
    }
    if head.starts_with(GB18030_MARK) {
        return (Encoding(encoding_rs::GB18030), Evidence::Mark);
    }
    if let Some(encoding) = guess_utf_16(head) {
        return (Encoding(encoding), Evidence::Pattern);
    }
    match std::str::from_utf8(head) {
        Ok(_) => (Encoding::UTF_8, Evidence::Valid),
        // The last character is incomplete.
        Err(error) if error.error_len().is_none() && !whole => (Encoding::UTF_8, Evidence::Valid),
        Err(_) if is_mostly_utf_8(head) => (Encoding::UTF_8, Evidence::Valid),
        Err(_) => (guess_legacy(head, whole), Evidence::Guessed),
    }
}

/// Whether there are at most as many invalid bytes as characters beyond ASCII: in other encodings valid sequences of
/// UTF-8 rarely occur by chance.
fn is_mostly_utf_8(head: &[u8]) -> bool {
    let (mut right, mut wrong) = (0, 0);
    for chunk in head.utf8_chunks() {
        right += chunk.valid().chars().filter(|character| !character.is_ascii()).count();
        wrong += usize::from(!chunk.invalid().is_empty());
    }
    right >= wrong
}

fn guess_legacy(bytes: &[u8], whole: bool) -> Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, whole);
    let guessed = legacy(&detector);
    if is_undecided(bytes, guessed) { Encoding(encoding_rs::WINDOWS_1252) } else { guessed }
}

/// With fewer bytes beyond ASCII, a guess is undecided if windows-1252 yields the same text.
const FEW: usize = 16;

/// Whether there is so little evidence that the most common encoding of the same characters is as likely, and more
/// likely for the rest of the file.
fn is_undecided(bytes: &[u8], guessed: Encoding) -> bool {
    let beyond = bytes.iter().filter(|byte| !byte.is_ascii()).take(FEW).count();
    let is_other = guessed.0.is_single_byte() && guessed.0 != encoding_rs::WINDOWS_1252;
    let text = |encoding: &'static encoding_rs::Encoding| encoding.decode_without_bom_handling(bytes).0;
    is_other && beyond < FEW && text(guessed.0) == text(encoding_rs::WINDOWS_1252)
}

/// The most likely encoding of bytes that are not UTF-8, according to the detector; windows-1252 without other
/// evidence.
pub(crate) fn legacy(detector: &EncodingDetector) -> Encoding {
    Encoding(detector.guess(None, Utf8Detection::Deny))
}

/// UTF-16 without a byte order mark: the ASCII characters of a table (at least its delimiters and line breaks) have a 0
/// always on the same side, and other text contains no 0.
fn guess_utf_16(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let (pairs, _) = head.as_chunks::<2>();
    let zeros = |side: usize| pairs.iter().filter(|pair| pair[side] == 0).count();
    let (high_first, low_first) = (zeros(0), zeros(1));
    // A single NUL in a text of one-byte characters proves nothing.
    let enough = (pairs.len() / 64).max(2);
    match (high_first, low_first) {
        (_, zeros) if zeros >= enough && high_first * 20 < zeros => Some(encoding_rs::UTF_16LE),
        (zeros, _) if zeros >= enough && low_first * 20 < zeros => Some(encoding_rs::UTF_16BE),
        _ => None,
    }
}

/// Converts the bytes of a file to UTF-8, incrementally.
pub(crate) enum Decoder {
    /// They are UTF-8; invalid bytes are replaced when they are displayed.
    Utf8(Utf8Check),
    /// They are decoded.
    Other(Box<encoding_rs::Decoder>),
}

/// Checks that the bytes are UTF-8.
#[derive(Default)]
pub(crate) struct Utf8Check {
    /// The first bytes of an incomplete character.
    cut: Vec<u8>,
    /// Whether there was a valid character beyond ASCII.
    beyond_ascii: bool,
    /// Whether there were invalid bytes.
    invalid: bool,
}

impl Decoder {
    /// A decoder that starts at the start of a text and drops its byte order mark. (UTF-8 passes unchanged; its reader
    /// skips the mark.)
    pub(crate) fn new(encoding: Encoding) -> Self {
        if encoding == Encoding::UTF_8 {
            Self::Utf8(Utf8Check::default())
        } else {
            Self::Other(Box::new(encoding.0.new_decoder_with_bom_removal()))
        }
    }

    /// Decodes `bytes` and passes UTF-8 to `sink`. Returns whether all of them were valid.
    pub(crate) fn decode(
        &mut self,
        bytes: &[u8],
        last: bool,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let decoder = match self {
            Self::Utf8(check) => {
                check.pass(bytes, last);
                sink(bytes)?;
                return Ok(!check.invalid);
            }
            Self::Other(decoder) => decoder,
        };
        let (mut rest, mut all) = (bytes, true);
        let mut buffer = vec![0; 32 << 10];
        loop {
            let (result, read, written, replaced) = decoder.decode_to_utf8(rest, &mut buffer, last);
            all &= !replaced;
            sink(&buffer[..written])?;
            rest = &rest[read..];
            if result == encoding_rs::CoderResult::InputEmpty {
                break;
            }
        }
        if last {
            // A growing file may continue after its end.
            **decoder = decoder.encoding().new_decoder_without_bom_handling();
        }
        Ok(all)
    }

    /// Whether the text was ASCII so far and its first character beyond ASCII is not UTF-8: then the text has another
    /// encoding.
    pub(crate) fn is_refuted_by(&self, bytes: &[u8]) -> bool {
        let Self::Utf8(check) = self else { return false };
        if check.beyond_ascii || check.cut.is_empty() && bytes.is_ascii() {
            return false;
        }
        let start =
            if check.cut.is_empty() { bytes.iter().position(|byte| !byte.is_ascii()) } else { Some(0) };
        let rest = &bytes[start.unwrap_or(0)..];
        let first = [&check.cut, &rest[..rest.len().min(4)]].concat();
        std::str::from_utf8(&first)
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_some())
    }
}

impl Utf8Check {
    fn pass(&mut self, mut bytes: &[u8], last: bool) {
        if self.cut.is_empty() && bytes.is_ascii() {
            return;
        }
        while !self.cut.is_empty() && !bytes.is_empty() {
            self.cut.push(bytes[0]);
            match std::str::from_utf8(&self.cut) {
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    // The byte that does not belong to the character may start the next one.
                    self.invalid = true;
                    self.cut.clear();
                    continue;
                }
                Ok(_) => {
                    self.beyond_ascii = true;
                    self.cut.clear();
                }
            }
            bytes = &bytes[1..];
        }
        loop {
            // As in the standard library, with wider vectors if the processor has them.
            let valid = encoding_rs::Encoding::utf8_valid_up_to(bytes);
            self.beyond_ascii = self.beyond_ascii || !bytes[..valid].is_ascii();
            bytes = &bytes[valid..];
            let Some(length) = std::str::from_utf8(bytes).err().and_then(|error| error.error_len()) else {
                self.cut.extend_from_slice(bytes);
                break;
            };
            self.invalid = true;
            bytes = &bytes[length..];
        }
        if last && !self.cut.is_empty() {
            self.invalid = true;
            self.cut.clear();
        }
    }
}

/// The byte order mark in UTF-8.
pub(crate) const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The byte order mark in GB18030, which its decoder does not drop.
const GB18030_MARK: &[u8] = b"\x84\x31\x95\x33";

/// The length of the byte order marks at the start of this UTF-8; 0 without one. (Programs that add a mark to a text
/// with a mark produce two.)
pub(crate) fn mark(text: &[u8]) -> usize {
    let mut length = 0;
    while text[length..].starts_with(MARK) {
        length += MARK.len();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_letters_that_windows_1252_also_has_are_decoded_as_windows_1252() {
        let guess = |text: &[u8]| guess_legacy(text, true).0.name();
        assert_eq!(guess(b"name;city\nJos\xE9;M\xE1laga\n"), "windows-1252");
        // Letters that it lacks, or decodes differently.
        for encoding in [encoding_rs::WINDOWS_1250, encoding_rs::WINDOWS_1251] {
            let text = match encoding.name() {
                "windows-1250" => "jméno;město\nJiří Dvořák;České Budějovice\nŽofie Šťastná;Plzeň\n",
                _ => "имя;город\nМария;Москва\nАлексей;Нижний Новгород\n",
            };
            assert_eq!(guess(&encoding.encode(text).0), encoding.name());
        }
    }
}
