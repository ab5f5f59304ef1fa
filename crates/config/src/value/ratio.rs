//! A part of a whole.

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// The number of parts of a whole.
const WHOLE: u32 = 1_000_000;

/// A number from 0 to 1, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u32);

impl Ratio {
    /// The number below which this part of all 64-bit numbers lies; the largest for 1.
    pub fn threshold(self) -> u64 {
        if self.0 == WHOLE { u64::MAX } else { u64::MAX / u64::from(WHOLE) * u64::from(self.0) }
    }

    /// Reads a decimal number with at most six decimals.
    fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 1
            || decimals.len() > 6
            || !is_number(whole)
            || !is_number(decimals)
        {
            return None;
        }
        let parts = format!("{decimals:0<6}").parse::<u32>().ok()? + whole.parse::<u32>().ok()? * WHOLE;
        (parts <= WHOLE).then_some(Self(parts))
    }
}

impl Setting for Ratio {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = match raw {
            Raw::Number(digits) => Some(digits.as_str()),
            raw => raw.as_text(),
        };
        text.and_then(Self::parse)
            .ok_or_else(|| expected("a number from 0 to 1 with at most six decimals", raw))
    }

    fn kind((): &()) -> String {
        "number from 0 to 1".into()
    }

    fn toml(&self) -> Option<String> {
        let text = format!("{}.{:06}", self.0 / WHOLE, self.0 % WHOLE);
        Some(quoted(text.trim_end_matches('0').trim_end_matches('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_decimal_number_from_0_to_1() {
        for (text, parts) in [("0", 0), ("1", WHOLE), ("1.0", WHOLE), ("0.05", 50_000), ("0.000001", 1)] {
            for raw in [Raw::Number(text.into()), Raw::Word(text.into())] {
                assert_eq!(Ratio::read(&raw, &()), Ok(Ratio(parts)), "{text}");
            }
        }
        for text in ["", "1.1", "2", "-1", "0.0000001", ".5", "1e-3", "0,5", "NaN"] {
            assert!(Ratio::read(&Raw::Word(text.into()), &()).is_err(), "{text}");
        }
        assert_eq!(Ratio(50_000).toml().as_deref(), Some("\"0.05\""));
        assert_eq!(Ratio(WHOLE).toml().as_deref(), Some("\"1\""));
        assert_eq!((Ratio(0).threshold(), Ratio(WHOLE).threshold()), (0, u64::MAX));
        assert_eq!(Ratio(WHOLE / 2).threshold() >> 60, 7);
    }
}
