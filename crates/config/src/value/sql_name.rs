//! Names of tables and channels in SQL.

use std::fmt;

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// The longest name in bytes (PostgreSQL, `NAMEDATALEN`), for each part.
const MAX_PART: usize = 63;

/// A name that is an identifier of SQL without quotes, or two of them with a dot; may be empty. Its form makes it safe within a
/// statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqlName(String);

impl SqlName {
    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parse(text: &str) -> Option<Self> {
        let is_part = |part: &str| {
            let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            (1..=MAX_PART).contains(&part.len())
                && part.bytes().all(letter)
                && !part.starts_with(|c: char| c.is_ascii_digit())
        };
        let is_name = text.is_empty() || (text.split('.').count() <= 2 && text.split('.').all(is_part));
        is_name.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for SqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for SqlName {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let what = "a name of letters, digits and `_`, which may follow the name of a schema and a dot";
        raw.as_text().and_then(Self::parse).ok_or_else(|| expected(what, raw))
    }

    fn kind((): &()) -> String {
        "name in SQL".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_statement() {
        for name in ["", "outbox", "public.Outbox_2", "_x"] {
            assert_eq!(SqlName::parse(name).map(|name| name.to_string()).as_deref(), Some(name));
        }
        let long = "x".repeat(64);
        for name in ["a b", "a;b", "a\"b", "a--b", "a.b.c", ".a", "a.", "2a", "naïve", &long] {
            assert_eq!(SqlName::parse(name), None, "{name}");
        }
    }
}
