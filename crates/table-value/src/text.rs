//! The order of text: by base letters without case; accents and case decide between equal letters.
//!
//! A key has two levels. The first contains the letters in lower case and without accents; the second orders texts that
//! are equal in the first, lower case first. It is short for ASCII text, the most frequent kind: the second level is
//! then one byte, or one bit per character.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::is_space;

/// Precedes the complete text, if more than case distinguishes it from the first level: above all bytes of [`CASES`].
const WHOLE: u8 = 0xF0;

/// A byte of the second level with the case of six characters.
const CASES: u8 = 0x80;

/// Appends a key that compares like the text. No key is a prefix of a different one.
///
/// `natural`: numbers within the text are compared by value, `file2` before `file10`.
pub fn write_key(text: &[u8], natural: bool, out: &mut Vec<u8>) {
    if text.is_ascii() && !natural {
        let start = out.len();
        write_escaped(text, out);
        out[start..].make_ascii_lowercase();
        out.push(0);
        return write_cases(text, out);
    }
    let mut base = Vec::with_capacity(text.len());
    write_base(text, &mut base);
    let has_zeros = natural && write_natural(&base, out);
    if !natural {
        write_escaped(&base, out);
    }
    out.push(0);
    if text.is_ascii() && !has_zeros {
        return write_cases(text, out);
    }
    out.push(WHOLE);
    write_escaped(text, out);
    out.push(0);
}

/// Appends text in a form in which 0 can mark the end: 0 becomes 1 1, and 1 becomes 1 2.
fn write_escaped(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(low) = memchr::memchr2(0, 1, text) {
        out.extend_from_slice(&text[..low]);
        out.extend_from_slice(&[1, text[low] + 1]);
        text = &text[low + 1..];
    }
    out.extend_from_slice(text);
}

/// Appends the case of the characters of an ASCII text.
fn write_cases(text: &[u8], out: &mut Vec<u8>) {
    if let Some(last) = text.iter().rposition(u8::is_ascii_uppercase) {
        for six in text[..=last].chunks(6) {
            let bits = six
                .iter()
                .enumerate()
                .fold(0, |bits, (i, byte)| bits | u8::from(byte.is_ascii_uppercase()) << (5 - i));
            out.push(CASES | bits);
        }
    }
    out.push(0);
}

/// Appends the base letters of a text in lower case.
fn write_base(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().nfd() {
            match character {
                '\0'..='\x7F' => out.push(character.to_ascii_lowercase() as u8),
                'ß' | 'ẞ' => out.extend_from_slice(b"ss"),
                'æ' | 'Æ' => out.extend_from_slice(b"ae"),
                'œ' | 'Œ' => out.extend_from_slice(b"oe"),
                'ø' | 'Ø' => out.push(b'o'),
                'đ' | 'Đ' | 'ð' | 'Ð' => out.push(b'd'),
                'ł' | 'Ł' => out.push(b'l'),
                'þ' | 'Þ' => out.extend_from_slice(b"th"),
                'ı' => out.push(b'i'),
                _ if is_combining_mark(character) => {}
                _ if is_space(character) => out.push(b' '),
                _ => {
                    let lower = character.to_lowercase();
                    lower
                        .for_each(|letter| out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()));
                }
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
}

/// Appends a text in which each run of digits is replaced by `0`, the number of its digits without leading zeros, and
/// these digits. Returns whether there were leading zeros.
fn write_natural(mut text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut has_zeros = false;
    while let Some(start) = text.iter().position(u8::is_ascii_digit) {
        write_escaped(&text[..start], out);
        let length = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let run = &text[start..start + length];
        let digits = &run[run.iter().take_while(|byte| **byte == b'0').count()..];
        has_zeros |= digits.len() < length && length > 1;
        out.push(b'0');
        match u8::try_from(digits.len()) {
            Ok(count) if count < u8::MAX => out.push(count),
            _ => {
                out.push(u8::MAX);
                out.extend_from_slice(&(digits.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(digits);
        text = &text[start + length..];
    }
    write_escaped(text, out);
    has_zeros
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str, natural: bool) -> Vec<u8> {
        let mut key = Vec::new();
        write_key(text.as_bytes(), natural, &mut key);
        key
    }

    fn sorted<'a>(texts: &[&'a str], natural: bool) -> Vec<&'a str> {
        let mut texts = texts.to_vec();
        texts.sort_by_key(|text| key(text, natural));
        texts
    }

    #[test]
    fn case_and_accents_decide_last() {
        let order = [
            "", "a", "A", "á", "ab", "aB", "Ab", "AB", "apple", "Apple", "APPLE", "b", "Éclair", "eclairs",
            "z", "Zebra",
        ];
        let mut shuffled = order.to_vec();
        shuffled.reverse();
        assert_eq!(sorted(&shuffled, false), order);
        assert_eq!(
            sorted(&["öl", "Zahn", "ol", "Strasse", "Straße", "strassen"], false),
            ["ol", "öl", "Strasse", "Straße", "strassen", "Zahn"]
        );
    }

    #[test]
    fn natural_order_compares_numbers_within_text_by_value() {
        assert_eq!(
            sorted(&["file10", "file2", "File3", "file1"], true),
            ["file1", "file2", "File3", "file10"]
        );
        assert_eq!(
            sorted(&["file10", "file2", "File3", "file1"], false),
            ["file1", "file10", "file2", "File3"]
        );
        assert_eq!(
            sorted(&["v1.10", "v1.9", "v1.09", "v1", "v01.1"], true),
            ["v1", "v01.1", "v1.9", "v1.09", "v1.10"]
        );
        assert_eq!(sorted(&["a", "a0", "a00", "a1", "a:", "a/"], true), ["a", "a/", "a0", "a00", "a1", "a:"]);
    }

    /// The reference order: base letters, then the second level.
    fn reference_order(a: &str, b: &str) -> Ordering {
        let base = |text: &str| {
            let letters =
                text.nfd().filter(|letter| !is_combining_mark(*letter)).collect::<String>().to_lowercase();
            letters.replace('\u{A0}', " ").into_bytes()
        };
        let second = |text: &str| match text.is_ascii() {
            true => (false, text.bytes().map(|byte| byte.is_ascii_uppercase()).collect(), Vec::new()),
            false => (true, Vec::new(), text.as_bytes().to_vec()),
        };
        base(a).cmp(&base(b)).then_with(|| second(a).cmp(&second(b)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn keys_compare_like_texts(a in "[a-cA-C0-3éÉe\u{301}ü\\x00\\x01 \u{A0}]{0,7}", b in "[a-cA-C0-3éÉe\u{301}ü\\x00\\x01 \u{A0}]{0,7}") {
            for natural in [false, true] {
                let (key_a, key_b) = (key(&a, natural), key(&b, natural));
                prop_assert!(a == b || !key_a.starts_with(&key_b) && !key_b.starts_with(&key_a), "{:?} {:?}", a, b);
            }
            prop_assert_eq!(key(&a, false).cmp(&key(&b, false)), reference_order(&a, &b));
        }
    }
}
