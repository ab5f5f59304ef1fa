//! The types of option values: parsing from a file, the environment or a flag, bounds, description and printing.
//!
//! A value with a text form is parsed the same everywhere: `max_line = "64KiB"` in a file equals
//! `TIDINGS_TCP_MAX_LINE=64KiB`, and a list may be written as its comma-separated text.

mod duration;
mod list;
mod number;
mod text;

use tidings_wire::body::DataFormat;
use tidings_wire::plain::Escape;

use crate::raw::Raw;

pub(crate) use duration::{Span, duration_text, millis};
pub(crate) use list::items;
pub(crate) use number::{bytes, count, size_text};
pub(crate) use text::MaxLength;

/// The type of an option.
pub(crate) trait Setting: Sized {
    /// Whether values are secret.
    const IS_SECRET: bool = false;

    /// The parameters of options of this type: bounds, units.
    type Rule;

    /// Parses and checks a value. The error continues a sentence after the key, and contains no secret.
    fn read(raw: &Raw, rule: &Self::Rule) -> Result<Self, String>;

    /// The type and its bounds as text: `size, 64 bytes to 16 MiB`.
    fn kind(rule: &Self::Rule) -> String;

    /// The value in TOML; `None` for no value.
    fn toml(&self) -> Option<String>;

    /// A form of the value that is easier to read: `64 KiB` for 65536.
    fn gloss(&self, _rule: &Self::Rule) -> Option<String> {
        None
    }
}

/// The error for a value of the wrong type or form.
pub(crate) fn expected(what: &str, raw: &Raw) -> String {
    format!("expected {what}, got {raw}")
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
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

/// Implements [`Setting`] for an enum with named values.
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
pub(crate) use choice;

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

    #[test]
    fn a_toml_string_escapes_special_characters() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
