//! Rows and keys from JSON. The text of numbers and booleans is their JSON (`1.50` stays `1.50`), null is an empty cell.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Cells, Content};
use crate::failure::Failure;

/// The form of the elements of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Unknown,
    Arrays,
    Objects,
    /// Arrays, or single cells.
    Keys,
}

/// Rows from an array of arrays, or of objects.
///
/// # Errors
/// 400 for any other JSON.
pub(super) fn rows(body: &[u8]) -> Result<Content, Failure> {
    let (cells, form) = read(body, Form::Unknown, "an array of arrays or objects of cells")?;
    Ok(if form == Form::Objects { Content::Objects(cells) } else { Content::Cells(cells) })
}

/// Keys from an array of cells or of arrays.
///
/// # Errors
/// 400 for any other JSON.
pub(super) fn keys(body: &[u8]) -> Result<Content, Failure> {
    Ok(Content::Keys(read(body, Form::Keys, "an array of keys")?.0))
}

fn read(body: &[u8], form: Form, what: &str) -> Result<(Cells, Form), Failure> {
    let (mut cells, mut form) = (Cells::default(), form);
    let mut json = serde_json::Deserializer::from_slice(body);
    let table = InTable { cells: &mut cells, form: &mut form };
    let read = table.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| Failure::bad(format!("expected a JSON array, {what}: {error}")))?;
    Ok((cells, form))
}

/// Reads the outer array.
struct InTable<'a> {
    cells: &'a mut Cells,
    form: &'a mut Form,
}

/// Reads one row.
struct InRow<'a>(&'a mut Cells);

impl<'de> DeserializeSeed<'de> for InTable<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InTable<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let Self { cells, form } = self;
        while let Some(row) = rows.next_element::<&RawValue>()? {
            let found = match row.get().as_bytes().first() {
                Some(b'[') if *form == Form::Keys => Form::Keys,
                Some(b'[') => Form::Arrays,
                Some(b'{') => Form::Objects,
                _ => Form::Keys,
            };
            match *form {
                Form::Unknown if found != Form::Keys => *form = found,
                form if form == found => {}
                Form::Objects | Form::Arrays if found != Form::Keys => {
                    return Err(A::Error::custom("rows are either arrays or objects"));
                }
                Form::Keys => return Err(A::Error::custom("a key is a cell, or an array of cells")),
                _ => return Err(A::Error::custom("a row is an array or an object of cells")),
            }
            if matches!(row.get().as_bytes().first(), Some(b'[' | b'{')) {
                let mut json = serde_json::Deserializer::from_str(row.get());
                json.deserialize_any(InRow(cells)).map_err(A::Error::custom)?;
            } else {
                push(cells, row)?;
            }
            cells.end_row();
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for InRow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row of cells")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        while let Some(cell) = row.next_element::<&RawValue>()? {
            push(self.0, cell)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        while let Some((name, cell)) = row.next_entry::<Name<'de>, &RawValue>()? {
            self.0.push(&name.0);
            push(self.0, cell)?;
        }
        Ok(())
    }
}

/// The name of a column, borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn push<E: serde::de::Error>(cells: &mut Cells, cell: &RawValue) -> Result<(), E> {
    match (cell.get(), cell.get().as_bytes().first()) {
        (text, Some(b'"')) if !text.contains('\\') => cells.push(&text[1..text.len() - 1]),
        (text, Some(b'"')) => {
            let text: String = serde_json::from_str(text).map_err(E::custom)?;
            cells.push(&text);
        }
        (_, Some(b'[' | b'{')) => return Err(E::custom("a cell must be text, a number, a boolean or null")),
        ("null", _) => cells.push(""),
        (text, _) => cells.push(text),
    }
    Ok(())
}
