//! Decoding of JSON messages with serde, directly into the protocol's types.
//!
//! As in the JSON form of Protobuf messages, `null` means that a member is absent (except in data of applications,
//! where it is a value), and unknown members are skipped.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::client::field::{self, FieldReader, Value, WireMessage};
use crate::client::value::{Data, List, Map};

/// Reads one JSON object, with nothing but white space around it, into `message`. After an error, `message` has the
/// members before the error.
pub(crate) fn read<'a, M: WireMessage<'a>>(text: &'a [u8], message: &mut M) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    let mut json = serde_json::Deserializer::from_str(text);
    ObjectVisitor { message, required: true }.deserialize(&mut json).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())
}

/// Reads a string literal.
pub(crate) fn read_string(text: &[u8]) -> Result<Cow<'_, str>, String> {
    serde_json::from_slice::<Text<'_>>(text).map(|text| text.0).map_err(|error| error.to_string())
}

/// Whether the JSON object in `text` has no members.
pub(crate) fn is_empty(text: &[u8]) -> bool {
    let mut rest = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    rest.next() == Some(&b'{') && rest.next() == Some(&b'}')
}

/// Reads an object into a message; returns whether there was one. Rejects an array, which serde would otherwise accept
/// for an object's members in order.
struct ObjectVisitor<'m, M> {
    message: &'m mut M,
    /// Whether null is refused.
    required: bool,
}

impl<'de, M: WireMessage<'de>> DeserializeSeed<'de> for ObjectVisitor<'_, M> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, M: WireMessage<'de>> Visitor<'de> for ObjectVisitor<'_, M> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        // One bit a field.
        let mut seen = 0_u32;
        while let Some(Text(key)) = map.next_key()? {
            let Some(field) = M::FIELDS.iter().find(|field| field.name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.message.read(field.number, Member(&mut map))?;
            let bit = 1 << field.number;
            if seen & bit != 0 {
                return Err(A::Error::duplicate_field(field.name));
            }
            seen |= bit;
        }
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        if self.required { Err(E::invalid_type(Unexpected::Unit, &self)) } else { Ok(false) }
    }
}

/// The value of a member, after its key.
struct Member<'m, A>(&'m mut A);

impl<'de, A: MapAccess<'de>> FieldReader<'de> for Member<'_, A> {
    type Error = A::Error;

    fn fail(words: impl Display) -> A::Error {
        A::Error::custom(words)
    }

    fn boolean(self) -> Result<bool, A::Error> {
        self.0.next_value::<Option<bool>>().map(Option::unwrap_or_default)
    }

    fn u32(self) -> Result<u32, A::Error> {
        self.0.next_value::<Option<u32>>().map(Option::unwrap_or_default)
    }

    fn u64(self) -> Result<u64, A::Error> {
        self.0.next_value::<Option<u64>>().map(Option::unwrap_or_default)
    }

    fn i32(self) -> Result<i32, A::Error> {
        self.0.next_value::<Option<i32>>().map(Option::unwrap_or_default)
    }

    fn i64(self) -> Result<i64, A::Error> {
        self.0.next_value::<Option<i64>>().map(Option::unwrap_or_default)
    }

    fn text(self) -> Result<Cow<'de, str>, A::Error> {
        self.0.next_value::<Text<'de>>().map(|text| text.0)
    }

    fn data(self) -> Result<Data<'de>, A::Error> {
        self.0.next_value::<&'de RawValue>().map(|raw| raw.get().into())
    }

    fn message<M: WireMessage<'de>>(self, before: M) -> Result<Option<M>, A::Error> {
        let mut message = before;
        let present = self.0.next_value_seed(ObjectVisitor { message: &mut message, required: false })?;
        Ok(present.then_some(message))
    }

    fn list<M: WireMessage<'de> + Clone>(self, list: &mut List<'de, M>) -> Result<(), A::Error> {
        self.0.next_value_seed(Array(list))
    }

    fn texts(self, list: &mut List<'de, Cow<'de, str>>) -> Result<(), A::Error> {
        self.0.next_value_seed(Texts(list))
    }

    fn map<V: Value<'de> + Clone>(self, map: &mut Map<'de, V>) -> Result<(), A::Error> {
        self.0.next_value_seed(Entries(map))
    }

    fn skip(self) -> Result<(), A::Error> {
        self.0.next_value::<IgnoredAny>().map(|_| ())
    }
}

/// Reads an array of objects, or null.
struct Array<'l, 'a, M>(&'l mut List<'a, M>);

impl<'de, M: WireMessage<'de> + Clone> DeserializeSeed<'de> for Array<'_, 'de, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, M: WireMessage<'de> + Clone> Visitor<'de> for Array<'_, 'de, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let mut message = M::default();
            if seq.next_element_seed(ObjectVisitor { message: &mut message, required: true })?.is_none() {
                return Ok(());
            }
            field::push(self.0, message).map_err(A::Error::custom)?;
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads an array of strings, or null.
struct Texts<'l, 'a>(&'l mut List<'a, Cow<'a, str>>);

impl<'de> DeserializeSeed<'de> for Texts<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Text(text)) = seq.next_element()? {
            field::push(self.0, text).map_err(A::Error::custom)?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads an object with names as keys, or null.
struct Entries<'l, 'a, V>(&'l mut Map<'a, V>);

impl<'de, V: Value<'de> + Clone> DeserializeSeed<'de> for Entries<'_, 'de, V> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, V: Value<'de> + Clone> Visitor<'de> for Entries<'_, 'de, V> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let mut value = V::default();
            value.read(Member(&mut map))?;
            field::push(self.0, (key, value)).map_err(A::Error::custom)?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Text, borrowed where it holds no escapes; null is empty.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
}
