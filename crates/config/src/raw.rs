//! A value before its type is known: its text in a file, the environment or a flag, and the place.

use std::fmt;

/// Longest piece of a wrong value that an error repeats, in characters.
const MAX_SHOWN: usize = 60;

/// One value as its source wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// `null`, or a YAML key without a value: the same as an absent key.
    Null,
    /// `true` or `false`.
    Switch(bool),
    /// A number, in decimal digits as written, so that nothing is rounded before its type is known.
    Number(String),
    /// A quoted string, or YAML that is no other scalar.
    Text(String),
    /// Text without a type of its own, from the environment or a flag: the option's type decides how it is read.
    Word(String),
    /// An array.
    List(Vec<Node>),
    /// A table (object, mapping), in the order of the file. Keys may repeat; [`super::source`] refuses that.
    Table(Vec<(String, Node)>),
}

/// A value and the line of its file, counted from 1 (for an entry of a table, the line of its key).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) raw: Raw,
}

impl Raw {
    /// The text of a string or of an untyped word.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            _ => None,
        }
    }

    /// What sort of value this is, without its content: for secrets.
    pub(super) fn sort(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Switch(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) | Self::Word(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// The value as an error repeats it: on one line and short.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => write!(f, "{on}"),
            Self::Number(digits) => f.write_str(&shown(digits)),
            Self::Word(text) if text.is_empty() => f.write_str("nothing"),
            Self::Text(text) | Self::Word(text) => write!(f, "\"{}\"", shown(text)),
            Self::Null | Self::List(_) | Self::Table(_) => f.write_str(self.sort()),
        }
    }
}

/// `text` cut to a length that fits into one line of an error, control characters escaped.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        out.push('…');
    }
    out
}
