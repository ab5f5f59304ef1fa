//! Decimal numbers as they are written, exact at any length.

use std::cmp::Ordering;

use crate::{DecimalMark, amount};

/// A decimal number of any precision, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    negative: bool,
    /// Digits, optionally grouped.
    whole: &'a [u8],
    /// Digits.
    fraction: &'a [u8],
    exponent: i32,
    is_integer: bool,
}

/// The powers of ten that a double represents exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The longest number of the most frequent form, in bytes.
const SHORT: usize = 32;

/// The largest exponent of a number, positive or negative; numbers beyond it are text.
const EXPONENT: i32 = 200;

impl<'a> Number<'a> {
    /// Parses `cell` in any form: plain ([`Self::parse_plain`]), or as an amount with a currency, a percent sign,
    /// thousands groups or accounting parentheses ([`amount`]).
    #[inline]
    pub fn parse(cell: &'a [u8], decimal_mark: DecimalMark) -> Option<Self> {
        Self::parse_plain(cell, decimal_mark).or_else(|| amount::parse(cell, decimal_mark))
    }

    /// A number of these digits. `whole` may contain group separators.
    pub(crate) const fn from_parts(
        negative: bool,
        whole: &'a [u8],
        fraction: &'a [u8],
        is_integer: bool,
    ) -> Self {
        Self { negative, whole, fraction, exponent: 0, is_integer }
    }

    /// Whether it is written without a fraction and an exponent.
    pub(crate) const fn is_integer(&self) -> bool {
        self.is_integer
    }

    /// Parses `cell` in the forms that programs write, optionally with ASCII spaces around it.
    #[inline]
    pub fn parse_plain(cell: &'a [u8], decimal_mark: DecimalMark) -> Option<Self> {
        let mark = decimal_mark.byte();
        let group = if mark == b'.' { b',' } else { b'.' };
        Self::parse_digits(cell, mark).or_else(|| Self::parse_any_plain(cell, mark, group))
    }

    /// Parses `cell` in the most frequent form: a few digits, optionally with a fraction.
    #[inline]
    fn parse_digits(cell: &'a [u8], mark: u8) -> Option<Self> {
        let length = digits(cell);
        if length == 0 || cell.len() > SHORT {
            return None;
        }
        let (whole, rest) = cell.split_at(length);
        match rest {
            [] => Some(Self::from_parts(false, whole, rest, true)),
            [first, fraction @ ..] if *first == mark && digits(fraction) == fraction.len() => {
                Some(Self::from_parts(false, whole, fraction, false))
            }
            _ => None,
        }
    }

    /// Whether `cell` is a whole number, and its nearest double, if it has the form of most numbers: a few digits,
    /// optionally with a fraction. The same as by [`Self::parse`].
    #[inline]
    pub fn short_value(cell: &'a [u8], decimal_mark: DecimalMark) -> Option<(bool, f64)> {
        /// The most digits that a double represents exactly.
        const MOST: usize = 15;
        let number = Self::parse_digits(cell, decimal_mark.byte())?;
        if number.whole.len() + number.fraction.len() > MOST {
            return None;
        }
        let digits = number.whole.iter().chain(number.fraction);
        let value = digits.fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0')) as f64;
        let is_integer = number.is_integer;
        Some((is_integer, if is_integer { value } else { value / EXACT[number.fraction.len()] }))
    }

    fn parse_any_plain(cell: &'a [u8], mark: u8, group: u8) -> Option<Self> {
        let mut rest = cell.trim_ascii();
        let negative = rest.first() == Some(&b'-');
        if let [b'+' | b'-', after @ ..] = rest {
            rest = after;
        }
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == group).count();
        let (whole, mut rest) = rest.split_at(length);
        if whole.contains(&group) && !is_grouped(whole, group) {
            return None;
        }
        let mut fraction: &[u8] = &[];
        let mut is_integer = true;
        if let [first, after @ ..] = rest
            && *first == mark
        {
            is_integer = false;
            (fraction, rest) = after.split_at(digits(after));
        }
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut exponent = 0;
        if let [b'e' | b'E', after @ ..] = rest {
            is_integer = false;
            let minus = after.first() == Some(&b'-');
            let after = if let [b'+' | b'-', after @ ..] = after { after } else { after };
            if !(1..=4).contains(&after.len()) || digits(after) != after.len() {
                return None;
            }
            let value = after.iter().fold(0, |value, digit| value * 10 + i32::from(digit - b'0'));
            exponent = if minus { -value } else { value };
            rest = &[];
        }
        let number = Self { negative, whole, fraction, exponent, is_integer };
        // Most cells are short; only long ones need a check of their magnitude.
        let is_usual = exponent == 0 && whole.len() < 100 && fraction.len() < 100;
        (rest.is_empty() && (is_usual || number.magnitude().is_none_or(|size| size.abs() <= EXPONENT)))
            .then_some(number)
    }

    /// The digits of the number, most significant first.
    pub fn digits(&self) -> impl Iterator<Item = u8> {
        let all = self.whole.iter().chain(self.fraction);
        all.filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0')
    }

    /// The exponent `e` for which the number is `0.d…` × 10^e with a first digit other than 0; `None` for 0.
    fn magnitude(&self) -> Option<i32> {
        let zeros = self.digits().position(|digit| digit != 0)?;
        let whole = self.whole.iter().filter(|byte| byte.is_ascii_digit()).count();
        Some(i32::try_from(whole as i64 - zeros as i64).unwrap_or(i32::MAX / 2) + self.exponent)
    }

    /// The number as a whole number times a power of ten; `None` if the whole number has more than 36 digits.
    pub fn mantissa(&self) -> Option<(i128, i32)> {
        let mut digits = 0;
        let mut mantissa = 0_i128;
        for digit in self.digits() {
            digits += u32::from(digits > 0 || digit > 0);
            if digits > 36 {
                return None;
            }
            mantissa = mantissa * 10 + i128::from(digit);
        }
        Some((if self.negative { -mantissa } else { mantissa }, self.last_power()))
    }

    /// Whether the number is negative.
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// The power of ten of the last of [its digits](Self::digits).
    pub fn last_power(&self) -> i32 {
        self.exponent - i32::try_from(self.fraction.len()).unwrap_or(i32::MAX / 2)
    }

    /// The nearest double.
    pub fn value(&self) -> f64 {
        // A double represents up to 15 digits exactly, and one division by an exact power of ten is exact to rounding.
        let value = if self.exponent == 0 && self.whole.len() + self.fraction.len() <= 15 {
            let digits = self.digits().fold(0_u64, |value, digit| value * 10 + u64::from(digit)) as f64;
            if self.fraction.is_empty() { digits } else { digits / EXACT[self.fraction.len()] }
        } else {
            let mut text: String = self.digits().map(|digit| char::from(digit + b'0')).collect();
            text.push_str(&format!("e{}", i64::from(self.exponent) - self.fraction.len() as i64));
            text.parse().unwrap_or(f64::NAN)
        };
        if self.negative { -value } else { value }
    }

    /// Appends a key that compares exactly like the number. No key is a prefix of a different one.
    ///
    /// The format: a sign; the power of 100 for which the number is `0.pp pp…`; its pairs of digits, each plus 1,
    /// without trailing zeros; 0. For negative numbers all bytes except the sign are inverted.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        let Some(magnitude) = self.magnitude() else { return out.push(ZERO) };
        out.push(if self.negative { NEGATIVE } else { POSITIVE });
        let start = out.len();
        let hundreds = (magnitude + 1).div_euclid(2);
        out.push((0x80 + hundreds) as u8);
        // With an odd exponent the first pair has one digit.
        let mut half = if magnitude.rem_euclid(2) == 1 { Some(0) } else { None };
        for digit in self.digits().skip_while(|digit| *digit == 0) {
            half = match half {
                None => Some(digit),
                Some(tens) => {
                    out.push(tens * 10 + digit + 1);
                    None
                }
            };
        }
        if let Some(tens) = half {
            out.push(tens * 10 + 1);
        }
        while out.last() == Some(&1) {
            out.pop();
        }
        out.push(0);
        if self.negative {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    /// Compares exactly.
    pub fn compare(&self, other: &Self) -> Ordering {
        // Rounding may make two numbers equal, but never reverses their order.
        match self.value().partial_cmp(&other.value()) {
            Some(order @ (Ordering::Less | Ordering::Greater)) => order,
            _ => self.key().cmp(&other.key()),
        }
    }

    /// Compares exactly with a number that is given by its value and key.
    pub fn compare_with(&self, value: f64, key: &[u8]) -> Ordering {
        match self.value().partial_cmp(&value) {
            Some(order @ (Ordering::Less | Ordering::Greater)) => order,
            _ => self.key()[..].cmp(key),
        }
    }

    /// Its key; see [`Self::write_key`].
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(24);
        self.write_key(&mut key);
        key
    }
}

/// The first bytes of number keys.
const NEGATIVE: u8 = 0x11;
const ZERO: u8 = 0x12;
const POSITIVE: u8 = 0x13;

/// The number of digits at the start of `bytes`.
fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether the digits of `whole` are in groups of three, with a possibly shorter first group. (Thousands groups never
/// begin with 0: `0.125` is a fraction.)
fn is_grouped(whole: &[u8], group: u8) -> bool {
    let mut groups = whole.split(|byte| *byte == group);
    let first = groups.next().map_or(0, <[u8]>::len);
    (1..=3).contains(&first) && whole[0] != b'0' && groups.all(|group| group.len() == 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CellValue, DateOrder, Kind};

    /// A number as digits and a power of ten, and one of its notations.
    fn written() -> impl Strategy<Value = (i64, u32, String)> {
        let digits = prop_oneof![-99..100_i64, -99_999..100_000_i64, any::<i64>()];
        (digits, 0..12_u32, 0..4_u8, any::<bool>()).prop_map(|(digits, places, way, trim)| {
            let (sign, digits_text) = (if digits < 0 { "-" } else { "" }, digits.unsigned_abs().to_string());
            let padded = format!("{digits_text:0>width$}", width = places as usize + 1);
            let (whole, mut fraction) = padded.split_at(padded.len() - places as usize);
            if trim {
                fraction = fraction.trim_end_matches('0');
            }
            let plain = format!("{sign}{whole}.{fraction}");
            let text = match way {
                0 => plain,
                1 => format!("{sign}00{whole}.{fraction}00"),
                2 => format!("{sign}{digits_text}e-{places}"),
                _ => format!(" {plain}E+0"),
            };
            (digits, places, text)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn numbers_compare_exactly_in_every_notation(a in written(), b in written()) {
            let exactly = |(digits, places, _): &(i64, u32, String)| i128::from(*digits) * 10_i128.pow(12 - places);
            let expected = exactly(&a).cmp(&exactly(&b));
            let number = |text: &str| Number::parse(text.as_bytes(), DecimalMark::Point).map(|number| number.key());
            let (key_a, key_b) = (number(&a.2), number(&b.2));
            prop_assert_eq!(key_a.as_ref().unwrap().cmp(key_b.as_ref().unwrap()), expected, "{} {}", a.2, b.2);
            let parsed = |text| Number::parse(text, DecimalMark::Point).unwrap();
            prop_assert_eq!(parsed(a.2.as_bytes()).compare(&parsed(b.2.as_bytes())), expected);
            // No key is a prefix of another one.
            prop_assert!(expected.is_eq() || !key_b.unwrap().starts_with(&key_a.unwrap()));
            let value: f64 = a.2.trim().parse().unwrap();
            prop_assert_eq!(parsed(a.2.as_bytes()).value().to_bits() << 1, value.to_bits() << 1);
        }

        #[test]
        fn numbers_of_the_most_frequent_form_are_those_of_the_general_one(cell in "[0-9]{0,40}[.,]?[0-9]{0,40}") {
            for (decimal_mark, mark, group) in [(DecimalMark::Point, b'.', b','), (DecimalMark::Comma, b',', b'.')] {
                let parts = |number: Option<Number<'_>>| number.map(|number| (number.key(), number.is_integer()));
                let general = Number::parse_any_plain(cell.as_bytes(), mark, group);
                prop_assert_eq!(parts(Number::parse_plain(cell.as_bytes(), decimal_mark)), parts(general));
                if let Some((is_integer, value)) = Number::short_value(cell.as_bytes(), decimal_mark) {
                    let expected = general.map(|number| (number.is_integer(), number.value().to_bits()));
                    prop_assert_eq!(Some((is_integer, value.to_bits())), expected);
                }
            }
        }

        #[test]
        fn any_text_has_a_kind(text in any::<Vec<u8>>(), almost in "[-+0-9.,eE: TZ/]{0,14}") {
            for cell in [&text[..], almost.as_bytes()] {
                for decimal_mark in [DecimalMark::Point, DecimalMark::Comma] {
                    let (kind, value) = Kind::with_value(cell, decimal_mark, DateOrder::DayFirst);
                    let is_number = matches!(value, Some(CellValue::Number(_)));
                    prop_assert_eq!(is_number, matches!(kind, Kind::Integer | Kind::Decimal));
                    if let Some(CellValue::Number(number)) = value {
                        prop_assert!(number.value().is_finite());
                        prop_assert!(number.key().len() <= cell.len() / 2 + 4);
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_beyond_the_exponent_limit_are_text() {
        let long = format!("{}.5", "9".repeat(200));
        for (cell, is_number) in [
            ("1e199", true),
            ("1e200", false),
            ("1e-201", true),
            ("1e-202", false),
            ("0e9999", true),
            ("1e99999", false),
            (&long[..], true),
            (&format!("9{long}"), false),
        ] {
            assert_eq!(Number::parse(cell.as_bytes(), DecimalMark::Point).is_some(), is_number, "{cell}");
        }
    }
}
