//! Numbers, dates and times as text.

use std::fmt::Write as _;

const DAY_SECONDS: i64 = 86_400;

/// The days from 1970-01-01 to the last day of the year 9999, and from the first day of the year 0.
const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// The year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar; `None` outside
/// the years 0 to 9999.
fn civil(days: i64) -> Option<(i64, i64, i64)> {
    if !DAYS.contains(&days) {
        return None;
    }
    // Counted from 1 March of the year 0, so that leap days are at the end of their years; in eras of 400 years.
    let from_march = days + 719_468;
    let era = from_march.div_euclid(146_097);
    let day_of_era = from_march.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some((year, month, day))
}

/// A day as `2024-12-31`; outside the years 0 to 9999 the number of days since 1970-01-01.
pub(crate) fn date(days: i64, out: &mut String) {
    let _ = match civil(days) {
        Some((year, month, day)) => write!(out, "{year:04}-{month:02}-{day:02}"),
        None => write!(out, "{days}"),
    };
}

/// A time of `units` since midnight, of which a second has `10^digits`, as `23:59:59.123`, without a fraction that is
/// zero. Hours may exceed 24.
pub(crate) fn time(units: i64, digits: usize, out: &mut String) {
    let second = 10_i64.pow(digits as u32);
    let (seconds, fraction) = (units.div_euclid(second), units.rem_euclid(second));
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let _ = write!(out, "{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if fraction > 0 {
        // Three, six or nine digits, as other programs write fractions.
        let mut text = format!("{fraction:0digits$}");
        while text.len() > 3 && text.ends_with("000") {
            text.truncate(text.len() - 3);
        }
        let _ = write!(out, ".{text}");
    }
}

/// An instant of `units` since 1970, of which a second has `10^digits`, as `2024-12-31 23:59:59`; outside the years 0
/// to 9999 the number of units.
pub(crate) fn instant(units: i64, digits: usize, out: &mut String) {
    let day = DAY_SECONDS * 10_i64.pow(digits as u32);
    let days = units.div_euclid(day);
    if civil(days).is_none() {
        let _ = write!(out, "{units}");
        return;
    }
    date(days, out);
    out.push(' ');
    time(units.rem_euclid(day), digits, out);
}

/// A number with at most 15 significant digits, as spreadsheets display it, without an exponent.
pub(crate) fn number_of_15_digits(number: f64, out: &mut String) {
    let rounded = format!("{number:.14e}").parse::<f64>().unwrap_or(number);
    // Not a negative zero.
    let _ = write!(out, "{}", if rounded == 0.0 { 0.0 } else { rounded });
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// A string as JSON.
pub(crate) fn json_string(text: &str, out: &mut String) {
    // Text cannot fail to be written as JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn days_are_dates_of_the_gregorian_calendar() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (11_016, "2000-02-29"),
            (-719_528, "0000-01-01"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "2932897"),
        ] {
            assert_eq!(shown(|out| date(days, out)), text);
        }
        // Each day follows the one before.
        let (mut last, mut length) = ((1999, 12, 31), 0);
        for days in 10_957..10_957 + 1_461 {
            let next = civil(days).unwrap();
            assert!(next > last, "{next:?} follows {last:?}");
            length += i64::from(next.1 != last.1);
            last = next;
        }
        assert_eq!(length, 48);
    }

    #[test]
    fn instants_have_the_fraction_that_they_need() {
        assert_eq!(shown(|out| instant(0, 0, out)), "1970-01-01 00:00:00");
        assert_eq!(shown(|out| instant(-1, 3, out)), "1969-12-31 23:59:59.999");
        assert_eq!(shown(|out| instant(1_700_000_000_500_000, 6, out)), "2023-11-14 22:13:20.500");
        assert_eq!(shown(|out| instant(1_700_000_000_000_000_001, 9, out)), "2023-11-14 22:13:20.000000001");
        assert_eq!(shown(|out| instant(i64::MAX, 3, out)), "9223372036854775807");
        assert_eq!(shown(|out| time(86_399_999, 3, out)), "23:59:59.999");
    }

    #[test]
    fn numbers_of_spreadsheets_have_15_digits() {
        for (number, text) in
            [(0.1 + 0.2, "0.3"), (1e20, "100000000000000000000"), (-0.0, "0"), (2.5e-7, "0.00000025")]
        {
            assert_eq!(shown(|out| number_of_15_digits(number, out)), text);
        }
    }
}
