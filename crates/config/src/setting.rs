//! What an option's value can be, and how each is read from a file, the environment or a flag, checked against
//! its bounds, described and printed.
//!
//! A value that has a text form reads the same everywhere: `max_line = "64KiB"` in a file is
//! `TIDINGS_TCP_MAX_LINE=64KiB`, and a list may be written as its comma-separated text.

use std::path::PathBuf;
use std::time::Duration;

use tidings_auth::Secret;
use tidings_wire::Channel;
use tidings_wire::body::DataFormat;
use tidings_wire::plain::Escape;

use super::raw::Raw;

/// A type that an option can have.
pub(super) trait Setting: Sized {
    /// What distinguishes options of this type: bounds, units.
    type Rule;

    /// Reads and checks a value. The error completes a sentence whose subject is the key, and contains no secret.
    fn read(raw: &Raw, rule: &Self::Rule) -> Result<Self, String>;

    /// The type and its bounds, for people: `size, 64 bytes to 16 MiB`.
    fn kind(rule: &Self::Rule) -> String;

    /// The value in TOML; `None` for no value.
    fn toml(&self) -> Option<String>;

    /// A form of the value that is easier to read: `64 KiB` for 65536.
    fn gloss(&self, _rule: &Self::Rule) -> Option<String> {
        None
    }
}

/// The complaint about a value of the wrong type or form.
pub(super) fn expected(what: &str, raw: &Raw) -> String {
    format!("expected {what}, got {raw}")
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Setting for bool {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        match raw {
            Raw::Switch(on) => Ok(*on),
            Raw::Word(word) if word == "true" => Ok(true),
            Raw::Word(word) if word == "false" => Ok(false),
            _ => Err(expected("true or false", raw)),
        }
    }

    fn kind((): &()) -> String {
        "true or false".into()
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Bounds of a whole number, and whether it counts bytes.
pub(super) struct Number {
    min: usize,
    max: usize,
    bytes: bool,
}

/// A number of things, from `min` to `max`.
pub(super) const fn count(min: usize, max: usize) -> Number {
    Number { min, max, bytes: false }
}

/// A number of bytes, from `min` to `max`.
pub(super) const fn bytes(min: usize, max: usize) -> Number {
    Number { min, max, bytes: true }
}

/// The units of a size. `KB` is 1,000 bytes and `KiB` is 1,024, as their names say.
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

/// A number of bytes for people: in the largest binary unit that divides it.
pub(super) fn size_text(n: usize) -> String {
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

/// Bounds of a duration in milliseconds.
pub(super) struct Span {
    min: u64,
    max: u64,
}

/// A duration from `min` to `max` milliseconds.
pub(super) const fn millis(min: u64, max: u64) -> Span {
    Span { min, max }
}

/// The units of a duration in milliseconds, longest first.
const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// Milliseconds of `25s`, `250ms`, `1.5s`, `1m30s` (units from the largest to the smallest, each once), or a bare
    /// number of seconds; `None` also if that is no whole number of milliseconds.
    pub(super) fn parse(text: &str) -> Option<u64> {
        let mut total = 0_u64;
        let mut rest = text;
        let mut last = u64::MAX;
        loop {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let tail = tail.trim_start();
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            // A number without a unit stands alone.
            let unit = if unit.is_empty() && last == u64::MAX { "s" } else { unit };
            let factor = DURATIONS.iter().find(|(name, factor)| *name == unit && *factor < last)?.1;
            total = total.checked_add(Self::part(number, factor)?)?;
            if tail.is_empty() {
                return Some(total);
            }
            (rest, last) = (tail, factor);
        }
    }

    /// Milliseconds of a number of units.
    fn part(number: &str, factor: u64) -> Option<u64> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let places = u32::try_from(fraction.len()).ok().filter(|n| *n <= 6)?;
        let parts = fraction.parse::<u64>().ok()? * factor;
        let scale = 10_u64.pow(places);
        let millis = whole.parse::<u64>().ok()?.checked_mul(factor)?;
        parts.is_multiple_of(scale).then(|| millis.checked_add(parts / scale)).flatten()
    }
}

/// A duration as an option writes it, in the longest unit that divides it. Whole milliseconds.
pub(super) fn duration_text(duration: Duration) -> String {
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

/// Longest of a text in bytes.
pub(super) struct Longest(pub(super) usize);

impl Setting for String {
    type Rule = Longest;

    fn read(raw: &Raw, rule: &Longest) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("text", raw))?;
        if text.len() > rule.0 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(expected(
                &format!("at most {} bytes of printable ASCII without spaces", rule.0),
                raw,
            ));
        }
        Ok(text.to_owned())
    }

    fn kind(rule: &Longest) -> String {
        format!("text, at most {} bytes of printable ASCII without spaces", rule.0)
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for Option<PathBuf> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a path", raw))?;
        if text.contains('\0') {
            return Err("a path cannot hold a NUL byte".into());
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn kind((): &()) -> String {
        "path".into()
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(|path| quoted(&path.to_string_lossy()))
    }
}

impl Setting for Secret {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        raw.as_text().map(Self::new).ok_or_else(|| format!("expected text in quotes, got {}", raw.sort()))
    }

    fn kind((): &()) -> String {
        "secret text".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.expose()))
    }
}

impl Setting for Channel {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a channel name", raw))?;
        Self::new(text).map_err(|e| if text.is_empty() { e.to_string() } else { format!("{raw}: {e}") })
    }

    fn kind((): &()) -> String {
        "channel name".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_str()))
    }
}

/// Items with a text form, in a row: a list in a file, text anywhere (see [`items`]). Empty text is an empty list.
impl<T: Setting<Rule = ()>> Setting for Vec<T> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        match raw {
            Raw::List(nodes) => nodes.iter().map(|node| T::read(&node.raw, &())).collect(),
            Raw::Text(text) | Raw::Word(text) => {
                items(text)?.into_iter().map(|item| T::read(&Raw::Word(item), &())).collect()
            }
            _ => Err(expected("a list", raw)),
        }
    }

    fn kind((): &()) -> String {
        format!("list of {}s", T::kind(&()))
    }

    fn toml(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().filter_map(T::toml).collect::<Vec<_>>().join(", ")))
    }
}

/// The items of a list that is written as text: separated by commas, or else by spaces, or a JSON list of texts. None
/// when it is empty. Quotes around the text or an item are not part of it: `docker run --env-file` keeps them.
///
/// # Errors
/// Text in brackets that is no JSON list of texts.
pub(super) fn items(text: &str) -> Result<Vec<String>, String> {
    let text = unquoted(text.trim()).trim();
    if text.starts_with('[') && text.ends_with(']') {
        return serde_json::from_str(text).map_err(|_| {
            "expected a list: items with commas or spaces between them, or a JSON list of texts".into()
        });
    }
    let items: Vec<&str> =
        if text.contains(',') { text.split(',').collect() } else { text.split_whitespace().collect() };
    Ok(items.into_iter().map(|item| unquoted(item.trim()).to_owned()).collect())
}

/// Text without the quotes around it; text with more of the same quotes inside is left as it is.
fn unquoted(text: &str) -> &str {
    let inner = |quote| {
        text.strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
            .filter(|rest| !rest.contains(quote))
    };
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// Gives a type with a few named values its place among the settings.
macro_rules! choice {
    ($Type:ty: $($word:literal => $value:expr),+ $(,)?) => {
        impl $crate::setting::Setting for $Type {
            type Rule = ();

            fn read(raw: &$crate::raw::Raw, (): &()) -> Result<Self, String> {
                match raw.as_text() {
                    $(Some($word) => Ok($value),)+
                    _ => Err($crate::setting::expected(&format!("one of {}", Self::kind(&())), raw)),
                }
            }

            fn kind((): &()) -> String {
                [$(concat!("`", $word, "`")),+].join(", ")
            }

            fn toml(&self) -> Option<String> {
                $(if *self == $value { return Some($crate::setting::quoted($word)); })+
                None
            }
        }
    };
}
pub(super) use choice;

choice! { Escape:
    "auto" => Escape::Auto,
    "always" => Escape::Always,
}

choice! { DataFormat:
    "auto" => DataFormat::Auto,
    "json" => DataFormat::Json,
    "text" => DataFormat::Text,
    "binary" => DataFormat::Binary,
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
    fn a_duration_prints_as_what_reads_back_to_it() {
        for (millis_, text) in
            [(0, "0s"), (250, "250ms"), (25_000, "25s"), (90_000, "90s"), (3_600_000, "1h")]
        {
            let duration = Duration::from_millis(millis_);
            assert_eq!(duration_text(duration), text);
            assert_eq!(Duration::read(&word(text), &millis(0, u64::MAX)), Ok(duration));
        }
    }

    #[test]
    fn a_size_is_a_number_of_bytes_or_has_a_unit_that_says_which() {
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
    fn a_count_takes_no_unit_and_no_quotes() {
        assert_eq!(usize::read(&word("12"), &count(0, 64)), Ok(12));
        assert!(usize::read(&word("12B"), &count(0, 64)).is_err());
        assert!(usize::read(&Raw::Text("12".into()), &count(0, 64)).is_err());
    }

    #[test]
    fn a_bound_belongs_to_its_range_and_what_lies_past_it_does_not() {
        for (text, fits) in [("63", false), ("64", true), ("1024", true), ("1KiB", true), ("1025", false)] {
            assert_eq!(usize::read(&word(text), &bytes(64, 1024)).is_ok(), fits, "{text}");
        }
        let error = usize::read(&word("5"), &bytes(64, 16 << 20)).unwrap_err();
        assert_eq!(error, "expected 64 bytes to 16 MiB, got \"5\"");
        let error = Duration::read(&word("2h"), &millis(10, 60_000)).unwrap_err();
        assert_eq!(error, "expected 10ms to 1m, got \"2h\"");
    }

    #[test]
    fn a_list_is_written_as_one_or_with_commas_and_empty_means_none() {
        let names = |raw: &Raw| -> Vec<String> {
            Vec::<Channel>::read(raw, &()).unwrap().iter().map(|c| c.as_str().to_owned()).collect()
        };
        assert_eq!(names(&word("a, b")), ["a", "b"]);
        assert_eq!(names(&Raw::Text("a".into())), ["a"]);
        assert!(names(&word("")).is_empty());
        assert!(names(&Raw::List(vec![])).is_empty());
        assert!(Vec::<Channel>::read(&word("a,,b"), &()).is_err());
        assert!(Vec::<Channel>::read(&Raw::Switch(true), &()).is_err());
    }

    #[test]
    fn a_list_in_text_has_commas_or_spaces_or_is_json_and_quotes_are_not_part_of_it() {
        for text in [
            "a,b",
            "a, b",
            "a b",
            " a  b ",
            "[\"a\", \"b\"]",
            "'[\"a\", \"b\"]'",
            "\"a,b\"",
            "'a b'",
            "\"a\",\"b\"",
            "\"a\" \"b\"",
        ] {
            assert_eq!(items(text), Ok(vec!["a".to_owned(), "b".to_owned()]), "{text}");
        }
        for text in ["", " ", "\"\"", "[]"] {
            assert_eq!(items(text), Ok(vec![]), "{text:?}");
        }
        assert_eq!(items("[\"a b\"]"), Ok(vec!["a b".to_owned()]));
        assert_eq!(items("[::1]:80"), Ok(vec!["[::1]:80".to_owned()]));
        for text in ["[a, b]", "[1]", "[\"a\"", "[[\"a\"]]"] {
            let wrong = text.ends_with(']');
            assert_eq!(items(text).is_err(), wrong, "{text}");
        }
    }

    #[test]
    fn a_toml_string_escapes_what_would_end_it() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
