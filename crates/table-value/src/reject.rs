//! Rejects cells that cannot be amounts, dates or words for missing values, by their bytes.
//!
//! Most cells of text columns are rejected here within a few bytes, without a check of their encoding. Bytes beyond ASCII
//! are left to the parsers.
//!
//! Invariant: the parsers accept no rejected cell. Tests compare both on random cells.

/// What a byte may be in an amount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Digit,
    /// Occurs between the first digit and the last one, too: a decimal mark or a separator of groups.
    Separator,
    /// Occurs in a currency, or marks an exponent.
    Letter,
    /// Occurs before the first digit and after the last one: a sign.
    Sign,
    /// Occurs in no number and in no amount.
    Never,
    /// Part of a character beyond ASCII.
    Beyond,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Never; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            // Numbers may have white space around them.
            b'.' | b',' | b' ' | b'\t' | b'\n' | b'\r' | b'\x0C' | b'\'' => Class::Separator,
            b'A'..=b'Z' | b'e' | b'i' | b'k' | b'l' | b'n' | b'r' | b's' | b't' | b'z' => Class::Letter,
            b'+' | b'-' | b'(' | b')' | b'%' | b'$' => Class::Sign,
            0x80..=0xFF => Class::Beyond,
            _ => Class::Never,
        };
        byte += 1;
    }
    classes
};

/// The most ASCII letters of a number: those of a currency.
const LETTERS: usize = 3;

/// Whether `cell` may be an amount: it has a digit, only separators between its first and last digit, and few letters.
pub(crate) fn may_be_amount(cell: &[u8]) -> bool {
    let (mut has_digit, mut has_ended, mut letters) = (false, false, 0);
    for byte in cell {
        match CLASSES[*byte as usize] {
            Class::Digit if has_ended => return false,
            Class::Digit => has_digit = true,
            Class::Separator => {}
            Class::Sign => has_ended = has_digit,
            Class::Letter => {
                letters += 1;
                has_ended = has_digit;
                if letters > LETTERS {
                    return false;
                }
            }
            Class::Never => return false,
            Class::Beyond => return cell.iter().any(u8::is_ascii_digit),
        }
    }
    has_digit
}

/// Whether `cell` is text for a reason that takes a few bytes to find: [`Kind::Text`](crate::Kind::Text) with any decimal
/// mark, and a date in no order. Other cells may be text, too.
#[inline]
pub fn is_surely_text(cell: &[u8]) -> bool {
    /// The longest word for a boolean or a missing value, in bytes.
    const WORD: usize = 8;
    let mut letters = 0;
    let is_no_number = cell.iter().any(|byte| match CLASSES[*byte as usize] {
        Class::Never => true,
        Class::Letter => {
            letters += 1;
            letters > LETTERS
        }
        _ => false,
    });
    is_no_number
        && (cell.len() > WORD || crate::boolean(cell).is_none())
        && !crate::is_missing(cell)
        && !may_be_date(cell)
}

/// Whether `cell` may be a date or a time: it begins with the name of a month or of a day of the week, or with a number of
/// up to four digits before a separator.
pub(crate) fn may_be_date(cell: &[u8]) -> bool {
    let blank = cell.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let cell = &cell[blank..];
    match cell {
        [b'0'..=b'9', ..] => {
            let length = cell.iter().take(5).take_while(|byte| byte.is_ascii_digit()).count();
            let separator = cell.get(length);
            length <= 4
                && separator.is_none_or(|byte| {
                    matches!(byte, b'-' | b'/' | b'.' | b':' | b' ' | b'\t') || !byte.is_ascii()
                })
        }
        [a @ (b'a'..=b'z' | b'A'..=b'Z'), b, c, ..] => {
            let is_name = matches!(
                [a, b, c].map(u8::to_ascii_lowercase),
                [b'j', b'a', b'n']
                    | [b'j', b'u', b'n' | b'l']
                    | [b'f', b'e', b'b']
                    | [b'm', b'a', b'r' | b'y']
                    | [b'm', b'o', b'n']
                    | [b'a', b'p', b'r']
                    | [b'a', b'u', b'g']
                    | [b's', b'e', b'p']
                    | [b's', b'a', b't']
                    | [b's', b'u', b'n']
                    | [b'o', b'c', b't']
                    | [b'n', b'o', b'v']
                    | [b'd', b'e', b'c']
                    | [b't', b'u', b'e']
                    | [b't', b'h', b'u']
                    | [b'w', b'e', b'd']
                    | [b'f', b'r', b'i']
            );
            is_name && cell.iter().any(u8::is_ascii_digit)
        }
        [first, ..] => !first.is_ascii() && cell.iter().any(u8::is_ascii_digit),
        [] => false,
    }
}

/// Whether `cell`, without blanks around it, may be a sign or a word for a missing value.
pub(crate) fn may_be_missing(cell: &[u8]) -> bool {
    cell.first().is_some_and(|first| {
        matches!(
            first,
            b'n' | b'N' | b'k' | b'K' | b't' | b'T' | b'#' | b'(' | b'<' | b'\\' | b'-' | b'?' | b'.'
        ) || !first.is_ascii()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        CellValue, DateOrder, DecimalMark, Kind, MAX_CELL, MISSING, Number, amount, boolean, date, is_missing,
    };

    /// Cells in all forms of numbers, amounts and dates, and cells that resemble them.
    fn cells() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof![
            "[-+(]?(US\\$|\\$|€|EUR|kr|SFr|CHF|£)? ?[-−]?[0-9]{1,3}([,. '’\u{A0}][0-9]{2,3}){0,3}([.,][0-9]{0,3})?[-)%–]? ?(EUR|kr\\.|Kč|lei|%|руб|CA\\$)?\\)?",
            "[ \t\u{A0}]?([0-9]{1,5}|[A-Za-z]{3,9})[-/. :,]{1,2}([0-9]{1,4}|[A-Za-z]{3})([-/. ,:][0-9]{1,5})?",
            "[0-9]{4}-[0-9]{2}-[0-9]{2}([T ,]{0,2}[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{0,4})?)?)?( ?(Z|UTC|am|PM|p\\.m\\.|[-+−][0-9]{2}:?[0-9]{0,2}))?[ \u{A0}]?",
            "((Mon|Tuesday|sat|Sunday|Thur|Xyz)[,. ]{1,2})?[0-9]{1,2}(st|nd|rd|th)?[-. /]{0,2}(Jan|February|MAR|sept|Oct\\.|Decem|Foo)[-. ,/]{0,2}[0-9]{2,4}( [0-9:]{4,8}( (GMT|AM))?)?",
            "(Jan|February|mar|Sept|Dec\\.|Thursday,?) [0-9]{1,2}(st|th)?,? ?[0-9]{0,4}(,? [0-9]{1,2}:[0-9]{2} ?(am|P\\.M\\.)?)?",
            "[ -]?[0-9]{0,6}[.,]?[0-9]{0,6}([eE][-+]?[0-9]{0,3})?",
            "[0-9a-f]{1,16}",
            "[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]",
            "[ \t\r\n]?[0-9]{1,3}[ \n]?",
            "[A-Za-z0-9 $%.,:'/()+_-]{0,12}",
            "(true|YES|no|False|N/A|n\\.a\\.|–|…|#REF!|tbd|<null>|k\\. a\\.| - )",
            any::<String>(),
        ];
        prop_oneof![9 => text.prop_map(String::into_bytes), 1 => any::<Vec<u8>>()]
    }

    /// The kind and the number of a cell by the parsers alone, one after the other.
    fn by_the_parsers(cell: &[u8], decimal_mark: DecimalMark) -> (Kind, Option<Number<'_>>) {
        let plain = match cell.first() {
            None => return (Kind::Empty, None),
            Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b',' | b' ') => Number::parse_plain(cell, decimal_mark),
            Some(_) if boolean(cell).is_some() => return (Kind::Boolean, None),
            Some(_) => None,
        };
        let is_short = cell.len() <= MAX_CELL;
        let number = plain.or_else(|| amount::parse_completely(cell, decimal_mark).filter(|_| is_short));
        let is_word = || {
            let cell = cell.trim_ascii();
            MISSING.iter().any(|word| cell.eq_ignore_ascii_case(word.as_bytes()))
        };
        let orders = [DateOrder::DayFirst, DateOrder::MonthFirst];
        let is_date = || {
            orders.iter().any(|order| {
                date::read_completely(cell, *order).is_some_and(|(_, unit, _)| unit != date::Unit::Year)
            })
        };
        let kind = match number {
            Some(number) if number.is_integer() => Kind::Integer,
            Some(_) => Kind::Decimal,
            None if is_short && is_word() => Kind::Missing,
            None if is_short && is_date() => Kind::Date,
            None => Kind::Text,
        };
        (kind, number)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn cells_have_the_values_that_the_parsers_alone_give(cell in cells()) {
            for decimal_mark in [DecimalMark::Point, DecimalMark::Comma] {
                let key = |number: Option<Number<'_>>| number.map(|number| number.key());
                let (kind, value) = Kind::with_value(&cell, decimal_mark, DateOrder::DayFirst);
                let number = match value {
                    Some(CellValue::Number(number)) => Some(number),
                    Some(CellValue::Instant(_)) | None => None,
                };
                let (expected, parsed) = by_the_parsers(&cell, decimal_mark);
                prop_assert_eq!(kind, expected, "{:?}", String::from_utf8_lossy(&cell));
                prop_assert_eq!(key(number), key(parsed));
                let is_text = kind == Kind::Text;
                prop_assert!(is_text || !is_surely_text(&cell), "{:?}", String::from_utf8_lossy(&cell));
                let iso = date::parse_iso_day(&cell);
                prop_assert!(kind == Kind::Date || iso.is_none(), "{:?}", String::from_utf8_lossy(&cell));
            }
            for order in [DateOrder::DayFirst, DateOrder::MonthFirst, DateOrder::YearFirst] {
                let parsed = date::read_completely(&cell, order).filter(|_| cell.len() <= MAX_CELL);
                prop_assert_eq!(date::read(&cell, order), parsed, "{:?}", String::from_utf8_lossy(&cell));
                let (kind, value) = Kind::with_value(&cell, DecimalMark::Point, order);
                if matches!(kind, Kind::Date | Kind::Text) {
                    let instant = match value {
                        Some(CellValue::Instant(instant)) => Some(instant),
                        _ => None,
                    };
                    prop_assert_eq!(instant, date::parse(&cell, order));
                }
                let instant = date::parse(&cell, order);
                prop_assert!(instant.is_none() || !is_surely_text(&cell));
                if let Some(iso) = date::parse_iso_day(&cell) {
                    prop_assert_eq!(instant, Some(iso));
                }
            }
        }
    }

    #[test]
    fn cells_of_texts_are_found_to_be_text() {
        for cell in
            ["Berlin", "Zürich", "ready, to be checked", "3fa09b12cd45", "a73e1", "no idea", "https://a.b"]
        {
            assert!(is_surely_text(cell.as_bytes()), "{cell}");
        }
    }

    #[test]
    fn every_word_for_a_missing_value_is_found() {
        for word in MISSING {
            assert!(is_missing(word.as_bytes()) && is_missing(word.to_uppercase().as_bytes()), "{word}");
        }
    }
}
