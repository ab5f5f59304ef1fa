//! Encoding of Protobuf messages. Lengths are computed first, so that no written bytes are moved.

use std::borrow::Cow;

use crate::client::field::{Field, FieldWriter, Fields, Value};
use crate::client::value::Data;
use crate::varint;

/// Bytes that a message takes.
fn len<M: Fields>(message: &M) -> usize {
    let mut length = Length(0);
    message.write(&mut length);
    length.0
}

/// Appends a message with its length before it.
pub(crate) fn write_delimited<M: Fields>(message: &M, out: &mut Vec<u8>) {
    let length = len(message);
    out.reserve(delimited(length));
    varint::write(length as u64, out);
    message.write(&mut Bytes(out));
}

/// Bytes of a length-delimited value of this length.
const fn delimited(length: usize) -> usize {
    varint::len(length as u64) + length
}

/// The bytes of a field's key. Numbers below 16 take one byte, all of the protocol's below 32 two.
const fn key_len(field: &Field) -> usize {
    varint::len((field.number as u64) << 3)
}

/// Bytes that a map's entry takes: a message with the key as field 1 and the value as field 2.
fn entry_len<'a, V: Value<'a>>(key: &str, value: &V) -> usize {
    let mut length = Length(0);
    length.text(&KEY, key);
    value.write(&Field::VALUE, &mut length);
    length.0
}

const KEY: Field = Field { number: 1, name: "key", key: "", always: false };

/// Counts what would be written.
struct Length(usize);

impl Length {
    fn bytes(&mut self, field: &Field, length: usize) {
        self.0 += key_len(field) + delimited(length);
    }
}

impl FieldWriter for Length {
    fn boolean(&mut self, field: &Field, value: bool) {
        self.unsigned(field, value.into());
    }

    fn unsigned(&mut self, field: &Field, value: u64) {
        if value != 0 {
            self.0 += key_len(field) + varint::len(value);
        }
    }

    fn signed(&mut self, field: &Field, value: i64) {
        self.unsigned(field, value as u64);
    }

    fn text(&mut self, field: &Field, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.len());
        }
    }

    fn data(&mut self, field: &Field, value: &Data<'_>) {
        if !value.bytes.is_empty() {
            self.bytes(field, value.bytes.len());
        }
    }

    fn message<M: Fields>(&mut self, field: &Field, value: &M) {
        self.bytes(field, len(value));
    }

    fn list<M: Fields>(&mut self, field: &Field, list: &[M]) {
        for message in list {
            self.message(field, message);
        }
    }

    fn texts(&mut self, field: &Field, list: &[Cow<'_, str>]) {
        for text in list {
            self.bytes(field, text.len());
        }
    }

    fn map<'a, K: AsRef<str>, V: Value<'a>>(&mut self, field: &Field, map: &[(K, V)]) {
        for (key, value) in map {
            self.bytes(field, entry_len(key.as_ref(), value));
        }
    }
}

/// Writes fields.
struct Bytes<'o>(&'o mut Vec<u8>);

impl Bytes<'_> {
    fn varint(&mut self, field: &Field, value: u64) {
        varint::write(u64::from(field.number) << 3, self.0);
        varint::write(value, self.0);
    }

    /// The key of a field of that many bytes, and their length.
    fn length(&mut self, field: &Field, length: usize) {
        varint::write(u64::from(field.number) << 3 | 2, self.0);
        varint::write(length as u64, self.0);
    }
}

impl FieldWriter for Bytes<'_> {
    fn boolean(&mut self, field: &Field, value: bool) {
        self.unsigned(field, value.into());
    }

    fn unsigned(&mut self, field: &Field, value: u64) {
        if value != 0 {
            self.varint(field, value);
        }
    }

    fn signed(&mut self, field: &Field, value: i64) {
        // Below 0 it takes all ten bytes, also where the type is a small one.
        self.unsigned(field, value as u64);
    }

    fn text(&mut self, field: &Field, value: &str) {
        if !value.is_empty() {
            self.length(field, value.len());
            self.0.extend_from_slice(value.as_bytes());
        }
    }

    fn data(&mut self, field: &Field, value: &Data<'_>) {
        if !value.bytes.is_empty() {
            self.length(field, value.bytes.len());
            self.0.extend_from_slice(&value.bytes);
        }
    }

    fn message<M: Fields>(&mut self, field: &Field, value: &M) {
        self.length(field, len(value));
        value.write(self);
    }

    fn list<M: Fields>(&mut self, field: &Field, list: &[M]) {
        for message in list {
            self.message(field, message);
        }
    }

    fn texts(&mut self, field: &Field, list: &[Cow<'_, str>]) {
        // An empty text is an entry of its own.
        for text in list {
            self.length(field, text.len());
            self.0.extend_from_slice(text.as_bytes());
        }
    }

    fn map<'a, K: AsRef<str>, V: Value<'a>>(&mut self, field: &Field, map: &[(K, V)]) {
        for (key, value) in map {
            self.length(field, entry_len(key.as_ref(), value));
            self.text(&KEY, key.as_ref());
            value.write(&Field::VALUE, self);
        }
    }
}
