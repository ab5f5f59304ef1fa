//! Dates and times, parsed as instants.
//!
//! - Days: `2024-12-31`, `2024/12/31`, `2024.12.31`; `31/12/2024`, `31.12.2024`, `31-12-2024`, also with a year of two
//!   digits (a [`DateOrder`] gives the order of day and month); `31 Dec 2024`, `31-Dec-24`, `Dec 31, 2024`, also with
//!   complete names of months, in English, optionally after a day of the week.
//! - Months: `2024-12`, `2024/12`, `12/2024`, `Dec 2024`.
//! - Times, alone or after a day and `T`, a space or a comma: `23:59`, `23:59:59`, `23:59:59.123` (a fraction of any
//!   length), `11:59 PM`; then `Z`, `UTC`, `GMT`, `+01:00`, `+0100` or `+01`. A time without a zone is UTC.

use crate::{MAX_CELL, is_space, reject};

/// The order of the numbers of a day, if its year is not first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateOrder {
    /// `31/12/2024`.
    #[default]
    DayFirst,
    /// `12/31/2024`.
    MonthFirst,
    /// `24/12/31`. Years of four digits are parsed in every order.
    YearFirst,
}

/// The first byte of an instant's key: above numbers, below text.
const INSTANT: u8 = 0x18;

const DAY: i64 = 86_400;

/// Added to the days of a date, so that no time zone makes them negative, and a time without a date precedes all dates.
const FIRST_DAY: i64 = 2;

/// An instant, with any fraction of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant<'a> {
    /// Seconds since two days before the year 0; for a time without a date, since midnight.
    seconds: i64,
    /// The digits after the decimal point.
    fraction: &'a [u8],
}

impl Instant<'_> {
    /// Appends a key that compares like the instant. No key is a prefix of a different one.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        out.push(INSTANT);
        // The year 9999 ends before 2^39 seconds.
        out.extend_from_slice(&self.seconds.to_be_bytes()[3..]);
        let end = self.fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        for pair in self.fraction[..end].chunks(2) {
            let ones = pair.get(1).map_or(0, |digit| digit - b'0');
            out.push((pair[0] - b'0') * 10 + ones + 1);
        }
        out.push(0);
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(16);
        self.write_key(&mut key);
        key
    }
}

/// The span of a filter value: the key of its first instant, and of the first instant after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The key of the first instant.
    pub from: Vec<u8>,
    /// The key of the first instant after the span; `None`: the span is one instant.
    pub to: Option<Vec<u8>>,
}

/// The precision of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Year,
    Month,
    Day,
    /// An instant, or a time without a date.
    Moment,
}

/// The instant of `cell`, or the start of its day or month.
pub fn parse(cell: &[u8], order: DateOrder) -> Option<Instant<'_>> {
    let (instant, unit, _) = read(cell, order)?;
    (unit != Unit::Year).then_some(instant)
}

/// The start of a day in the form `2024-12-31`: the same as by [`parse`] with any order.
pub fn parse_iso_day(cell: &[u8]) -> Option<Instant<'static>> {
    let (year, month, day, []) = iso_day(cell)? else { return None };
    start_of_day(year, month, day).map(|seconds| Instant { seconds, fraction: b"" })
}

/// The span of a filter value, which may be a year.
pub fn span(value: &[u8], order: DateOrder) -> Option<Interval> {
    let (instant, unit, [year, month]) = read(value, order)?;
    let at = |days: i64| Instant { seconds: (days + FIRST_DAY) * DAY, fraction: b"" }.key();
    let to = match unit {
        Unit::Year => Some(at(days(year + 1, 1, 1))),
        Unit::Month if month == 12 => Some(at(days(year + 1, 1, 1))),
        Unit::Month => Some(at(days(year, month + 1, 1))),
        Unit::Day => Some(Instant { seconds: instant.seconds + DAY, ..instant }.key()),
        Unit::Moment => None,
    };
    Some(Interval { from: instant.key(), to })
}

/// Whether a cell is a date or a time in some order.
pub fn is_date(cell: &[u8]) -> bool {
    parse(cell, DateOrder::DayFirst).is_some() || parse(cell, DateOrder::MonthFirst).is_some()
}

/// Whether a cell is a date with its year first, a time, or both (ISO 8601).
pub fn is_iso(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    let is_day = cell.get(4).is_some_and(|byte| matches!(byte, b'-' | b'/')) && cell.len() >= 10;
    let is_time = cell.get(2) == Some(&b':') && cell.len() >= 5;
    (is_day || is_time) && parse(cell, DateOrder::DayFirst).is_some()
}

/// A first instant, its precision, and its year and month.
pub(crate) type Found<'a> = (Instant<'a>, Unit, [i64; 2]);

/// The first instant of `cell`, its precision, and its year and month.
pub(crate) fn read(cell: &[u8], order: DateOrder) -> Option<Found<'_>> {
    if cell.len() > MAX_CELL || !reject::may_be_date(cell) {
        return None;
    }
    if let Some((year, month, day, rest)) = iso_day(cell) {
        let rest = std::str::from_utf8(rest).ok()?.trim_end_matches(is_space);
        return moment((year, Some(month), Some(day), rest));
    }
    read_completely(cell, order)
}

/// Reads `cell` in all forms.
pub(crate) fn read_completely(cell: &[u8], order: DateOrder) -> Option<Found<'_>> {
    let text = std::str::from_utf8(cell).ok()?.trim_matches(is_space);
    if let Some(instant) = time(text, 0) {
        return Some((instant, Unit::Moment, [0, 0]));
    }
    moment(after_weekday(text).and_then(|text| date(text, order)).or_else(|| date(text, order))?)
}

/// The day at the start of `cell` in the form `2024-12-31`, which programs write most often, and the rest.
fn iso_day(cell: &[u8]) -> Option<(i64, i64, i64, &[u8])> {
    let (day, rest) = cell.split_first_chunk::<10>()?;
    let digit = |at: usize| i64::from(day[at].wrapping_sub(b'0'));
    let is_digit = |at: usize| day[at].is_ascii_digit();
    let is_day = day[4] == b'-' && day[7] == b'-' && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(is_digit);
    if !is_day || rest.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let year = digit(0) * 1_000 + digit(1) * 100 + digit(2) * 10 + digit(3);
    Some((year, digit(5) * 10 + digit(6), digit(8) * 10 + digit(9), rest))
}

/// The first instant of a date and the text after it, its precision, and its year and month.
fn moment((year, month, day, rest): Read<'_>) -> Option<Found<'_>> {
    let unit = match (month, day) {
        (None, _) => Unit::Year,
        (_, None) => Unit::Month,
        _ => Unit::Day,
    };
    let (month, day) = (month.unwrap_or(1), day.unwrap_or(1));
    let start = start_of_day(year, month, day)?;
    if rest.is_empty() {
        return Some((Instant { seconds: start, fraction: b"" }, unit, [year, month]));
    }
    if unit != Unit::Day {
        return None;
    }
    let clock = rest.strip_prefix(['T', 't']).or_else(|| {
        let after = rest.strip_prefix(',').unwrap_or(rest).trim_start_matches(is_space);
        (after.len() < rest.len()).then_some(after)
    })?;
    Some((time(clock, start)?, Unit::Moment, [year, month]))
}

/// The first second of a day that exists.
fn start_of_day(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_day = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    is_day.then(|| (days(year, month, day) + FIRST_DAY) * DAY)
}

/// The text after a day of the week.
fn after_weekday(text: &str) -> Option<&str> {
    let (word, rest) = word(text)?;
    let word = word.to_ascii_lowercase();
    let is_day = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
        .iter()
        .any(|day| word.len() >= 3 && day.starts_with(&word));
    let rest = rest.trim_start_matches(['.', ',']).trim_start_matches(is_space);
    is_day.then_some(rest)
}

/// A year, its month and day if there are any, and the rest of the text.
type Read<'a> = (i64, Option<i64>, Option<i64>, &'a str);

fn date(text: &str, order: DateOrder) -> Option<Read<'_>> {
    if let Some((month, rest)) = month_name(text) {
        // `Dec 31, 2024` or `Dec 2024`.
        let rest = rest.trim_start_matches(['.', ',']).trim_start_matches(['-', ' ', '\u{A0}']);
        let (first, length, after) = number(rest)?;
        if length == 4 {
            return Some((first, Some(month), None, after));
        }
        let after = after.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let after = after.trim_start_matches(',').trim_start_matches([' ', '\u{A0}', '-']);
        let (year, length, after) = number(after)?;
        return Some((full_year(year, length)?, Some(month), Some(first), after));
    }
    let (first, length, rest) = number(text)?;
    let Some(separator) = rest.chars().next() else {
        return (length == 4).then_some((first, None, None, rest));
    };
    let rest = &rest[separator.len_utf8()..];
    if let Some((month, after)) = month_name(rest.trim_start_matches(' ')) {
        // `31 Dec 2024`, `31-Dec-24`, `31. December 2024`.
        if !matches!(separator, ' ' | '-' | '.' | '/') || length > 2 {
            return None;
        }
        let (year, length, after) =
            number(after.trim_start_matches(['.', ',']).trim_start_matches(['-', ' ', '/']))?;
        return Some((full_year(year, length)?, Some(month), Some(first), after));
    }
    if !matches!(separator, '-' | '/' | '.') {
        return None;
    }
    let (second, second_length, rest) = number(rest)?;
    let third = rest.strip_prefix(separator).and_then(number);
    match (length, third) {
        (4, Some((third, 1..=2, rest))) if second_length <= 2 => {
            Some((first, Some(second), Some(third), rest))
        }
        // With a point it would be a number; ISO 8601 has no months of one digit.
        (4, None) if separator != '.' && second_length == 2 && rest.is_empty() => {
            Some((first, Some(second), None, rest))
        }
        (1..=2, None) if separator == '/' && second_length == 4 && rest.is_empty() => {
            Some((second, Some(first), None, rest))
        }
        (1..=2, Some((third, third_length, rest))) if second_length <= 2 => {
            // `1.2.24` is ambiguous, `01.02.24` is a date.
            if third_length != 4 && (length != 2 || second_length != 2) {
                return None;
            }
            if order == DateOrder::YearFirst && third_length == 2 {
                return Some((full_year(first, length)?, Some(second), Some(third), rest));
            }
            let year = full_year(third, third_length)?;
            Some(match order {
                DateOrder::MonthFirst => (year, Some(first), Some(second), rest),
                _ => (year, Some(second), Some(first), rest),
            })
        }
        _ => None,
    }
}

/// The complete year: two digits stand for 1969 to 2068, as in POSIX.
fn full_year(year: i64, digits: usize) -> Option<i64> {
    match digits {
        4 => Some(year),
        2 if year < 69 => Some(2000 + year),
        2 => Some(1900 + year),
        _ => None,
    }
}

/// The number of up to 4 digits at the start of `text`, the number of its digits, and the rest.
fn number(text: &str) -> Option<(i64, usize, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=4).contains(&length) {
        return None;
    }
    let (digits, rest) = text.split_at(length);
    Some((digits.bytes().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')), length, rest))
}

/// The letters at the start of `text`, and the rest.
fn word(text: &str) -> Option<(&str, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    (length > 0).then(|| text.split_at(length))
}

/// The month at the start of `text`, by its English name (complete or three letters), and the rest.
fn month_name(text: &str) -> Option<(i64, &str)> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let (name, rest) = word(text)?;
    let is = |month: &&str| {
        name.eq_ignore_ascii_case(month)
            || name.eq_ignore_ascii_case(&month[..3])
            || name.eq_ignore_ascii_case("sept") && month.starts_with("sept")
    };
    let place = NAMES.iter().position(is)?;
    Some((place as i64 + 1, rest))
}

/// A time of a day that begins at `start`, including the zone.
fn time(text: &str, start: i64) -> Option<Instant<'_>> {
    let (mut hour, 1..=2, rest) = number(text)? else { return None };
    let (minute, 2, mut rest) = number(rest.strip_prefix(':')?)? else { return None };
    let (mut second, mut fraction) = (0, &b""[..]);
    if let Some(after) = rest.strip_prefix(':') {
        let (found, 2, after) = number(after)? else { return None };
        (second, rest) = (found, after);
        if let Some(after) = rest.strip_prefix(['.', ',']) {
            let length = after.bytes().take_while(u8::is_ascii_digit).count();
            if length == 0 {
                return None;
            }
            (fraction, rest) = (&after.as_bytes()[..length], &after[length..]);
        }
    }
    let half = rest.trim_start_matches(is_space);
    let is = |word: &str| half.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let (is_am, is_pm) = (is("am") || is("a.m."), is("pm") || is("p.m."));
    if is_am || is_pm {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if is_pm { 12 } else { 0 };
        rest = &half[if half.as_bytes()[1] == b'.' { 4 } else { 2 }..];
    }
    // 24:00 is the end of a day, 23:59:60 a leap second.
    let is_time = hour <= 23 && minute <= 59 && second <= 60 || hour == 24 && minute == 0 && second == 0;
    let seconds = start + hour * 3_600 + minute * 60 + second - offset(rest)?;
    // A time without a date, east of Greenwich, may be on the day before.
    is_time.then_some(Instant { seconds: seconds.max(0), fraction })
}

/// The seconds by which a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let zone = zone.trim_start_matches(is_space);
    if zone.is_empty() || ["z", "utc", "gmt"].iter().any(|name| zone.eq_ignore_ascii_case(name)) {
        return Some(0);
    }
    let is_behind = zone.starts_with(['-', '\u{2212}']);
    let (first, length, rest) = number(zone.strip_prefix(['+', '-', '\u{2212}'])?)?;
    let (hours, minutes) = match (length, rest) {
        (4, "") => (first / 100, first % 100),
        (2, "") => (first, 0),
        (2, rest) => match number(rest.strip_prefix(':')?)? {
            (minutes, 2, "") => (first, minutes),
            _ => return None,
        },
        _ => return None,
    };
    let seconds = hours * 3_600 + minutes * 60;
    (hours <= 24 && minutes <= 59).then_some(if is_behind { -seconds } else { seconds })
}

/// The number of days of a month, in the Gregorian calendar.
const fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days of a year before each month, without a leap day.
const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// The days since the first day of the year 0, in the Gregorian calendar.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = if year == 0 { 0 } else { before / 4 - before / 100 + before / 400 + 1 };
    let leap_day = if month > 2 && month_days(year, 2) == 29 { 1 } else { 0 };
    year * 365 + leaps + BEFORE_MONTH[month as usize - 1] + leap_day + day - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(cell: &str, order: DateOrder) -> Option<Vec<u8>> {
        parse(cell.as_bytes(), order).map(|instant| instant.key())
    }

    #[test]
    fn all_notations_of_an_instant_are_equal() {
        use DateOrder::{DayFirst, MonthFirst, YearFirst};
        let same = [
            ("2024-02-03", DayFirst),
            ("2024/2/3", DayFirst),
            ("2024.02.03", MonthFirst),
            ("03/02/2024", DayFirst),
            ("02/03/2024", MonthFirst),
            ("3.2.2024", DayFirst),
            ("03-02-24", DayFirst),
            ("24/02/03", YearFirst),
            ("3 Feb 2024", MonthFirst),
            ("03-Feb-24", DayFirst),
            ("Feb 3, 2024", DayFirst),
            ("February 3rd, 2024", DayFirst),
            ("3. February 2024", DayFirst),
            ("Sat, 03 Feb 2024 00:00:00 GMT", DayFirst),
            ("2024-02-03T00:00:00.000Z", DayFirst),
            ("2024-02-03 01:30+01:30", DayFirst),
            ("2024-02-02 22:00:00-0200", DayFirst),
            ("2024-02-02T24:00Z", DayFirst),
            ("02/03/2024, 12:00:00 AM", MonthFirst),
            ("03/02/2024 12:00\u{202F}am", DayFirst),
            ("2024-02-03 00:00:00 UTC", DayFirst),
            ("2024-02-03 05:00:00+05", DayFirst),
        ];
        for (cell, order) in same {
            assert_eq!(key(cell, order), key("2024-02-03", DayFirst), "{cell}");
        }
        for cell in [
            "",
            "2024",
            "2024-13-01",
            "2024-00-10",
            "2023-02-29",
            "31/02/2023",
            "1.2.3",
            "1.2.24",
            "10.11.12.13",
            "12:60",
            "25:00",
            "2024-01-05T",
            "2024-01-05x",
            "13:00 PM",
            "5 Foo 2024",
            "Feb",
            "1/2",
            "2024-01-05T10:00:00.",
            "1-2-3",
            "2024-1",
            "12345-01-01",
            "12:30:00+1",
            "2024-01-01 noon",
        ] {
            assert_eq!(key(cell, DayFirst), None, "{cell}");
        }
    }

    #[test]
    fn a_filter_value_is_a_span() {
        let ends = |value: &str| {
            let Interval { from, to } = span(value.as_bytes(), DateOrder::DayFirst).expect(value);
            (from, to)
        };
        for (value, from, to) in [
            ("2010", "2010-01-01", "2011-01-01"),
            ("2010-05", "2010-05-01", "2010-06-01"),
            ("12/2010", "2010-12-01", "2011-01-01"),
            ("May 2010", "2010-05-01", "2010-06-01"),
            ("2010-12-31", "2010-12-31", "2011-01-01"),
            ("03/05/2010", "2010-05-03", "2010-05-04"),
        ] {
            assert_eq!(
                ends(value),
                (key(from, DateOrder::DayFirst).unwrap(), key(to, DateOrder::DayFirst)),
                "{value}"
            );
        }
        assert_eq!(
            ends("2010-05-03T10:00"),
            (key("2010-05-03 10:00:00", DateOrder::DayFirst).unwrap(), None)
        );
        assert_eq!(span(b"20100", DateOrder::DayFirst), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn keys_compare_like_instants(
            a in (0..9_999_i64, 1..13_i64, 1..29_i64, 0..86_400_i64, "[0-9]{0,5}", -14..15_i64),
            b in (0..9_999_i64, 1..13_i64, 1..29_i64, 0..86_400_i64, "[0-9]{0,5}", -14..15_i64),
            near in any::<bool>(),
        ) {
            let b = if near { (a.0, a.1, a.2, a.3, b.4, a.5) } else { b };
            let written = |(year, month, day, time, fraction, zone): &(i64, i64, i64, i64, String, i64)| {
                let point = if fraction.is_empty() { "" } else { "." };
                let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}{zone:+03}:00")
            };
            // The reference counts days one by one.
            let reference = |(year, month, day, time, fraction, zone): &(i64, i64, i64, i64, String, i64)| {
                let years: i64 = (0..*year).map(|year| (1..13).map(|month| month_days(year, month)).sum::<i64>()).sum();
                let months: i64 = (1..*month).map(|month| month_days(*year, month)).sum();
                let seconds = (years + months + day) * DAY + time - zone * 3_600;
                (seconds, format!("{fraction:0<5}"))
            };
            let [key_a, key_b] = [&a, &b].map(|moment| key(&written(moment), DateOrder::DayFirst).unwrap());
            prop_assert_eq!(key_a.cmp(&key_b), reference(&a).cmp(&reference(&b)), "{} {}", written(&a), written(&b));
            prop_assert!(key_a == key_b || !key_a.starts_with(&key_b) && !key_b.starts_with(&key_a));
        }

        #[test]
        fn any_text_is_a_date_or_none(text in any::<String>(), almost in "[0-9]{1,4}[-/. :,][0-9A-Za-z]{1,4}[-/. :,T][0-9: PM]{0,9}") {
            for cell in [&text, &almost] {
                for order in [DateOrder::DayFirst, DateOrder::MonthFirst, DateOrder::YearFirst] {
                    let _ = (parse(cell.as_bytes(), order), span(cell.as_bytes(), order));
                }
            }
        }
    }
}
