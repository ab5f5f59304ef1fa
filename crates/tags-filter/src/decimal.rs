//! Comparison of decimal numbers in text, exact for any number of digits.

use std::cmp::Ordering;

/// A decimal number: an optional sign, digits, and optionally a point with digits. There is no exponent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal<'a> {
    is_negative: bool,
    /// The digits before the point, without leading zeros.
    whole: &'a [u8],
    /// The digits after the point, without trailing zeros.
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// The number that `text` consists of.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (is_negative, digits) = match text.as_bytes() {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let (whole, fraction) = match memchr::memchr(b'.', digits) {
            Some(point) => (&digits[..point], Some(&digits[point + 1..])),
            None => (digits, None),
        };
        let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if !is_number(whole) || !fraction.is_none_or(is_number) {
            return None;
        }
        let mut whole = whole;
        while let [b'0', rest @ ..] = whole {
            whole = rest;
        }
        let mut fraction = fraction.unwrap_or_default();
        while let [rest @ .., b'0'] = fraction {
            fraction = rest;
        }
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self { is_negative: is_negative && !is_zero, whole, fraction })
    }

    /// The order of the two numbers.
    pub(crate) fn compare(self, other: Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    fn compare_size(self, other: Self) -> Ordering {
        let whole = self.whole.len().cmp(&other.whole.len()).then_with(|| self.whole.cmp(other.whole));
        // Without trailing zeros, the order of the digits' texts is that of the fractions.
        whole.then_with(|| self.fraction.cmp(other.fraction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value_and_not_by_text() {
        let ordered = ["-10", "-9.75", "-9.7", "-0.5", "0", "0.05", "0.5", "5", "9", "10", "10.01", "100"];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                let numbers = (Decimal::parse(a).unwrap(), Decimal::parse(b).unwrap());
                assert_eq!(numbers.0.compare(numbers.1), i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b) in [("1", "+1.00"), ("007", "7"), ("-0", "0.0"), ("1.50", "1.5")] {
            assert_eq!(
                Decimal::parse(a).unwrap().compare(Decimal::parse(b).unwrap()),
                Ordering::Equal,
                "{a} {b}"
            );
        }
        let long = ["123456789012345678901234567890.1", "123456789012345678901234567890.11"];
        let [a, b] = long.map(|text| Decimal::parse(text).unwrap());
        assert_eq!(a.compare(b), Ordering::Less);
    }

    #[test]
    fn text_that_is_no_decimal_number_is_refused() {
        for text in ["", "-", ".5", "5.", "1e5", "0x1", " 1", "1 ", "1.2.3", "--1", "NaN", "١"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
