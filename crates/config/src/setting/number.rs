//! Counts and sizes in bytes.

use super::{Setting, expected};
use crate::raw::Raw;

/// The bounds of a whole number, and whether it counts bytes.
pub(crate) struct Number {
    min: usize,
    max: usize,
    bytes: bool,
}

/// A count from `min` to `max`.
pub(crate) const fn count(min: usize, max: usize) -> Number {
    Number { min, max, bytes: false }
}

/// A number of bytes, from `min` to `max`.
pub(crate) const fn bytes(min: usize, max: usize) -> Number {
    Number { min, max, bytes: true }
}

/// The units of a size. `KB` is 1,000 bytes and `KiB` is 1,024.
const SIZES: [(&str, u64); 7] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

impl Number {
    fn parse(&self, text: &str) -> Option<usize> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit = unit.trim_start().to_ascii_lowercase();
        let factor =
            if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| self.bytes && *name == unit)?.1 };
        usize::try_from(digits.parse::<u64>().ok()?.checked_mul(factor)?).ok()
    }

    fn range(&self) -> String {
        let show = |n: usize| if self.bytes { size_text(n) } else { n.to_string() };
        format!("{} to {}", show(self.min), show(self.max))
    }
}

/// A formatted number of bytes, in the largest binary unit that divides it.
pub(crate) fn size_text(n: usize) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if n != 0 && n.trailing_zeros() >= shift {
            return format!("{} {unit}", n >> shift);
        }
    }
    format!("{n} bytes")
}

impl Setting for usize {
    type Rule = Number;

    fn read(raw: &Raw, rule: &Number) -> Result<Self, String> {
        let text = match raw {
            Raw::Number(text) | Raw::Word(text) => Some(text),
            Raw::Text(text) if rule.bytes => Some(text),
            _ => None,
        };
        let what = if rule.bytes { "a size in bytes, such as 65536 or \"64KiB\"" } else { "a whole number" };
        let n = text.and_then(|t| rule.parse(t.trim())).ok_or_else(|| expected(what, raw))?;
        if (rule.min..=rule.max).contains(&n) { Ok(n) } else { Err(expected(&rule.range(), raw)) }
    }

    fn kind(rule: &Number) -> String {
        let what = if rule.bytes { "size" } else { "whole number" };
        format!("{what}, {}", rule.range())
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn gloss(&self, rule: &Number) -> Option<String> {
        rule.bytes.then(|| size_text(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Raw {
        Raw::Word(text.into())
    }

    #[test]
    fn a_size_is_a_number_of_bytes_or_has_a_unit() {
        let wide = bytes(0, usize::MAX);
        for (text, n) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("1MB", 1_000_000),
            ("1 mib", 1 << 20),
            ("5B", 5),
            ("2gb", 2_000_000_000),
        ] {
            assert_eq!(usize::read(&word(text), &wide), Ok(n), "{text}");
            assert_eq!(usize::read(&Raw::Text(text.into()), &wide), Ok(n), "{text}");
        }
        for text in ["", "KiB", "1.5MB", "-1", "1k", "99999999999GiB"] {
            assert!(usize::read(&word(text), &wide).is_err(), "{text}");
        }
    }

    #[test]
    fn a_count_has_no_unit_and_no_quotes() {
        assert_eq!(usize::read(&word("12"), &count(0, 64)), Ok(12));
        assert!(usize::read(&word("12B"), &count(0, 64)).is_err());
        assert!(usize::read(&Raw::Text("12".into()), &count(0, 64)).is_err());
    }

    #[test]
    fn bounds_are_inclusive() {
        for (text, fits) in [("63", false), ("64", true), ("1024", true), ("1KiB", true), ("1025", false)] {
            assert_eq!(usize::read(&word(text), &bytes(64, 1024)).is_ok(), fits, "{text}");
        }
        let error = usize::read(&word("5"), &bytes(64, 16 << 20)).unwrap_err();
        assert_eq!(error, "expected 64 bytes to 16 MiB, got \"5\"");
    }
}
