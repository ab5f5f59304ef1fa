//! Durations with units.

use std::time::Duration;

use super::{Setting, expected, quoted};
use crate::raw::Raw;

/// The bounds of a duration in milliseconds.
pub(crate) struct Span {
    min: u64,
    max: u64,
}

/// A duration from `min` to `max` milliseconds.
pub(crate) const fn millis(min: u64, max: u64) -> Span {
    Span { min, max }
}

/// The units of a duration in milliseconds, longest first.
const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// The milliseconds of `25s`, `250ms`, `1.5s`, `1m30s` (units from the largest to the smallest, each once), or of a
    /// number of seconds without a unit; `None` also if they are not a whole number.
    pub(crate) fn parse(text: &str) -> Option<u64> {
        let mut total = 0_u64;
        let mut rest = text;
        let mut last = u64::MAX;
        loop {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let tail = tail.trim_start();
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            // A number without a unit must be the only one.
            let unit = if unit.is_empty() && last == u64::MAX { "s" } else { unit };
            let factor = DURATIONS.iter().find(|(name, factor)| *name == unit && *factor < last)?.1;
            total = total.checked_add(Self::part(number, factor)?)?;
            if tail.is_empty() {
                return Some(total);
            }
            (rest, last) = (tail, factor);
        }
    }

    /// The milliseconds of a number of units.
    fn part(number: &str, factor: u64) -> Option<u64> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let places = u32::try_from(fraction.len()).ok().filter(|n| *n <= 6)?;
        let parts = fraction.parse::<u64>().ok()? * factor;
        let scale = 10_u64.pow(places);
        let millis = whole.parse::<u64>().ok()?.checked_mul(factor)?;
        parts.is_multiple_of(scale).then(|| millis.checked_add(parts / scale)).flatten()
    }
}

/// A duration in the form of an option, in the longest unit that divides it. Whole milliseconds.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fitting =
        DURATIONS.iter().find(|(_, factor)| millis > 0 && millis.is_multiple_of(u128::from(*factor)));
    fitting.map_or_else(|| "0s".into(), |(unit, factor)| format!("{}{unit}", millis / u128::from(*factor)))
}

impl Setting for Duration {
    type Rule = Span;

    fn read(raw: &Raw, rule: &Span) -> Result<Self, String> {
        let text = match raw {
            Raw::Number(text) | Raw::Word(text) | Raw::Text(text) => Some(text),
            _ => None,
        };
        let millis = text.and_then(|t| Span::parse(t.trim())).ok_or_else(|| {
            expected("a duration such as \"250ms\", \"25s\", \"1m30s\", \"24h\" or a number of seconds", raw)
        })?;
        if (rule.min..=rule.max).contains(&millis) {
            return Ok(Self::from_millis(millis));
        }
        Err(expected(&rule.range(), raw))
    }

    fn kind(rule: &Span) -> String {
        format!("duration, {}", rule.range())
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&duration_text(*self)))
    }
}

impl Span {
    fn range(&self) -> String {
        let show = |millis| duration_text(Duration::from_millis(millis));
        format!("{} to {}", show(self.min), show(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Raw {
        Raw::Word(text.into())
    }

    #[test]
    fn a_duration_is_a_number_with_a_unit_or_of_seconds() {
        let wide = millis(0, u64::MAX);
        for (text, millis) in [
            ("250ms", 250),
            ("25s", 25_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("3", 3_000),
            ("1.5s", 1_500),
            ("0.25", 250),
            ("0", 0),
            ("10 s", 10_000),
            ("1m30s", 90_000),
            ("1h0m0.5s", 3_600_500),
            ("2s500ms", 2_500),
        ] {
            assert_eq!(Duration::read(&word(text), &wide), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1d",
            "1.s",
            ".5s",
            "0.0001s",
            "1.2.3s",
            "5S",
            "99999999999999999999h",
            "30s1m",
            "1m1m",
            "1m30",
            "1m s",
            "30 5s",
        ] {
            assert!(Duration::read(&word(text), &wide).is_err(), "{text}");
        }
        assert_eq!(Duration::read(&Raw::Number("2".into()), &wide), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn a_printed_duration_is_parsed_back() {
        for (millis_, text) in
            [(0, "0s"), (250, "250ms"), (25_000, "25s"), (90_000, "90s"), (3_600_000, "1h")]
        {
            let duration = Duration::from_millis(millis_);
            assert_eq!(duration_text(duration), text);
            assert_eq!(Duration::read(&word(text), &millis(0, u64::MAX)), Ok(duration));
        }
    }

    #[test]
    fn bounds_are_reported_as_durations() {
        let error = Duration::read(&word("2h"), &millis(10, 60_000)).unwrap_err();
        assert_eq!(error, "expected 10ms to 1m, got \"2h\"");
    }
}
