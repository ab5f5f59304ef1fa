//! Case folding of text for searches: compatibility forms, ligatures, decomposed accents, case, and kinds of spaces are
//! equal (NFKC and case folding, Unicode Standard Annex 15 and §3.13); on request also letters with and without accents.
//!
//! Folding every cell would make a search ten times slower. So most characters are classified as *stable*: they fold to
//! their own lower case in every context, and a case-insensitive regular expression finds them in place. Only text with
//! other characters is folded.

use unicode_normalization::UnicodeNormalization;

/// The forms of a text that are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Folding {
    /// Case, compatibility forms, spaces.
    #[default]
    Case,
    /// Also accents: marks of Latin, Greek and Cyrillic letters, vowel signs of Hebrew and Arabic, and letters with a
    /// stroke (`ø`, `ł`, `æ`). Kana with and without a voicing mark are different.
    Accents,
}

/// A folded text to search for.
#[derive(Clone, Debug)]
pub struct Needle {
    folding: Folding,
    characters: Vec<char>,
    /// The borders of the Knuth–Morris–Pratt algorithm (1977): for each length of a failed match, the length to
    /// continue with.
    borders: Vec<usize>,
}

impl Needle {
    /// A search for this text.
    pub fn new(text: &str, folding: Folding) -> Self {
        let characters: Vec<char> = fold(text, folding).collect();
        let mut borders = vec![0; characters.len()];
        let mut length = 0;
        for i in 1..characters.len() {
            while length > 0 && characters[i] != characters[length] {
                length = borders[length - 1];
            }
            length += usize::from(characters[i] == characters[length]);
            borders[i] = length;
        }
        Self { folding, characters, borders }
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
            fold(chunk.valid(), self.folding).any(|character| {
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
fn fold(text: &str, folding: Folding) -> impl Iterator<Item = char> {
    let with_accents = (folding == Folding::Case).then(|| text.nfkc());
    // Composed again, because syllables of Hangul decompose as well.
    let without = (folding == Folding::Accents).then(|| text.nfkd().filter(|mark| !is_accent(*mark)).nfc());
    let characters = with_accents.into_iter().flatten().chain(without.into_iter().flatten());
    characters.filter(|character| !is_ignorable(*character)).flat_map(move |character| {
        let (first, rest) = match character {
            'ß' | 'ẞ' => ('s', Some('s')),
            'ς' => ('σ', None),
            'İ' => ('i', Some('\u{307}')),
            _ => {
                let mut lower = character.to_lowercase();
                (lower.next().unwrap_or(character), lower.next())
            }
        };
        let (first, rest) = match (folding, first) {
            (Folding::Accents, 'ø') => ('o', rest),
            (Folding::Accents, 'ł') => ('l', rest),
            (Folding::Accents, 'đ' | 'ð') => ('d', rest),
            (Folding::Accents, 'ħ') => ('h', rest),
            (Folding::Accents, 'ŧ') => ('t', rest),
            (Folding::Accents, 'ı') => ('i', rest),
            (Folding::Accents, 'æ') => ('a', Some('e')),
            (Folding::Accents, 'œ') => ('o', Some('e')),
            (Folding::Accents, 'þ') => ('t', Some('h')),
            _ => (first, rest),
        };
        std::iter::once(first).chain(rest)
    })
}

/// Combining marks of Latin, Greek and Cyrillic letters; points and vowel signs of Hebrew and Arabic.
const fn is_accent(character: char) -> bool {
    matches!(
        character,
        '\u{300}'..='\u{36F}'
            | '\u{483}'..='\u{487}'
            | '\u{591}'..='\u{5BD}'
            | '\u{5BF}' | '\u{5C1}' | '\u{5C2}' | '\u{5C4}' | '\u{5C5}' | '\u{5C7}'
            | '\u{610}'..='\u{61A}'
            | '\u{64B}'..='\u{65F}' | '\u{670}'
            | '\u{6D6}'..='\u{6DC}' | '\u{6DF}'..='\u{6E4}' | '\u{6E7}' | '\u{6E8}' | '\u{6EA}'..='\u{6ED}'
            | '\u{1AB0}'..='\u{1AFF}'
            | '\u{1DC0}'..='\u{1DFF}'
            | '\u{20D0}'..='\u{20FF}'
            | '\u{FE20}'..='\u{FE2F}'
    )
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
    if next_unstable(cell, 0, Folding::Case).is_none() {
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
pub fn next_unstable(bytes: &[u8], mut at: usize, folding: Folding) -> Option<usize> {
    loop {
        at += first_beyond_ascii(&bytes[at..])?;
        while let Some(&lead) = bytes.get(at)
            && !lead.is_ascii()
        {
            let length = stable(&bytes[at..], lead, folding);
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
fn stable(bytes: &[u8], lead: u8, folding: Folding) -> usize {
    let is_stable = |code| is_stable(code) && (folding == Folding::Case || !has_accent(code));
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

/// Whether a stable character may fold to another letter without its accent.
const fn has_accent(code: u32) -> bool {
    match code {
        // Signs, Greek and Cyrillic letters without accents, Hebrew and Arabic letters without marks.
        0xA1..=0xBF | 0x391..=0x3A9 | 0x3B1..=0x3C9 => false,
        0x410..=0x418 | 0x41A..=0x438 | 0x43A..=0x44F => false,
        0x5D0..=0x5EA | 0x621 | 0x627..=0x64A => false,
        // Punctuation, kana, Han, Hangul, pictographs.
        0x2010..=0x20AC | 0x3001..=0x1_FAFF => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::char::canonical_combining_class;

    use super::*;

    fn folded(text: &str) -> String {
        fold(text, Folding::Case).collect()
    }

    fn is_in(needle: &str, cell: &str, folding: Folding) -> bool {
        Needle::new(needle, folding).is_in(cell.as_bytes())
    }

    #[test]
    fn a_character_without_an_accent_folds_to_its_lower_case_in_every_context() {
        let is_plain = |code: &u32| is_stable(*code) && !has_accent(*code);
        for character in (0x80..=0x1_FFFF).filter(is_plain).filter_map(char::from_u32) {
            for before in ["", "e", "가", "か", "ا"] {
                let pair = format!("{before}{character}");
                let without: String = fold(&pair, Folding::Accents).collect();
                assert_eq!(without, folded(&pair), "{character:?}");
            }
        }
    }

    #[test]
    fn without_accents_a_text_is_found_in_every_form() {
        for (needle, cell) in [
            ("cafe", "CAFÉ au lait"),
            ("café", "Cafe"),
            ("cafe", "cafe\u{301}"),
            ("Zurich", "Zürich"),
            ("sao paulo", "São\u{A0}Paulo"),
            ("lodz", "Łódź"),
            ("malmo", "MALMÖ"),
            ("kobenhavn", "København"),
            ("aero", "Ærø"),
            ("istanbul", "İstanbul"),
            ("nguyen", "Nguyễn"),
            ("αθηνα", "Αθήνα"),
            ("елка", "Ёлка"),
            ("שלום", "שָׁלוֹם"),
            ("احمد", "أَحْمَد"),
            ("각", "\u{1100}\u{1161}\u{11A8}"),
        ] {
            assert!(is_in(needle, cell, Folding::Accents), "{needle} in {cell}");
        }
        for (needle, cell) in [("가", "각"), ("か", "が"), ("cafe", "caff")] {
            assert!(!is_in(needle, cell, Folding::Accents), "{needle} in {cell}");
        }
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
            assert!(is_in(needle, cell, Folding::Case), "{needle} in {cell}");
        }
        for (needle, cell) in [("cafe", "café"), ("e\u{301}", "e"), ("ab", "a\u{301}b"), ("x", "")] {
            assert!(!is_in(needle, cell, Folding::Case), "{needle} in {cell}");
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
            prop_assert_eq!(is_in(&needle, &cell, Folding::Case), folded(&cell).contains(&folded(&needle)));
        }

        #[test]
        fn an_unstable_character_is_found_at_its_position(
            start in "[a-z äЖ漢]{0,150}",
            odd in prop::sample::select(vec!["", "\u{301}", "\u{A0}", "ß", "ﬁ", "𝐀"]),
            end in "[a-z äЖ漢]{0,150}",
        ) {
            let text = format!("{start}{odd}{end}");
            prop_assert_eq!(next_unstable(text.as_bytes(), 0, Folding::Case), (!odd.is_empty()).then_some(start.len()));
        }
    }
}
