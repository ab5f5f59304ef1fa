//! Case folding of text for searches: compatibility forms, ligatures, decomposed accents, case, and kinds of spaces are
//! equal (NFKC and case folding, Unicode Standard Annex 15 and §3.13).
//!
//! Folding every cell would make a search ten times slower. So most characters are classified as *stable*: they fold to
//! their own lower case in every context, and a case-insensitive regular expression finds them in place. Only text with
//! other characters is folded.

use unicode_normalization::UnicodeNormalization;

/// A folded text to search for.
#[derive(Clone, Debug)]
pub struct Needle {
    characters: Vec<char>,
    /// The borders of the Knuth–Morris–Pratt algorithm (1977): for each length of a failed match, the length to
    /// continue with.
    borders: Vec<usize>,
}

impl Needle {
    /// A search for this text.
    pub fn new(text: &str) -> Self {
        let characters: Vec<char> = fold(text).collect();
        let mut borders = vec![0; characters.len()];
        let mut length = 0;
        for i in 1..characters.len() {
            while length > 0 && characters[i] != characters[length] {
                length = borders[length - 1];
            }
            length += usize::from(characters[i] == characters[length]);
            borders[i] = length;
        }
        Self { characters, borders }
    }

    /// The folded text.
    pub fn text(&self) -> String {
        self.characters.iter().collect()
    }

    /// Whether `cell` contains it after folding. Bytes that are not UTF-8 match no character.
    pub fn is_in(&self, cell: &[u8]) -> bool {
        if self.characters.is_empty() {
            return true;
        }
        cell.utf8_chunks().any(|chunk| {
            let mut length = 0;
            fold(chunk.valid()).any(|character| {
                while length > 0 && character != self.characters[length] {
                    length = self.borders[length - 1];
                }
                length += usize::from(character == self.characters[length]);
                length == self.characters.len()
            })
        })
    }
}

/// The characters of a text after folding.
fn fold(text: &str) -> impl Iterator<Item = char> {
    text.nfkc().filter(|character| !is_ignorable(*character)).flat_map(|character| {
        let (first, rest) = match character {
            'ß' | 'ẞ' => ('s', Some('s')),
            'ς' => ('σ', None),
            'İ' => ('i', Some('\u{307}')),
            _ => {
                let mut lower = character.to_lowercase();
                (lower.next().unwrap_or(character), lower.next())
            }
        };
        std::iter::once(first).chain(rest)
    })
}

/// `text` with composed accents (NFC) and one kind of space, for `equals`.
pub fn compose(text: &str) -> String {
    let spaces = |character| if is_odd_space(character) { ' ' } else { character };
    text.nfc().map(spaces).collect()
}

/// Whether the composed form of a cell is `text`.
pub fn is_composed(cell: &[u8], text: &[u8]) -> bool {
    if cell == text {
        return true;
    }
    // A cell of stable characters is already composed.
    if next_unstable(cell, 0).is_none() {
        return false;
    }
    std::str::from_utf8(cell).is_ok_and(|cell| {
        let composed = cell.nfc().map(|character| if is_odd_space(character) { ' ' } else { character });
        std::str::from_utf8(text).is_ok_and(|text| composed.eq(text.chars()))
    })
}

/// Invisible characters: soft hyphens, joiners, byte order marks.
const fn is_ignorable(character: char) -> bool {
    matches!(character, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

const fn is_odd_space(character: char) -> bool {
    matches!(character, '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}')
}

/// The position of the first byte from `at` on that is in an unstable character or not UTF-8.
pub fn next_unstable(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += first_beyond_ascii(&bytes[at..])?;
        while let Some(&lead) = bytes.get(at)
            && !lead.is_ascii()
        {
            let length = stable(&bytes[at..], lead);
            if length == 0 {
                return Some(at);
            }
            at += length;
        }
    }
}

/// The position of the first byte beyond ASCII.
fn first_beyond_ascii(bytes: &[u8]) -> Option<usize> {
    /// Long enough for vectorization.
    const STEP: usize = 64;
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let whole = steps
        .iter()
        .position(|step| step.iter().fold(0, |all, byte| all | byte) >= 0x80)
        .unwrap_or(steps.len());
    let start = whole * STEP;
    let after = if whole < steps.len() { &steps[whole][..] } else { rest };
    after.iter().position(|byte| !byte.is_ascii()).map(|place| start + place)
}

/// The length of the stable character beyond ASCII at the start of `bytes`, with the first byte `lead`; 0 if there is
/// none.
fn stable(bytes: &[u8], lead: u8) -> usize {
    let continuation =
        |i: usize| bytes.get(i).filter(|byte| **byte & 0xC0 == 0x80).map(|byte| u32::from(byte & 0x3F));
    match lead {
        0xC2..=0xDF => match continuation(1) {
            Some(low) if is_stable(u32::from(lead & 0x1F) << 6 | low) => 2,
            _ => 0,
        },
        0xE0..=0xEF => match (continuation(1), continuation(2)) {
            (Some(middle), Some(low)) if is_stable(u32::from(lead & 0xF) << 12 | middle << 6 | low) => 3,
            _ => 0,
        },
        0xF0 => match (continuation(1), continuation(2), continuation(3)) {
            (Some(high), Some(middle), Some(low)) if is_stable(high << 12 | middle << 6 | low) => 4,
            _ => 0,
        },
        _ => 0,
    }
}

/// Whether a character beyond ASCII is in the list of stable characters, which covers the most common scripts.
const fn is_stable(code: u32) -> bool {
    match code {
        // Latin, except ß, İ, ĳ, ŀ, ŉ and ſ.
        0xC0..=0xDE | 0xE0..=0x12F | 0x131 | 0x134..=0x13E | 0x141..=0x148 | 0x14A..=0x17E => true,
        // Signs of Latin-1, except spaces, fractions, superscript digits and accents.
        0xA1..=0xA7 | 0xA9 | 0xAB..=0xAC | 0xAE | 0xB0..=0xB1 | 0xB6..=0xB7 | 0xBB | 0xBF => true,
        // Greek and Cyrillic.
        0x391..=0x3A1 | 0x3A3..=0x3AF | 0x3B1..=0x3CE | 0x400..=0x481 | 0x48A..=0x52F => true,
        // Hebrew and Arabic letters.
        0x5D0..=0x5EA | 0x621..=0x63A | 0x641..=0x64A => true,
        // Latin of Vietnamese and other languages.
        0x1E00..=0x1E95 | 0x1EA0..=0x1EFF => true,
        // Dashes and quotes; the euro sign.
        0x2010 | 0x2012..=0x2015 | 0x2018..=0x201F | 0x2022 | 0x20AC => true,
        // Kana, Han and Hangul, and their punctuation.
        0x3001..=0x3003 | 0x3005..=0x3007 | 0x300C..=0x300F | 0x3041..=0x3096 | 0x30A1..=0x30FE => true,
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7A3 => true,
        // Pictographs.
        0x1F300..=0x1FAFF => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::char::canonical_combining_class;

    use super::*;

    fn folded(text: &str) -> String {
        fold(text).collect()
    }

    #[test]
    fn a_stable_character_folds_to_its_lower_case_in_every_context() {
        for character in (0x80..=0x1_FFFF).filter(|code| is_stable(*code)).filter_map(char::from_u32) {
            let alone = character.to_string();
            assert_eq!(alone.nfkc().collect::<String>(), alone, "{character:?}");
            assert_eq!(canonical_combining_class(character), 0, "{character:?}");
            for before in ["e", "가", "か", "ا"] {
                let pair = format!("{before}{character}");
                assert_eq!(pair.nfkc().collect::<String>(), pair, "{character:?}");
            }
            let lower = folded(&alone);
            assert_eq!(lower.chars().count(), 1, "{character:?}");
            // A case-insensitive regular expression matches exactly the characters with the same folded form.
            let pattern = regex::Regex::new(&format!("(?i)^{}$", regex::escape(&lower))).unwrap();
            assert!(pattern.is_match(&alone), "{character:?}");
            for other in character.to_uppercase().chain(character.to_lowercase()) {
                if other.is_ascii() || is_stable(other as u32) {
                    let other = other.to_string();
                    assert_eq!(pattern.is_match(&other), folded(&other) == lower, "{character:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn all_forms_of_a_text_are_found() {
        for (needle, cell) in [
            ("café", "CAFE\u{301}"),
            ("cafe\u{301}", "Café au lait"),
            ("new york", "New\u{A0}York"),
            ("new\u{202F}york", "New York"),
            ("zürich", "Zu\u{308}rich"),
            ("strasse", "Hauptstraße"),
            ("STRASSE", "straße"),
            ("straße", "STRASSE"),
            ("fi", "ﬁnd"),
            ("abc", "ＡＢＣ"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("ガ", "ｶﾞ"),
            ("가", "\u{1100}\u{1161}"),
            ("co-op", "co\u{AD}-op"),
            ("2", "m²"),
            ("", ""),
        ] {
            assert!(Needle::new(needle).is_in(cell.as_bytes()), "{needle} in {cell}");
        }
        for (needle, cell) in [("cafe", "café"), ("e\u{301}", "e"), ("ab", "a\u{301}b"), ("x", "")] {
            assert!(!Needle::new(needle).is_in(cell.as_bytes()), "{needle} in {cell}");
        }
        assert!(is_composed("cafe\u{301}".as_bytes(), compose("café").as_bytes()));
        assert!(is_composed("New\u{A0}York".as_bytes(), compose("New York").as_bytes()));
        assert!(!is_composed("café".as_bytes(), compose("cafe").as_bytes()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_needle_is_found_where_the_standard_library_finds_it(
            cell in "[aAbé\u{301}eßsK ﬁf\u{A0}]{0,12}",
            needle in "[aAbé\u{301}eßsK ﬁi]{0,4}",
        ) {
            prop_assert_eq!(Needle::new(&needle).is_in(cell.as_bytes()), folded(&cell).contains(&folded(&needle)));
        }

        #[test]
        fn an_unstable_character_is_found_at_its_position(
            start in "[a-z äЖ漢]{0,150}",
            odd in prop::sample::select(vec!["", "\u{301}", "\u{A0}", "ß", "ﬁ", "𝐀"]),
            end in "[a-z äЖ漢]{0,150}",
        ) {
            let text = format!("{start}{odd}{end}");
            prop_assert_eq!(next_unstable(text.as_bytes(), 0), (!odd.is_empty()).then_some(start.len()));
        }
    }
}
