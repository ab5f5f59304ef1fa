//! A value before its type is determined: its text in a file, the environment or a flag, and the place.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The longest piece of an invalid value that an error repeats, in characters.
const MAX_SHOWN: usize = 60;

/// One value as it is written in its source.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// `null`, or a YAML key without a value: the same as an absent key.
    Null,
    /// `true` or `false`.
    Switch(bool),
    /// A number, in decimal digits as written, so that nothing is rounded before its type is determined.
    Number(String),
    /// A quoted string, or a YAML scalar of no other type.
    Text(String),
    /// Text without a type, from the environment or a flag: the option's type determines how it is parsed.
    Word(String),
    /// An array.
    List(Vec<Node>),
    /// A table (object, mapping), in the order of the file. Keys may repeat; `config` refuses that.
    Table(Vec<(String, Node)>),
}

/// A value and its line in the file, counted from 1 (for an entry of a table, the line of its key).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line, counted from 1.
    pub line: usize,
    /// The value.
    pub raw: Raw,
}

impl Raw {
    /// The text of a string or of an untyped word.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            _ => None,
        }
    }

    /// The sort of value, without its content: for secrets.
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Switch(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) | Self::Word(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The value as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Switch(on) => Value::Bool(*on),
            Self::Number(digits) => serde_json::from_str(digits).unwrap_or(Value::Null),
            Self::Text(text) | Self::Word(text) => Value::String(text.clone()),
            Self::List(nodes) => nodes.iter().map(|node| node.raw.to_json()).collect(),
            Self::Table(entries) => entries
                .iter()
                .map(|(name, node)| (name.clone(), node.raw.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// The items of a list of tables in a file, or of its JSON in text; empty text is an empty list.
    ///
    /// # Errors
    /// What the value is instead of a list such as `example`.
    pub fn to_list_of_tables<T: DeserializeOwned>(&self, example: &str) -> Result<Vec<T>, String> {
        let wrong = |what: String| format!("expected a list such as {example}, got {what}");
        match self {
            Self::Text(text) | Self::Word(text) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Text(text) | Self::Word(text) => {
                serde_json::from_str(text).map_err(|error| wrong(format!("other text ({error})")))
            }
            Self::List(_) => serde_json::from_value(self.to_json())
                .map_err(|error| wrong(format!("another list ({error})"))),
            other => Err(wrong(other.sort().to_owned())),
        }
    }
}

/// The value in the form of errors: on one line and short.
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

/// `text` truncated to a length that fits into one line of an error, with escaped control characters.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        out.push('…');
    }
    out
}
