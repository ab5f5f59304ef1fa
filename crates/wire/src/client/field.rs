//! Conversion of messages to fields and back, for every codec.
//!
//! A [`WireMessage`] lists its fields (`schema.rs` is the table of them); a codec is a [`FieldReader`] and a
//! [`FieldWriter`] of single fields. With one description of every message, JSON and Protobuf always have the same
//! fields.

use std::borrow::Cow;
use std::fmt::Display;
use std::mem;

use thiserror::Error;

use super::value::{Data, List, Map};

/// Most entries of one list or map in a received message. Two bytes on the wire become some hundred in memory, and this
/// bounds their number.
const MAX_ENTRIES: usize = 16 * 1024;

/// One field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its number in Protobuf; below 32.
    pub(crate) number: u32,
    /// Its name in JSON.
    pub(crate) name: &'static str,
    /// The name as a JSON key, with quotes and colon.
    pub(crate) key: &'static str,
    /// Whether JSON includes it also with its default value, because SDKs expect it.
    pub(crate) always: bool,
}

/// A field by its number and name; with `always`, JSON shows it also when it is empty. A name of the protocol that differs
/// from that of the struct follows after a colon.
macro_rules! field {
    ($number:literal $name:ident : $wire:ident $($always:ident)?) => {
        $crate::client::field::field!($number $wire $($always)?)
    };
    ($number:literal $name:ident $($always:ident)?) => {
        $crate::client::field::Field {
            number: $number,
            name: stringify!($name),
            key: concat!("\"", stringify!($name), "\":"),
            always: field!(@ $($always)?),
        }
    };
    (@) => { false };
    (@ always) => { true };
}
pub(crate) use field;

impl Field {
    /// The value of a map's entry; its key is written separately.
    pub(crate) const VALUE: Self = Self { number: 2, name: "value", key: "", always: true };
}

/// A type that is written field by field.
pub(crate) trait Fields {
    /// Writes the value of every field.
    fn write<W: FieldWriter>(&self, out: &mut W);
}

/// A type that is also read.
pub(crate) trait WireMessage<'a>: Default + Fields {
    /// All of its fields.
    const FIELDS: &'static [Field];

    /// Reads the value of the field with this number; skips unknown fields.
    fn read<R: FieldReader<'a>>(&mut self, number: u32, value: R) -> Result<(), R::Error>;
}

/// One value to be read. The result borrows from the input where that is possible.
pub(crate) trait FieldReader<'a>: Sized {
    /// The error.
    type Error;

    /// An error with this text.
    fn fail(text: impl Display) -> Self::Error;

    fn boolean(self) -> Result<bool, Self::Error>;
    fn u32(self) -> Result<u32, Self::Error>;
    fn u64(self) -> Result<u64, Self::Error>;
    fn i32(self) -> Result<i32, Self::Error>;
    fn i64(self) -> Result<i64, Self::Error>;
    fn text(self) -> Result<Cow<'a, str>, Self::Error>;
    fn data(self) -> Result<Data<'a>, Self::Error>;
    /// A message, or `None` for an explicit null. Fields that the value does not have keep their value in
    /// `before`.
    fn message<M: WireMessage<'a>>(self, before: M) -> Result<Option<M>, Self::Error>;
    /// Appends one or several messages to `list`.
    fn list<M: WireMessage<'a> + Clone>(self, list: &mut List<'a, M>) -> Result<(), Self::Error>;
    /// Appends one or several texts to `list`.
    fn texts(self, list: &mut List<'a, Cow<'a, str>>) -> Result<(), Self::Error>;
    /// Appends one or several entries to `map`.
    fn map<V: Value<'a> + Clone>(self, map: &mut Map<'a, V>) -> Result<(), Self::Error>;
    /// Skips it.
    fn skip(self) -> Result<(), Self::Error>;
}

/// Destination of fields. A field with its default value is omitted, except with [`Field::always`].
pub(crate) trait FieldWriter {
    fn boolean(&mut self, field: &Field, value: bool);
    fn unsigned(&mut self, field: &Field, value: u64);
    fn signed(&mut self, field: &Field, value: i64);
    fn text(&mut self, field: &Field, value: &str);
    fn data(&mut self, field: &Field, value: &Data<'_>);
    /// Never omitted.
    fn message<M: Fields>(&mut self, field: &Field, value: &M);
    fn list<M: Fields>(&mut self, field: &Field, list: &[M]);
    fn texts(&mut self, field: &Field, list: &[Cow<'_, str>]);
    fn map<'a, K: AsRef<str>, V: Value<'a>>(&mut self, field: &Field, map: &[(K, V)]);
}

/// A type that a field can have.
pub(crate) trait Value<'a>: Default {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error>;
    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W);
}

/// A list or map with more than [`MAX_ENTRIES`] entries.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("more than {MAX_ENTRIES} entries")]
pub(crate) struct TooMany;

/// Appends `entry` to `list`, if there is room for it.
pub(crate) fn push<T: Clone>(list: &mut List<'_, T>, entry: T) -> Result<(), TooMany> {
    if list.len() >= MAX_ENTRIES {
        return Err(TooMany);
    }
    list.push(entry);
    Ok(())
}

/// Numbers; the reader's method has the name of the type.
macro_rules! number {
    ($($type:ident as $write:ident),*) => {$(
        impl<'a> Value<'a> for $type {
            fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
                *self = value.$type()?;
                Ok(())
            }

            fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
                out.$write(field, (*self).into());
            }
        }
    )*};
}

number!(u32 as unsigned, u64 as unsigned, i32 as signed, i64 as signed);

impl<'a> Value<'a> for bool {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        *self = value.boolean()?;
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.boolean(field, *self);
    }
}

impl<'a> Value<'a> for Cow<'a, str> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        *self = value.text()?;
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.text(field, self);
    }
}

impl<'a> Value<'a> for String {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        *self = value.text()?.into_owned();
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.text(field, self);
    }
}

impl<'a> Value<'a> for Data<'a> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        *self = value.data()?;
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.data(field, self);
    }
}

impl<'a> Value<'a> for Option<Data<'a>> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        *self = Some(value.data()?);
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        if let Some(data) = self {
            out.data(field, data);
        }
    }
}

impl<'a, M: WireMessage<'a>> Value<'a> for Option<M> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        if let Some(message) = value.message(self.take().unwrap_or_default())? {
            *self = Some(message);
        }
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        if let Some(message) = self {
            out.message(field, message);
        }
    }
}

impl<'a, M: WireMessage<'a>> Value<'a> for M {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        if let Some(message) = value.message(mem::take(self))? {
            *self = message;
        }
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.message(field, self);
    }
}

impl<'a, M: WireMessage<'a> + Clone> Value<'a> for List<'a, M> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        value.list(self)
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.list(field, self);
    }
}

impl<'a> Value<'a> for List<'a, Cow<'a, str>> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        value.texts(self)
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.texts(field, self);
    }
}

impl<'a, V: Value<'a> + Clone> Value<'a> for Map<'a, V> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        value.map(self)
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        out.map(field, self);
    }
}
