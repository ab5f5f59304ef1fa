//! Cursors: the last key of a page, and with it its score in an ordered map.

use std::sync::Arc;

/// Where the next page begins: after this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Of an unordered map.
    Key(Arc<str>),
    /// Of an ordered map.
    Score(i64, Arc<str>),
}

impl Cursor {
    /// The text that a client passes back: `k` and the key, or `s`, the score, a colon and the key.
    pub fn text(&self) -> String {
        match self {
            Self::Key(key) => format!("k{key}"),
            Self::Score(score, key) => format!("s{score}:{key}"),
        }
    }

    /// Reads a text; `None` if it is not a cursor.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(key) = text.strip_prefix('k') {
            return Some(Self::Key(key.into()));
        }
        let (score, key) = text.strip_prefix('s')?.split_once(':')?;
        Some(Self::Score(score.parse().ok()?, key.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for cursor in [Cursor::Key("a:b".into()), Cursor::Score(-5, "k:1".into()), Cursor::Key("".into())] {
            assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }
        for text in ["", "x", "s", "s1", "sx:k"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
