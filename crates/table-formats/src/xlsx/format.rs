//! Number formats: which numbers are dates, and how numbers are shown (ECMA-376 Part 1 §18.8.30, §18.8.31).

use crate::value;

/// How a number is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// As a number.
    #[default]
    Plain,
    /// As a percentage.
    Percent,
    /// As a date.
    Date,
    /// As a date with a time.
    DateTime,
    /// As a time of the day.
    Time,
    /// As a duration in hours.
    Elapsed,
}

/// The first day of a workbook's serial numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Epoch {
    /// 1 is 1900-01-01; 60 is the day 1900-02-29, which did not exist.
    #[default]
    From1900,
    /// 0 is 1904-01-01.
    From1904,
}

/// The days from 1970-01-01 to 1899-12-30 and to 1904-01-01.
const DAYS_1900: i64 = -25_569;
const DAYS_1904: i64 = -24_107;

/// The milliseconds of a day.
const DAY: i64 = 86_400_000;

/// The serial numbers of days until the year 9999.
const MAX_SERIAL: f64 = 2_958_466.0;

impl NumberFormat {
    /// The built-in format of a number, or one that depends on the language (§18.8.30).
    pub(super) const fn built_in(number: u64) -> Self {
        match number {
            9 | 10 => Self::Percent,
            14..=17 | 27..=31 | 36 | 50..=54 | 57 | 58 => Self::Date,
            18..=21 | 32..=35 | 45 | 47 | 55 | 56 => Self::Time,
            22 => Self::DateTime,
            46 => Self::Elapsed,
            _ => Self::Plain,
        }
    }

    /// The format of a code. Its first section, that of positive numbers, decides.
    pub(super) fn parse(code: &str) -> Self {
        let (mut is_date, mut is_time, mut is_elapsed, mut is_percent) = (false, false, false, false);
        let mut characters = code.chars();
        while let Some(character) = characters.next() {
            match character.to_ascii_lowercase() {
                ';' => break,
                '"' => while characters.next().is_some_and(|next| next != '"') {},
                // The next character is shown as it is, as a space, or as a filler.
                '\\' | '_' | '*' => drop(characters.next()),
                '[' => {
                    // A colour, a condition, a locale, or a number of hours, minutes or seconds.
                    let inner: String = characters.by_ref().take_while(|next| *next != ']').collect();
                    let letters = inner.to_ascii_lowercase();
                    is_elapsed |= ["h", "m", "s"]
                        .iter()
                        .any(|unit| !letters.is_empty() && letters.replace(unit, "").is_empty());
                }
                'y' | 'd' => is_date = true,
                'h' | 's' => is_time = true,
                // Months, if there are no hours or seconds.
                'm' => is_date |= !code.to_ascii_lowercase().contains(['h', 's']),
                '%' => is_percent = true,
                'g' if code.to_ascii_lowercase().contains("general") => return Self::Plain,
                _ => {}
            }
        }
        match (is_date, is_time) {
            _ if is_elapsed => Self::Elapsed,
            (true, true) => Self::DateTime,
            (true, false) => Self::Date,
            (false, true) => Self::Time,
            _ if is_percent => Self::Percent,
            _ => Self::Plain,
        }
    }

    /// Appends a number as it is shown. `written`: its text in the file.
    pub(super) fn show(self, number: f64, written: &str, epoch: Epoch, out: &mut String) {
        let is_day = number.is_finite() && (0.0..MAX_SERIAL).contains(&number);
        match self {
            Self::Plain => plain(number, written, out),
            Self::Percent => {
                value::number_of_15_digits(number * 100.0, out);
                out.push('%');
            }
            _ if !is_day => plain(number, written, out),
            Self::Elapsed => value::time(milliseconds(number), 3, out),
            Self::Date | Self::DateTime | Self::Time => {
                let all = milliseconds(number);
                let (days, time) = (all.div_euclid(DAY), all.rem_euclid(DAY));
                if self == Self::Time && days == 0 {
                    return value::time(time, 3, out);
                }
                date(days, epoch, out);
                if self == Self::DateTime || time != 0 {
                    out.push(' ');
                    value::time(time, 3, out);
                }
            }
        }
    }
}

fn milliseconds(serial: f64) -> i64 {
    (serial * DAY as f64).round() as i64
}

fn date(days: i64, epoch: Epoch, out: &mut String) {
    match epoch {
        Epoch::From1904 => value::date(days + DAYS_1904, out),
        Epoch::From1900 if days == 60 => out.push_str("1900-02-29"),
        Epoch::From1900 => value::date(days + DAYS_1900 + i64::from(days < 60), out),
    }
}

/// A number: integers as they are written, others with 15 digits.
fn plain(number: f64, written: &str, out: &mut String) {
    let digits = written.strip_prefix('-').unwrap_or(written);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_integer || !number.is_finite() {
        out.push_str(written);
    } else {
        value::number_of_15_digits(number, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_its_numbers_are() {
        for (code, format) in [
            ("General", NumberFormat::Plain),
            ("0.00E+00", NumberFormat::Plain),
            ("#,##0 \"days\"", NumberFormat::Plain),
            ("#,##0.00\\ \\d;[Red]-#,##0", NumberFormat::Plain),
            ("[$€-407] #,##0.00", NumberFormat::Plain),
            ("0.0%", NumberFormat::Percent),
            ("yyyy\\-mm\\-dd", NumberFormat::Date),
            ("mmm", NumberFormat::Date),
            ("[$-409]d/m/yy h:mm AM/PM;@", NumberFormat::DateTime),
            ("h:mm:ss", NumberFormat::Time),
            ("mm:ss.0", NumberFormat::Time),
            ("[h]:mm:ss", NumberFormat::Elapsed),
            ("[Blue]0", NumberFormat::Plain),
            ("@", NumberFormat::Plain),
        ] {
            assert_eq!(NumberFormat::parse(code), format, "{code}");
        }
    }

    #[test]
    fn serial_numbers_are_the_days_of_their_epoch() {
        let shown = |format: NumberFormat, number: f64, epoch| {
            let mut out = String::new();
            format.show(number, &number.to_string(), epoch, &mut out);
            out
        };
        use Epoch::{From1900, From1904};
        use NumberFormat::{Date, DateTime, Elapsed, Percent, Plain, Time};
        for (format, number, epoch, text) in [
            (Date, 1.0, From1900, "1900-01-01"),
            (Date, 59.0, From1900, "1900-02-28"),
            (Date, 60.0, From1900, "1900-02-29"),
            (Date, 61.0, From1900, "1900-03-01"),
            (Date, 45_351.0, From1900, "2024-02-29"),
            (Date, 0.0, From1904, "1904-01-01"),
            (Date, 43_889.0, From1904, "2024-02-29"),
            (Date, 45_351.5, From1900, "2024-02-29 12:00:00"),
            (DateTime, 45_351.0, From1900, "2024-02-29 00:00:00"),
            (DateTime, 45_351.573_032_407_41, From1900, "2024-02-29 13:45:10"),
            (Time, 0.75, From1900, "18:00:00"),
            (Elapsed, 1.5, From1900, "36:00:00"),
            (Date, -3.0, From1900, "-3"),
            (Percent, 0.07, From1900, "7%"),
            (Plain, 0.1 + 0.2, From1900, "0.3"),
            (Plain, 12_345_678_901_234.0, From1900, "12345678901234"),
        ] {
            assert_eq!(shown(format, number, epoch), text, "{format:?} {number}");
        }
    }
}
