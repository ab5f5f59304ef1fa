//! Decoding of Protobuf messages, with their fields in any order.
//!
//! As Protobuf specifies, an unknown field is skipped, of several values the last one counts (of several messages all
//! fields), and numbers are cut to the size of their type. Groups, which the protocol never had, are refused.

use std::borrow::Cow;
use std::fmt::Display;

use crate::client::field::{self, FieldReader, Value, WireMessage};
use crate::client::value::{Data, List, Map};
use crate::varint::{self, Read};

/// Decodes `bytes` into `message`. After an error, `message` has the fields before the error.
pub(crate) fn read<'a, M: WireMessage<'a>>(mut bytes: &'a [u8], message: &mut M) -> Result<(), String> {
    while !bytes.is_empty() {
        let (number, value) = next_field(&mut bytes)?;
        message.read(number, value)?;
    }
    Ok(())
}

/// One value, by its wire type (the encoding guide, "Message Structure").
#[derive(Clone, Copy)]
enum Wire<'a> {
    /// 0: numbers and booleans.
    Varint(u64),
    /// 1 and 5: of eight or four bytes; no field here has them.
    Fixed,
    /// 2: texts, bytes and messages.
    Bytes(&'a [u8]),
}

/// Takes a field off the front of `bytes`, which are not empty.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Wire<'a>), String> {
    let key = next_varint(bytes)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| format!("field number {}", key >> 3))?;
    let value = match key & 7 {
        0 => Wire::Varint(next_varint(bytes)?),
        1 => next_fixed(bytes, 8)?,
        2 => {
            let length = next_varint(bytes)?;
            Wire::Bytes(next_bytes(bytes, length)?)
        }
        5 => next_fixed(bytes, 4)?,
        other => return Err(format!("field {number} has the wire type {other}")),
    };
    Ok((number, value))
}

fn next_varint(bytes: &mut &[u8]) -> Result<u64, String> {
    match varint::read(bytes) {
        Read::Number(number, used) => {
            *bytes = &bytes[used..];
            Ok(number)
        }
        Read::Partial => Err("it ends in a number".to_owned()),
        Read::Invalid => Err("a number of more than 64 bits".to_owned()),
    }
}

fn next_bytes<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let taken = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (taken, rest) = taken.ok_or_else(|| format!("it ends in a field of {length} bytes"))?;
    *bytes = rest;
    Ok(taken)
}

fn next_fixed<'a>(bytes: &mut &'a [u8], width: usize) -> Result<Wire<'a>, String> {
    *bytes = bytes.get(width..).ok_or_else(|| format!("it ends in a fixed field of {width} bytes"))?;
    Ok(Wire::Fixed)
}

impl<'a> Wire<'a> {
    fn varint(self) -> Result<u64, String> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err("expected a number".to_owned()),
        }
    }

    fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("expected bytes".to_owned()),
        }
    }
}

impl<'a> FieldReader<'a> for Wire<'a> {
    type Error = String;

    fn fail(words: impl Display) -> String {
        words.to_string()
    }

    fn boolean(self) -> Result<bool, String> {
        self.varint().map(|number| number != 0)
    }

    fn u32(self) -> Result<u32, String> {
        self.varint().map(|number| number as u32)
    }

    fn u64(self) -> Result<u64, String> {
        self.varint()
    }

    fn i32(self) -> Result<i32, String> {
        self.varint().map(|number| number as i32)
    }

    fn i64(self) -> Result<i64, String> {
        self.varint().map(|number| number as i64)
    }

    fn text(self) -> Result<Cow<'a, str>, String> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| "a string that is not UTF-8".to_owned())?;
        Ok(Cow::Borrowed(text))
    }

    fn data(self) -> Result<Data<'a>, String> {
        self.bytes().map(Data::from)
    }

    fn message<M: WireMessage<'a>>(self, before: M) -> Result<Option<M>, String> {
        let mut message = before;
        read(self.bytes()?, &mut message)?;
        Ok(Some(message))
    }

    fn list<M: WireMessage<'a> + Clone>(self, list: &mut List<'a, M>) -> Result<(), String> {
        let mut message = M::default();
        read(self.bytes()?, &mut message)?;
        field::push(list, message).map_err(|error| error.to_string())
    }

    fn texts(self, list: &mut List<'a, Cow<'a, str>>) -> Result<(), String> {
        let text = self.text()?;
        field::push(list, text).map_err(|error| error.to_string())
    }

    fn map<V: Value<'a> + Clone>(self, map: &mut Map<'a, V>) -> Result<(), String> {
        // An entry is a message with the key as field 1 and the value as field 2.
        let Self::Bytes(mut bytes) = self else {
            return Err("expected an entry of a map".to_owned());
        };
        let (mut key, mut value) = (Cow::default(), V::default());
        while !bytes.is_empty() {
            match next_field(&mut bytes)? {
                (1, wire) => key = wire.text()?,
                (2, wire) => value.read(wire)?,
                _ => {}
            }
        }
        field::push(map, (key, value)).map_err(|error| error.to_string())
    }

    fn skip(self) -> Result<(), String> {
        Ok(())
    }
}
