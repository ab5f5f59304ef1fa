//! A publication as a row: a JSON object with the members of the key.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A hash of the cells of a key, with secret keys. Two keys have the same one with a probability that can be neglected.
pub(crate) type KeyHash = u128;

/// The reason why a publication is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotARow {
    /// It is no JSON object.
    NoObject,
    /// It has not all members of the key, or all of them are empty.
    NoKey,
}

/// Hashes keys. Each instance has other secret keys.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher([RandomState; 2]);

impl KeyHasher {
    /// The hash of the cells of a key.
    pub(crate) fn hash<T: AsRef<str>>(&self, cells: &[T]) -> KeyHash {
        let [high, low] = self.0.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            for cell in cells {
                let cell = cell.as_ref().as_bytes();
                hasher.write_usize(cell.len());
                hasher.write(cell);
            }
            u128::from(hasher.finish())
        });
        high << 64 | low
    }
}

/// The cells of the key of a publication, as the table shows them: strings without quotes, numbers as written, `null` empty.
///
/// # Errors
/// [`NotARow`].
pub(crate) fn read_key(body: &[u8], key: &[String]) -> Result<Vec<String>, NotARow> {
    let text = std::str::from_utf8(body).map_err(|_| NotARow::NoObject)?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(NotARow::NoObject);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let cells = reader.deserialize_map(Members(key)).map_err(|_| NotARow::NoObject)?;
    reader.end().map_err(|_| NotARow::NoObject)?;
    let cells = cells.into_iter().collect::<Option<Vec<_>>>().ok_or(NotARow::NoKey)?;
    if cells.iter().all(String::is_empty) { Err(NotARow::NoKey) } else { Ok(cells) }
}

/// Reads the members with these names. Of equal members the last one counts, as in a file of objects.
struct Members<'a>(&'a [String]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Option<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = vec![None; self.0.len()];
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match self.0.iter().position(|column| **column == *name) {
                Some(column) => {
                    let value: &RawValue = map.next_value()?;
                    cells[column] = Some(cell(value).map_err(A::Error::custom)?);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(cells)
    }
}

fn cell(value: &RawValue) -> Result<String, serde_json::Error> {
    match value.get() {
        "null" => Ok(String::new()),
        text if text.starts_with('"') => serde_json::from_str(text),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, key: &[&str]) -> Result<Vec<String>, NotARow> {
        read_key(body.as_bytes(), &key.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_key_of_an_object_is_read_as_its_cells_are_shown() {
        let body = r#" {"a":1.50,"b":[1,{"a":2}],"c":"x\ny","a":2.50,"d":null} "#;
        assert_eq!(read(body, &["c", "a"]), Ok(vec!["x\ny".to_owned(), "2.50".to_owned()]));
        assert_eq!(read(body, &["a", "d"]), Ok(vec!["2.50".to_owned(), String::new()]));
    }

    #[test]
    fn a_publication_without_an_object_or_a_key_is_no_row() {
        for body in ["", "1", "[{}]", "{", "{}{}", "text", "{\"a\":1} x", "{\"a\":\"\n\"}"] {
            assert_eq!(read(body, &["a"]), Err(NotARow::NoObject), "{body}");
        }
        assert_eq!(read_key(b"{\"a\":\"\xff\"}", &["a".to_owned()]), Err(NotARow::NoObject));
        for body in ["{}", r#"{"b":1}"#, r#"{"a":null}"#, r#"{"a":""}"#] {
            assert_eq!(read(body, &["a"]), Err(NotARow::NoKey), "{body}");
        }
        assert_eq!(read(r#"{"a":1}"#, &["a", "b"]), Err(NotARow::NoKey));
    }

    #[test]
    fn keys_with_other_boundaries_have_other_hashes() {
        let hasher = KeyHasher::default();
        assert_eq!(hasher.hash(&["ab", "c"]), hasher.hash(&["ab", "c"]));
        assert_ne!(hasher.hash(&["ab", "c"]), hasher.hash(&["a", "bc"]));
    }
}
